"""From checked rows to splits, for every recipe: an optional judge, then the splits and what was rejected."""


rule request_judgements:
    input:
        rows="<results>/{dataset}/checked/kept.parquet",
        prompt=prompt_of("judge"),
    output:
        requests="<results>/{dataset}/judge/requests/{shard}.parquet",
    log:
        "<logs>/request_judgements/{dataset}/{shard}.log",
    group:
        "{dataset}-judge-requests"
    conda:
        "../envs/data.yaml"
    params:
        program=running("request_judgements.py"),
        code=code("request_judgements.py"),
        verdicts=dataset_config("filter", "judge", "verdicts"),
        prompt_text=text(prompt_of("judge")),
        prompt=copies("prompt"),
    shell:
        "python {params.program}"
        " --rows {input.rows}"
        " --shard {wildcards.shard}"
        " --prompt {params.prompt:q}"
        " --verdicts {params.verdicts:q}"
        " --requests {output.requests}"
        " 2>&1 | tee {log}"


rule apply_verdicts:
    input:
        step_tables("judge", ["completions"]),
        rows="<results>/{dataset}/checked/kept.parquet",
    output:
        kept="<results>/{dataset}/judged/kept.parquet",
        rejected="<results>/{dataset}/judged/rejected.parquet",
        account="<results>/{dataset}/judged.account.json",
    log:
        "<logs>/apply_verdicts/{dataset}.log",
    group:
        "{dataset}-release"
    conda:
        "../envs/data.yaml"
    params:
        program=running("apply_verdicts.py"),
        code=code("apply_verdicts.py"),
        step=lambda wildcards: f"{dataset_folder(wildcards)}/judge",
        shards=dataset_config("filter", "judge", "shards"),
        accept=dataset_config("filter", "judge", "accept"),
    shell:
        "python {params.program}"
        " --rows {input.rows}"
        " --step {params.step}"
        " --shards {params.shards}"
        " --accept {params.accept:q}"
        " --kept {output.kept}"
        " --rejected {output.rejected}"
        " --account {output.account}"
        " 2>&1 | tee {log}"


rule write_split:
    input:
        rows=last_filter("kept"),
    output:
        rows="<results>/{dataset}/filtered/{split}.parquet",
    log:
        "<logs>/write_split/{dataset}/{split}.log",
    group:
        "{dataset}-release"
    conda:
        "../envs/data.yaml"
    params:
        program=running("write_split.py"),
        code=code("write_split.py"),
        splits=lambda wildcards: json.dumps(CONFIG["datasets"][wildcards.dataset]["splits"], sort_keys=True),
    shell:
        "python {params.program}"
        " --rows {input.rows}"
        " --splits {params.splits:q}"
        " --split {wildcards.split}"
        " --output {output.rows}"
        " 2>&1 | tee {log}"


rule merge_rejected:
    input:
        all_filters("rejected"),
    output:
        rows="<results>/{dataset}/filtered/rejected.parquet",
    log:
        "<logs>/merge_rejected/{dataset}.log",
    group:
        "{dataset}-release"
    conda:
        "../envs/data.yaml"
    params:
        program=running("merge_rejected.py"),
        code=code("merge_rejected.py"),
    shell:
        "python {params.program}" " --rejected {input}" " --output {output.rows}" " 2>&1 | tee {log}"
