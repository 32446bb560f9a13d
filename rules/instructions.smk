"""The instructions recipe: instructions made up or read, responded to, rewarded, tagged, selected, and paired."""


rule request_instructions:
    input:
        model=drawing_model,
    output:
        requests="<results>/{dataset}/instruct/requests/{shard}.parquet",
    log:
        "<logs>/request_instructions/{dataset}/{shard}.log",
    group:
        "{dataset}-instruct-requests"
    conda:
        "../envs/data.yaml"
    params:
        program=running("request_instructions.py"),
        code=code("request_instructions.py"),
        template=template_flags,
        settings=drawing_settings,
        limit=limit_flag,
    shell:
        "python {params.program}"
        " --model {input.model}"
        " {params.template}"
        " --settings {params.settings:q}"
        " {params.limit}"
        " --shard {wildcards.shard}"
        " --requests {output.requests}"
        " 2>&1 | tee {log}"


rule collect_instructions:
    input:
        step_tables("instruct", ["requests", "completions"]),
    output:
        instructions="<results>/{dataset}/sources/instructions.parquet",
        dropped="<results>/{dataset}/sources/dropped_samples.parquet",
        account="<results>/{dataset}/sources/instructions.account.json",
    log:
        "<logs>/collect_instructions/{dataset}.log",
    wildcard_constraints:
        dataset=one_of(instructions.drawing_datasets(CONFIG)),
    conda:
        "../envs/data.yaml"
    params:
        program=running("collect_instructions.py"),
        code=code("collect_instructions.py"),
        step=lambda wildcards: f"{dataset_folder(wildcards)}/instruct",
        shards=dataset_config("sources", "pre_query", "shards"),
        model=dataset_config("sources", "pre_query", "model"),
        settings=drawing_settings,
        limit=limit_flag,
    shell:
        "python {params.program}"
        " --step {params.step}"
        " --shards {params.shards}"
        " --settings {params.settings:q}"
        " {params.limit}"
        " --model {params.model}"
        " --stage sources/instructions"
        " --instructions {output.instructions}"
        " --dropped {output.dropped}"
        " --account {output.account}"
        " 2>&1 | tee {log}"


rule read_tasks:
    input:
        source=source_files,
    output:
        instructions="<results>/{dataset}/sources/instructions.parquet",
        bad_rows="<results>/{dataset}/sources/bad_rows.parquet",
        dropped_rows="<results>/{dataset}/sources/dropped_rows.parquet",
        account="<results>/{dataset}/sources/instructions.account.json",
    log:
        "<logs>/read_tasks/{dataset}.log",
    wildcard_constraints:
        dataset=one_of(instructions.reading_datasets(CONFIG)),
    conda:
        "../envs/data.yaml"
    params:
        program=running("read_tasks.py"),
        code=code("read_tasks.py"),
        source=source_flags,
        limit=limit_flag,
        max_bad_share=dataset_config("sources", "max_bad_share"),
    shell:
        "python {params.program}"
        " {params.source}"
        " {params.limit}"
        " --max-bad-share {params.max_bad_share}"
        " --stage sources/instructions"
        " --instructions {output.instructions}"
        " --bad-rows {output.bad_rows}"
        " --dropped-rows {output.dropped_rows}"
        " --account {output.account}"
        " 2>&1 | tee {log}"


rule request_responses:
    input:
        instructions="<results>/{dataset}/sources/instructions.parquet",
    output:
        requests="<results>/{dataset}/respond/requests/{shard}.parquet",
    log:
        "<logs>/request_responses/{dataset}/{shard}.log",
    group:
        "{dataset}-respond-requests"
    conda:
        "../envs/data.yaml"
    params:
        program=running("request_responses.py"),
        code=code("request_responses.py"),
        n=dataset_config("respond", "n"),
        temperature=dataset_config("respond", "temperature"),
        top_p=dataset_config("respond", "top_p"),
        top_k=dataset_config("respond", "top_k"),
        max_tokens=dataset_config("respond", "max_tokens"),
        system=system_flag,
    shell:
        "python {params.program}"
        " --instructions {input.instructions}"
        " --shard {wildcards.shard}"
        " --n {params.n}"
        " --temperatures {params.temperature}"
        " --top-p {params.top_p}"
        " --top-k {params.top_k}"
        " --max-tokens {params.max_tokens}"
        " {params.system}"
        " --requests {output.requests}"
        " 2>&1 | tee {log}"


