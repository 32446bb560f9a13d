"""From selected rows to splits, for every recipe: filters in their order, then the splits and what was rejected."""


rule deduplicate:
    input:
        rows=kept_before("deduplicated"),
    output:
        kept="<results>/{dataset}/deduplicated/kept.parquet",
        rejected="<results>/{dataset}/deduplicated/rejected.parquet",
        account="<results>/{dataset}/deduplicated.account.json",
    log:
        "<logs>/deduplicate/{dataset}.log",
    benchmark:
        "<benchmarks>/deduplicate/{dataset}.tsv"
    group:
        "{dataset}-selection"
    conda:
        "../envs/data.yaml"
    params:
        program=running("deduplicate.py"),
        code=code("deduplicate.py"),
        recipe=recipe_of,
        how=deduplicate_flags,
    shell:
        "python {params.program}"
        " --rows {input.rows}"
        " --recipe {params.recipe}"
        " {params.how}"
        " --stage deduplicate"
        " --kept {output.kept}"
        " --rejected {output.rejected}"
        " --account {output.account}"
        " 2>&1 | tee {log}"


rule drop_neighbours:
    input:
        rows=kept_before("apart"),
        model=neighbours_receipt,
    output:
        kept="<results>/{dataset}/apart/kept.parquet",
        rejected="<results>/{dataset}/apart/rejected.parquet",
        account="<results>/{dataset}/apart.account.json",
    log:
        "<logs>/drop_neighbours/{dataset}.log",
    benchmark:
        "<benchmarks>/drop_neighbours/{dataset}.tsv"
    conda:
        neighbours_environment
    resources:
        **placed_model(neighbours_model),
    params:
        program=running("drop_neighbours.py"),
        code=code("drop_neighbours.py"),
        recipe=recipe_of,
        how=neighbours_flags,
        device=neighbours_device,
    shell:
        "HF_HUB_OFFLINE=1"
        " python {params.program}"
        " --rows {input.rows}"
        " --recipe {params.recipe}"
        " --model {input.model}"
        " {params.how}"
        " {params.device}"
        " --stage neighbours"
        " --kept {output.kept}"
        " --rejected {output.rejected}"
        " --account {output.account}"
        " 2>&1 | tee {log}"


rule decontaminate:
    input:
        rows=kept_before("decontaminated"),
        benchmarks=filter_config("decontaminate", "benchmarks"),
    output:
        kept="<results>/{dataset}/decontaminated/kept.parquet",
        rejected="<results>/{dataset}/decontaminated/rejected.parquet",
        matches="<results>/{dataset}/decontaminated/matches.json",
        account="<results>/{dataset}/decontaminated.account.json",
    log:
        "<logs>/decontaminate/{dataset}.log",
    benchmark:
        "<benchmarks>/decontaminate/{dataset}.tsv"
    group:
        group_of_filters
    conda:
        "../envs/data.yaml"
    params:
        program=running("decontaminate.py"),
        code=code("decontaminate.py"),
        recipe=recipe_of,
        how=decontaminate_flags,
    shell:
        "python {params.program}"
        " --rows {input.rows}"
        " --recipe {params.recipe}"
        " --benchmarks {input.benchmarks:q}"
        " {params.how}"
        " --stage decontaminate"
        " --kept {output.kept}"
        " --rejected {output.rejected}"
        " --report {output.matches}"
        " --account {output.account}"
        " 2>&1 | tee {log}"


rule filter_unsafe:
    input:
        rows=kept_before("safe"),
        samples=safety_samples,
    output:
        kept="<results>/{dataset}/safe/kept.parquet",
        rejected="<results>/{dataset}/safe/rejected.parquet",
        account="<results>/{dataset}/safe.account.json",
    log:
        "<logs>/filter_unsafe/{dataset}.log",
    benchmark:
        "<benchmarks>/filter_unsafe/{dataset}.tsv"
    group:
        group_of_filters
    conda:
        "../envs/data.yaml"
    params:
        program=running("filter_unsafe.py"),
        code=code("filter_unsafe.py"),
        recipe=recipe_of,
        how=safety_flags,
    shell:
        "python {params.program}"
        " --rows {input.rows}"
        " --samples {input.samples:q}"
        " --recipe {params.recipe}"
        " {params.how}"
        " --stage filter_unsafe"
        " --kept {output.kept}"
        " --rejected {output.rejected}"
        " --account {output.account}"
        " 2>&1 | tee {log}"


