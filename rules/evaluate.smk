"""Evaluation: a release against right translations, where some are known. Changes nothing of the release."""


rule make_toy_references:
    input:
        segments="<results>/{dataset}/sources/segments.parquet",
    output:
        references="<results>/{dataset}/evaluation/toy.jsonl.gz",
    log:
        "<logs>/make_toy_references/{dataset}.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("make_toy_references.py"),
        code=code("make_toy_references.py"),
    shell:
        "python {params.program}" " --segments {input.segments}" " --references {output.references}" " 2>&1 | tee {log}"


rule pair_references:
    input:
        step_tables("prefilter", ["requests", "completions"]),
        step_tables("final", ["requests", "completions"]),
        split_tables,
        references=references_of,
    output:
        requests=f"<results>/{{dataset}}/evaluation/requests/{EVALUATION_SHARD}.parquet",
        completions=f"<results>/{{dataset}}/evaluation/completions/{EVALUATION_SHARD}.parquet",
        pairing="<results>/{dataset}/evaluation/pairing.json",
        bad_rows="<results>/{dataset}/evaluation/bad_rows.parquet",
    log:
        "<logs>/pair_references/{dataset}.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("pair_references.py"),
        code=code("pair_references.py"),
        folder=dataset_folder,
        splits=lambda wildcards: list(CONFIG["datasets"][wildcards.dataset]["splits"]),
        prefilter_shards=dataset_config("prefilter", "shards"),
        final_shards=dataset_config("final", "shards"),
        source_field=dataset_config("evaluation", "references", "source_field"),
        reference_field=dataset_config("evaluation", "references", "reference_field"),
        max_bad_share=dataset_config("evaluation", "references", "max_bad_share"),
        shards=layout.EVALUATION_SHARDS,
        evaluation=subpath(output.pairing, parent=True),
    shell:
        "python {params.program}"
        " --folder {params.folder}"
        " --splits {params.splits}"
        " --prefilter-shards {params.prefilter_shards}"
        " --final-shards {params.final_shards}"
        " --references {input.references:q}"
        " --source-field {params.source_field:q}"
        " --reference-field {params.reference_field:q}"
        " --max-bad-share {params.max_bad_share}"
        " --shards {params.shards}"
        " --evaluation {params.evaluation}"
        " 2>&1 | tee {log}"


rule evaluate_release:
    input:
        metric_tables,
        requests=f"<results>/{{dataset}}/evaluation/requests/{EVALUATION_SHARD}.parquet",
        completions=f"<results>/{{dataset}}/evaluation/completions/{EVALUATION_SHARD}.parquet",
    output:
        metrics="<results>/{dataset}/evaluation/metrics.json",
    log:
        "<logs>/evaluate_release/{dataset}.log",
    conda:
        "../envs/evaluation.yaml"
    params:
        program=running("evaluate_release.py"),
        code=code("evaluate_release.py"),
        target_language=dataset_config("target_language", "code"),
        metrics=lambda wildcards: layout.evaluation_flags(CONFIG, wildcards.dataset),
        shards=layout.EVALUATION_SHARDS,
        evaluation=subpath(output.metrics, parent=True),
    shell:
        "python {params.program}"
        " --evaluation {params.evaluation}"
        " --shards {params.shards}"
        " --target-language {params.target_language}"
        " {params.metrics:q}"
        " --metrics {output.metrics}"
        " 2>&1 | tee {log}"
