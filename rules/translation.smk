"""The translation recipe: sampled sources, a prefilter by gain, the best of many answers, rules."""


rule sample_sources:
    input:
        source=source_files,
        tokenizer=counting_tokenizer,
    output:
        segments="<results>/{dataset}/sources/segments.parquet",
        bad_rows="<results>/{dataset}/sources/bad_rows.parquet",
        summary="<results>/{dataset}/sources/summary.json",
        read="<results>/{dataset}/sources/read.account.json",
        sample="<results>/{dataset}/sources/sample.account.json",
    log:
        "<logs>/sample_sources/{dataset}.log",
    benchmark:
        "<benchmarks>/sample_sources/{dataset}.tsv"
    wildcard_constraints:
        dataset=datasets_of("translation"),
    conda:
        "../envs/data.yaml"
    threads: 8
    params:
        program=running("sample_sources.py"),
        code=code("sample_sources.py"),
        source=source_flags,
        text_field=dataset_config("sources", "text_field"),
        language=dataset_config("source_language", "code"),
        edges=dataset_config("sources", "edges"),
        pool=lambda wildcards: layout.pool_of(CONFIG, wildcards.dataset),
        blob_share=dataset_config("sources", "blob_share"),
        blob_tokens=dataset_config("sources", "blob_tokens"),
        seed=dataset_config("sources", "seed"),
        stop=stop_flag,
        max_scan_docs=dataset_config("sources", "max_scan_docs"),
        max_bad_share=dataset_config("sources", "max_bad_share"),
        max_document_characters=dataset_config("sources", "max_document_characters"),
    shell:
        "python {params.program}"
        " {params.source}"
        " --text-field {params.text_field:q}"
        " --language {params.language}"
        " --tokenizer-of {input.tokenizer}"
        " --edges {params.edges}"
        " --pool {params.pool}"
        " --blob-share {params.blob_share}"
        " --blob-tokens {params.blob_tokens}"
        " --seed {params.seed}"
        " {params.stop}"
        " --max-scan-docs {params.max_scan_docs}"
        " --max-bad-share {params.max_bad_share}"
        " --max-document-characters {params.max_document_characters}"
        " --workers {threads}"
        " --segments {output.segments}"
        " --bad-rows {output.bad_rows}"
        " --summary {output.summary}"
        " --read-account {output.read}"
        " --sample-account {output.sample}"
        " 2>&1 | tee {log}"


rule request_translations:
    input:
        sources=sources_of_step,
        prompt=prompt_of(None),
    output:
        requests="<results>/{dataset}/{step}/requests/{shard}.parquet",
    log:
        "<logs>/request_translations/{dataset}/{step}/{shard}.log",
    wildcard_constraints:
        step="prefilter|final|baseline",
    group:
        "{dataset}-{step}-requests"
    conda:
        "../envs/data.yaml"
    params:
        program=running("request_translations.py"),
        code=code("request_translations.py"),
        source_language=language_words("source_language"),
        target_language=language_words("target_language"),
        asked=asked_flags,
        temperature=step_config("temperature"),
        top_p=step_config("top_p"),
        top_k=step_config("top_k"),
        max_tokens=step_config("max_tokens"),
        prompt_text=text(prompt_of(None)),
        prompt=copies("prompt"),
    shell:
        "python {params.program}"
        " --sources {input.sources}"
        " --shard {wildcards.shard}"
        " --prompt {params.prompt:q}"
        " --source-language {params.source_language:q}"
        " --target-language {params.target_language:q}"
        " {params.asked}"
        " --temperature {params.temperature}"
        " --top-p {params.top_p}"
        " --top-k {params.top_k}"
        " --max-tokens {params.max_tokens}"
        " --requests {output.requests}"
        " 2>&1 | tee {log}"


rule select_sources:
    input:
        step_tables("prefilter", ["completions", "scores"]),
        segments="<results>/{dataset}/sources/segments.parquet",
    output:
        selected="<results>/{dataset}/final/sources.parquet",
        dropped="<results>/{dataset}/prefilter/dropped.parquet",
        account="<results>/{dataset}/prefilter/select.account.json",
    log:
        "<logs>/select_sources/{dataset}.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("select_sources.py"),
        code=code("select_sources.py"),
        step=lambda wildcards: f"{dataset_folder(wildcards)}/prefilter",
        shards=dataset_config("prefilter", "shards"),
        keep=dataset_config("prefilter", "keep"),
    shell:
        "python {params.program}"
        " --segments {input.segments}"
        " --step {params.step}"
        " --shards {params.shards}"
        " --keep {params.keep}"
        " --stage prefilter/select"
        " --selected {output.selected}"
        " --dropped {output.dropped}"
        " --account {output.account}"
        " 2>&1 | tee {log}"


rule select_best:
    input:
        requests="<results>/{dataset}/final/requests/{shard}.parquet",
        completions="<results>/{dataset}/final/completions/{shard}.parquet",
        scores="<results>/{dataset}/final/scores/{shard}.parquet",
    output:
        selected="<results>/{dataset}/final/selected/{shard}.parquet",
        dropped="<results>/{dataset}/final/dropped/{shard}.parquet",
        account="<results>/{dataset}/final/selected/{shard}.account.json",
    log:
        "<logs>/select_best/{dataset}/{shard}.log",
    group:
        "{dataset}-selection"
    conda:
        "../envs/data.yaml"
    params:
        program=running("select_best.py"),
        code=code("select_best.py"),
        keep_top=dataset_config("final", "keep_top"),
    shell:
        "python {params.program}"
        " --requests {input.requests}"
        " --completions {input.completions}"
        " --scores {input.scores}"
        " --keep-top {params.keep_top}"
        " --stage final/select"
        " --selected {output.selected}"
        " --dropped {output.dropped}"
        " --account {output.account}"
        " 2>&1 | tee {log}"


rule filter_translations:
    input:
        step_tables("final", ["selected"]),
    output:
        kept="<results>/{dataset}/checked/kept.parquet",
        rejected="<results>/{dataset}/checked/rejected.parquet",
        account="<results>/{dataset}/checked.account.json",
    log:
        "<logs>/filter_translations/{dataset}.log",
    group:
        "{dataset}-selection"
    conda:
        "../envs/data.yaml"
    params:
        program=running("filter_translations.py"),
        code=code("filter_translations.py"),
        selected=lambda wildcards: f"{dataset_folder(wildcards)}/final/selected",
        shards=dataset_config("final", "shards"),
        source_language=dataset_config("source_language", "code"),
        target_language=dataset_config("target_language", "code"),
        rules=lambda wildcards: json.dumps(CONFIG["datasets"][wildcards.dataset]["filter"]["rules"], sort_keys=True),
    shell:
        "python {params.program}"
        " --selected {params.selected}"
        " --shards {params.shards}"
        " --source-language {params.source_language}"
        " --target-language {params.target_language}"
        " --rules {params.rules:q}"
        " --stage filter"
        " --kept {output.kept}"
        " --rejected {output.rejected}"
        " --account {output.account}"
        " 2>&1 | tee {log}"