rule request_tags:
    input:
        instructions="<results>/{dataset}/sources/instructions.parquet",
        prompt=prompt_of("tag"),
    output:
        requests="<results>/{dataset}/tag/requests/{shard}.parquet",
    log:
        "<logs>/request_tags/{dataset}/{shard}.log",
    group:
        "{dataset}-tag-requests"
    conda:
        "../envs/data.yaml"
    params:
        program=running("request_tags.py"),
        code=code("request_tags.py"),
        values=tag_flags,
        temperature=dataset_config("tag", "temperature"),
        prompt_text=text(prompt_of("tag")),
        prompt=copies("prompt"),
    shell:
        "python {params.program}"
        " --instructions {input.instructions}"
        " --shard {wildcards.shard}"
        " --prompt {params.prompt:q}"
        " {params.values}"
        " --temperature {params.temperature}"
        " --requests {output.requests}"
        " 2>&1 | tee {log}"


rule select_responses:
    input:
        response_tables,
        instructions="<results>/{dataset}/sources/instructions.parquet",
    output:
        kept="<results>/{dataset}/selected/kept.parquet",
        rejected="<results>/{dataset}/selected/rejected.parquet",
        account="<results>/{dataset}/selected.account.json",
    log:
        "<logs>/select_responses/{dataset}.log",
    wildcard_constraints:
        dataset=datasets_of("instructions"),
    group:
        "{dataset}-selection"
    conda:
        "../envs/data.yaml"
    params:
        program=running("select_responses.py"),
        code=code("select_responses.py"),
        responses=response_flags,
        system=system_flag,
        rules=selection_rules,
        model=dataset_config("respond", "model"),
    shell:
        "python {params.program}"
        " --instructions {input.instructions}"
        " {params.responses}"
        " {params.system}"
        " --rules {params.rules:q}"
        " --generation-model {params.model}"
        " --stage select"
        " --kept {output.kept}"
        " --rejected {output.rejected}"
        " --account {output.account}"
        " 2>&1 | tee {log}"


rule request_preferences:
    input:
        rows=last_filter("kept"),
    output:
        requests="<results>/{dataset}/prefer/requests/{shard}.parquet",
    log:
        "<logs>/request_preferences/{dataset}/{shard}.log",
    wildcard_constraints:
        dataset=datasets_of("instructions"),
    group:
        "{dataset}-prefer-requests"
    conda:
        "../envs/data.yaml"
    params:
        program=running("request_responses.py"),
        code=code("request_responses.py"),
        n=dataset_config("preferences", "n"),
        temperatures=dataset_config("preferences", "temperatures"),
        top_p=dataset_config("preferences", "top_p"),
        top_k=dataset_config("preferences", "top_k"),
        max_tokens=dataset_config("preferences", "max_tokens"),
    shell:
        "python {params.program}"
        " --rows {input.rows}"
        " --shard {wildcards.shard}"
        " --n {params.n}"
        " --temperatures {params.temperatures}"
        " --top-p {params.top_p}"
        " --top-k {params.top_k}"
        " --max-tokens {params.max_tokens}"
        " --requests {output.requests}"
        " 2>&1 | tee {log}"


rule build_preferences:
    input:
        step_tables("prefer", ["requests", "completions", "scores"]),
    output:
        kept="<results>/{dataset}/preferences/kept.parquet",
        rejected="<results>/{dataset}/preferences/rejected.parquet",
        account="<results>/{dataset}/preferences.account.json",
    log:
        "<logs>/build_preferences/{dataset}.log",
    group:
        "{dataset}-release"
    conda:
        "../envs/data.yaml"
    params:
        program=running("build_preferences.py"),
        code=code("build_preferences.py"),
        step=lambda wildcards: f"{dataset_folder(wildcards)}/prefer",
        shards=dataset_config("preferences", "shards"),
        pairs=pair_flags,
        safety=pair_safety_flags,
    shell:
        "python {params.program}"
        " --step {params.step}"
        " --shards {params.shards}"
        " {params.pairs}"
        " {params.safety}"
        " --stage preferences"
        " --kept {output.kept}"
        " --rejected {output.rejected}"
        " --account {output.account}"
        " 2>&1 | tee {log}"