rule request_judgements:
    input:
        rows=kept_before("judged"),
        prompt=prompt_of("filter-judge"),
    output:
        requests="<results>/{dataset}/filter-judge/requests/{shard}.parquet",
    log:
        "<logs>/request_judgements/{dataset}/{shard}.log",
    group:
        "{dataset}-filter-judge-requests"
    conda:
        "../envs/data.yaml"
    params:
        program=running("request_judgements.py"),
        code=code("request_judgements.py"),
        recipe=recipe_of,
        verdicts=dataset_config("filter", "judge", "verdicts"),
        votes=dataset_config("filter", "judge", "votes"),
        temperature=dataset_config("filter", "judge", "temperature"),
        prompt_text=text(prompt_of("filter-judge")),
        prompt=copies("prompt"),
    shell:
        "python {params.program}"
        " --rows {input.rows}"
        " --recipe {params.recipe}"
        " --shard {wildcards.shard}"
        " --prompt {params.prompt:q}"
        " --verdicts {params.verdicts:q}"
        " --votes {params.votes}"
        " --temperature {params.temperature}"
        " --requests {output.requests}"
        " 2>&1 | tee {log}"


rule apply_verdicts:
    input:
        step_tables("filter-judge", ["completions"]),
        rows=kept_before("judged"),
    output:
        kept="<results>/{dataset}/judged/kept.parquet",
        rejected="<results>/{dataset}/judged/rejected.parquet",
        account="<results>/{dataset}/judged.account.json",
    log:
        "<logs>/apply_verdicts/{dataset}.log",
    group:
        group_of_what_passes
    conda:
        "../envs/data.yaml"
    params:
        program=running("apply_verdicts.py"),
        code=code("apply_verdicts.py"),
        recipe=recipe_of,
        step=lambda wildcards: f"{dataset_folder(wildcards)}/filter-judge",
        shards=dataset_config("filter", "judge", "shards"),
        accept=dataset_config("filter", "judge", "accept"),
    shell:
        "python {params.program}"
        " --rows {input.rows}"
        " --recipe {params.recipe}"
        " --step {params.step}"
        " --shards {params.shards}"
        " --accept {params.accept:q}"
        " --kept {output.kept}"
        " --rejected {output.rejected}"
        " --account {output.account}"
        " 2>&1 | tee {log}"


rule keep_best:
    input:
        rows=kept_before("best"),
    output:
        kept="<results>/{dataset}/best/kept.parquet",
        rejected="<results>/{dataset}/best/rejected.parquet",
        account="<results>/{dataset}/best.account.json",
    log:
        "<logs>/keep_best/{dataset}.log",
    group:
        group_of_what_passes
    conda:
        "../envs/data.yaml"
    params:
        program=running("keep_best.py"),
        code=code("keep_best.py"),
        recipe=recipe_of,
        how=best_flags,
    shell:
        "python {params.program}"
        " --rows {input.rows}"
        " --recipe {params.recipe}"
        " {params.how}"
        " --stage best"
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
        recipe=recipe_of,
        splits=lambda wildcards: json.dumps(CONFIG["datasets"][wildcards.dataset]["splits"], sort_keys=True),
    shell:
        "python {params.program}"
        " --rows {input.rows}"
        " --recipe {params.recipe}"
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
        recipe=recipe_of,
    shell:
        "python {params.program}"
        " --rejected {input}"
        " --recipe {params.recipe}"
        " --output {output.rows}"
        " 2>&1 | tee {log}"
