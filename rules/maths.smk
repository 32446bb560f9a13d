"""The maths recipe: rows by their labels, problems solved, checked, judged and graded, solutions selected."""


rule filter_by_labels:
    input:
        unpack(counting_input),
        source=source_files,
    output:
        rows="<results>/{dataset}/sources/rows.parquet",
        bad_rows="<results>/{dataset}/sources/bad_rows.parquet",
        dropped_rows="<results>/{dataset}/sources/dropped_rows.parquet",
        read="<results>/{dataset}/sources/read.account.json",
    log:
        "<logs>/filter_by_labels/{dataset}.log",
    benchmark:
        "<benchmarks>/filter_by_labels/{dataset}.tsv"
    wildcard_constraints:
        dataset=datasets_of("maths"),
    conda:
        "../envs/data.yaml"
    threads: 4
    params:
        program=running("filter_by_labels.py"),
        code=code("filter_by_labels.py"),
        source=source_flags,
        origin=lambda wildcards: maths.origin_of(CONFIG["datasets"][wildcards.dataset], wildcards.dataset),
        columns=lambda wildcards: json.dumps(maths.columns_of(CONFIG["datasets"][wildcards.dataset])),
        labels=lambda wildcards: json.dumps(CONFIG["datasets"][wildcards.dataset]["sources"]["labels"]),
        start=dataset_config("sources", "start"),
        end=dataset_config("sources", "end"),
        limit=limit_flag,
        tokenizer=counting_flag,
        max_bad_share=dataset_config("sources", "max_bad_share"),
        max_problem_characters=dataset_config("sources", "max_problem_characters"),
    shell:
        "python {params.program}"
        " {params.source}"
        " --dataset {params.origin:q}"
        " --columns {params.columns:q}"
        " --labels {params.labels:q}"
        " {params.tokenizer}"
        " --start {params.start}"
        " --end {params.end}"
        " {params.limit}"
        " --max-bad-share {params.max_bad_share}"
        " --max-problem-characters {params.max_problem_characters}"
        " --threads {threads}"
        " --stage sources/labels"
        " --rows {output.rows}"
        " --bad-rows {output.bad_rows}"
        " --dropped-rows {output.dropped_rows}"
        " --account {output.read}"
        " 2>&1 | tee {log}"


rule distinct_problems:
    input:
        rows="<results>/{dataset}/sources/rows.parquet",
    output:
        problems="<results>/{dataset}/sources/problems.parquet",
        conflicts="<results>/{dataset}/sources/conflicts.parquet",
        account="<results>/{dataset}/sources/problems.account.json",
    log:
        "<logs>/distinct_problems/{dataset}.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("distinct_problems.py"),
        code=code("distinct_problems.py"),
    shell:
        "python {params.program}"
        " --rows {input.rows}"
        " --stage sources/problems"
        " --problems {output.problems}"
        " --conflicts {output.conflicts}"
        " --account {output.account}"
        " 2>&1 | tee {log}"


rule request_solutions:
    input:
        problems="<results>/{dataset}/sources/problems.parquet",
        prompt=prompt_of("solve"),
    output:
        requests="<results>/{dataset}/solve/requests/{shard}.parquet",
    log:
        "<logs>/request_solutions/{dataset}/{shard}.log",
    group:
        "{dataset}-solve-requests"
    conda:
        "../envs/data.yaml"
    params:
        program=running("request_solutions.py"),
        code=code("request_solutions.py"),
        n=dataset_config("solve", "n"),
        temperature=dataset_config("solve", "temperature"),
        top_p=dataset_config("solve", "top_p"),
        top_k=dataset_config("solve", "top_k"),
        max_tokens=dataset_config("solve", "max_tokens"),
        prompt_text=text(prompt_of("solve")),
        prompt=copies("prompt"),
    shell:
        "python {params.program}"
        " --problems {input.problems}"
        " --shard {wildcards.shard}"
        " --prompt {params.prompt:q}"
        " --n {params.n}"
        " --temperature {params.temperature}"
        " --top-p {params.top_p}"
        " --top-k {params.top_k}"
        " --max-tokens {params.max_tokens}"
        " --requests {output.requests}"
        " 2>&1 | tee {log}"


rule check_solutions:
    input:
        requests="<results>/{dataset}/solve/requests/{shard}.parquet",
        completions="<results>/{dataset}/solve/completions/{shard}.parquet",
    output:
        checked="<results>/{dataset}/solve/checked/{shard}.parquet",
        answers="<results>/{dataset}/solve/answers/{shard}.parquet",
        account="<results>/{dataset}/solve/checked/{shard}.account.json",
    log:
        "<logs>/check_solutions/{dataset}/{shard}.log",
    benchmark:
        "<benchmarks>/check_solutions/{dataset}/{shard}.tsv"
    conda:
        "../envs/maths.yaml"
    threads: 2
    params:
        program=running("check_solutions.py"),
        code=code("check_solutions.py"),
        answer=answer_flags,
        time_limit=dataset_config("check", "time_limit"),
        majority=lambda wildcards: (
            "--majority" if CONFIG["datasets"][wildcards.dataset]["check"]["majority"] else "--no-majority"
        ),
    shell:
        "python {params.program}"
        " --requests {input.requests}"
        " --completions {input.completions}"
        " {params.answer}"
        " --time-limit {params.time_limit}"
        " {params.majority}"
        " --workers {threads}"
        " --stage solve/check"
        " --checked {output.checked}"
        " --answers {output.answers}"
        " --account {output.account}"
        " 2>&1 | tee {log}"


rule request_verdicts:
    input:
        requests="<results>/{dataset}/solve/requests/{shard}.parquet",
        completions="<results>/{dataset}/solve/completions/{shard}.parquet",
        checked="<results>/{dataset}/solve/checked/{shard}.parquet",
        answers="<results>/{dataset}/solve/answers/{shard}.parquet",
        prompt=prompt_of("judge"),
    output:
        requests="<results>/{dataset}/judge/requests/{shard}.parquet",
    log:
        "<logs>/request_verdicts/{dataset}/{shard}.log",
    group:
        "{dataset}-judge-requests"
    conda:
        "../envs/data.yaml"
    params:
        program=running("request_verdicts.py"),
        code=code("request_verdicts.py"),
        verdicts=dataset_config("judge", "verdicts"),
        votes=dataset_config("judge", "votes"),
        temperature=dataset_config("judge", "temperature"),
        prompt_text=text(prompt_of("judge")),
        prompt=copies("prompt"),
    shell:
        "python {params.program}"
        " --solve-requests {input.requests}"
        " --completions {input.completions}"
        " --checked {input.checked}"
        " --answers {input.answers}"
        " --prompt {params.prompt:q}"
        " --verdicts {params.verdicts:q}"
        " --votes {params.votes}"
        " --temperature {params.temperature}"
        " --requests {output.requests}"
        " 2>&1 | tee {log}"


rule grade_solutions:
    input:
        requests="<results>/{dataset}/solve/requests/{shard}.parquet",
        completions="<results>/{dataset}/solve/completions/{shard}.parquet",
        checked="<results>/{dataset}/solve/checked/{shard}.parquet",
        answers="<results>/{dataset}/solve/answers/{shard}.parquet",
        verdicts=verdicts_of_shard,
    output:
        graded="<results>/{dataset}/solve/graded/{shard}.parquet",
        grades="<results>/{dataset}/solve/grades/{shard}.parquet",
        account="<results>/{dataset}/solve/graded/{shard}.account.json",
    log:
        "<logs>/grade_solutions/{dataset}/{shard}.log",
    group:
        "{dataset}-selection"
    conda:
        "../envs/data.yaml"
    params:
        program=running("grade_solutions.py"),
        code=code("grade_solutions.py"),
        verdicts=verdict_flags,
    shell:
        "python {params.program}"
        " --requests {input.requests}"
        " --completions {input.completions}"
        " --checked {input.checked}"
        " --answers {input.answers}"
        " {params.verdicts}"
        " --stage solve/grade"
        " --graded {output.graded}"
        " --grades {output.grades}"
        " --account {output.account}"
        " 2>&1 | tee {log}"


rule select_rows:
    input:
        grade_tables,
        rows="<results>/{dataset}/sources/rows.parquet",
    output:
        kept="<results>/{dataset}/selected/kept.parquet",
        rejected="<results>/{dataset}/selected/rejected.parquet",
        account="<results>/{dataset}/selected.account.json",
    log:
        "<logs>/select_rows/{dataset}.log",
    wildcard_constraints:
        dataset=one_of(maths.keeping_datasets(CONFIG)),
    group:
        "{dataset}-selection"
    conda:
        "../envs/data.yaml"
    params:
        program=running("select_rows.py"),
        code=code("select_rows.py"),
        grades=grade_flags,
        band=band_flags,
    shell:
        "python {params.program}"
        " --rows {input.rows}"
        " {params.grades}"
        " {params.band}"
        " --stage select"
        " --kept {output.kept}"
        " --rejected {output.rejected}"
        " --account {output.account}"
        " 2>&1 | tee {log}"


rule select_solutions:
    input:
        step_tables("solve", ["requests", "completions", "graded", "grades"]),
        problems="<results>/{dataset}/sources/problems.parquet",
    output:
        kept="<results>/{dataset}/selected/kept.parquet",
        rejected="<results>/{dataset}/selected/rejected.parquet",
        samples="<results>/{dataset}/selected/samples.parquet",
        account="<results>/{dataset}/selected.account.json",
    log:
        "<logs>/select_solutions/{dataset}.log",
    wildcard_constraints:
        dataset=one_of(maths.generating_datasets(CONFIG)),
    group:
        "{dataset}-selection"
    conda:
        "../envs/data.yaml"
    params:
        program=running("select_solutions.py"),
        code=code("select_solutions.py"),
        step=lambda wildcards: f"{dataset_folder(wildcards)}/solve",
        shards=dataset_config("solve", "shards"),
        order=dataset_config("select", "order"),
        only_right=lambda wildcards: (
            "--only-right" if CONFIG["datasets"][wildcards.dataset]["select"]["only_right"] else "--no-only-right"
        ),
        band=band_flags,
        model=dataset_config("solve", "model"),
    shell:
        "python {params.program}"
        " --problems {input.problems}"
        " --step {params.step}"
        " --shards {params.shards}"
        " --order {params.order}"
        " {params.only_right}"
        " {params.band}"
        " --generation-model {params.model}"
        " --stage select"
        " --kept {output.kept}"
        " --rejected {output.rejected}"
        " --samples {output.samples}"
        " --account {output.account}"
        " 2>&1 | tee {log}"
