"""A toy world: documents of a small language, a model that translates it, a metric that judges, and the truth."""


rule make_toy_corpus:
    output:
        corpus="<results>/{dataset}/sources/toy.jsonl.gz",
    log:
        "<logs>/make_toy_corpus/{dataset}.log",
    wildcard_constraints:
        dataset=datasets_of("translation"),
    conda:
        "../envs/data.yaml"
    params:
        program=running("make_toy_corpus.py"),
        code=code("make_toy_corpus.py"),
        documents=dataset_config("sources", "toy", "documents"),
        seed=dataset_config("sources", "toy", "seed"),
    shell:
        "python {params.program}"
        " --documents {params.documents}"
        " --seed {params.seed}"
        " --corpus {output.corpus}"
        " 2>&1 | tee {log}"


rule train_toy_language_model:
    output:
        receipt="<models>/{model}/receipt.json",
        folder=directory("<models>/{model}/model"),
    log:
        "<logs>/train_toy_language_model/{model}.log",
    benchmark:
        "<benchmarks>/train_toy_language_model/{model}.tsv"
    wildcard_constraints:
        model=one_of(layout.toy_models(CONFIG, "models")),
    conda:
        "../envs/transformers-cpu.yaml"
    params:
        program=running("train_toy_language_model.py"),
        code=code("train_toy_language_model.py"),
        learns=toy_config("learns"),
        steps=toy_config("steps"),
        seed=toy_config("seed"),
    shell:
        "python {params.program}"
        " --learns {params.learns}"
        " --steps {params.steps}"
        " --seed {params.seed}"
        " --name {wildcards.model}"
        " --folder {output.folder}"
        " --receipt {output.receipt}"
        " 2>&1 | tee {log}"


rule train_toy_quality_estimator:
    output:
        receipt="<models>/{model}/receipt.json",
        folder=directory("<models>/{model}/model"),
    log:
        "<logs>/train_toy_quality_estimator/{model}.log",
    benchmark:
        "<benchmarks>/train_toy_quality_estimator/{model}.tsv"
    wildcard_constraints:
        model=one_of(layout.toy_scorers(CONFIG, "metricx-24")),
    conda:
        "../envs/metricx-cpu.yaml"
    params:
        program=running("train_toy_quality_estimator.py"),
        code=code("train_toy_quality_estimator.py"),
        steps=toy_config("steps"),
        seed=toy_config("seed"),
    shell:
        "python {params.program}"
        " --steps {params.steps}"
        " --seed {params.seed}"
        " --name {wildcards.model}"
        " --folder {output.folder}"
        " --receipt {output.receipt}"
        " 2>&1 | tee {log}"


rule train_toy_reward_model:
    output:
        receipt="<models>/{model}/receipt.json",
        folder=directory("<models>/{model}/model"),
    log:
        "<logs>/train_toy_reward_model/{model}.log",
    benchmark:
        "<benchmarks>/train_toy_reward_model/{model}.tsv"
    wildcard_constraints:
        model=one_of(layout.toy_scorers(CONFIG, "reward")),
    conda:
        "../envs/transformers-cpu.yaml"
    params:
        program=running("train_toy_reward_model.py"),
        code=code("train_toy_reward_model.py"),
        steps=toy_config("steps"),
        seed=toy_config("seed"),
    shell:
        "python {params.program}"
        " --steps {params.steps}"
        " --seed {params.seed}"
        " --name {wildcards.model}"
        " --folder {output.folder}"
        " --receipt {output.receipt}"
        " 2>&1 | tee {log}"


rule draw_baseline_sources:
    input:
        segments="<results>/{dataset}/sources/segments.parquet",
    output:
        sources="<results>/{dataset}/baseline/sources.parquet",
    log:
        "<logs>/draw_baseline_sources/{dataset}.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("draw_sources.py"),
        code=code("draw_sources.py"),
        drawn=dataset_config("prefilter", "keep"),
    shell:
        "python {params.program}"
        " --segments {input.segments}"
        " --count {params.drawn}"
        " --selected {output.sources}"
        " 2>&1 | tee {log}"


rule measure_toy_quality:
    input:
        step_tables("prefilter", ["completions", "scores"]),
        step_tables("final", ["completions", "scores"]),
        step_tables("baseline", ["completions", "scores"]),
        split_tables,
        "<results>/{dataset}/final/sources.parquet",
        "<results>/{dataset}/baseline/sources.parquet",
    output:
        quality="<results>/{dataset}/quality.json",
    log:
        "<logs>/measure_toy_quality/{dataset}.log",
    wildcard_constraints:
        dataset=datasets_of("translation"),
    conda:
        "../envs/data.yaml"
    params:
        program=running("measure_toy_quality.py"),
        code=code("measure_toy_quality.py"),
        folder=dataset_folder,
        prefilter_shards=dataset_config("prefilter", "shards"),
        final_shards=dataset_config("final", "shards"),
        n=dataset_config("final", "n"),
        splits=lambda wildcards: list(CONFIG["datasets"][wildcards.dataset]["splits"]),
    shell:
        "python {params.program}"
        " --folder {params.folder}"
        " --prefilter-shards {params.prefilter_shards}"
        " --final-shards {params.final_shards}"
        " --n {params.n}"
        " --splits {params.splits}"
        " --quality {output.quality}"
        " 2>&1 | tee {log}"


rule make_toy_problems:
    output:
        problems="<results>/{dataset}/sources/toy.jsonl.gz",
    log:
        "<logs>/make_toy_problems/{dataset}.log",
    wildcard_constraints:
        dataset=datasets_of("maths"),
    conda:
        "../envs/data.yaml"
    params:
        program=running("make_toy_problems.py"),
        code=code("make_toy_problems.py"),
        problems=dataset_config("sources", "toy", "problems"),
        seed=dataset_config("sources", "toy", "seed"),
    shell:
        "python {params.program}"
        " --problems {params.problems}"
        " --seed {params.seed}"
        " --problems-file {output.problems}"
        " 2>&1 | tee {log}"


rule measure_toy_maths:
    input:
        all_filters("kept"),
        split_tables,
        toy_maths_tables,
    output:
        quality="<results>/{dataset}/quality.json",
    log:
        "<logs>/measure_toy_maths/{dataset}.log",
    wildcard_constraints:
        dataset=datasets_of("maths"),
    conda:
        "../envs/data.yaml"
    params:
        program=running("measure_toy_maths.py"),
        code=code("measure_toy_maths.py"),
        folder=dataset_folder,
        measured=toy_maths_flags,
        filters=layout_of("filters"),
        splits=lambda wildcards: list(CONFIG["datasets"][wildcards.dataset]["splits"]),
    shell:
        "python {params.program}"
        " --folder {params.folder}"
        " {params.measured}"
        " --filters {params.filters}"
        " --splits {params.splits}"
        " --quality {output.quality}"
        " 2>&1 | tee {log}"


rule measure_toy_instructions:
    input:
        split_tables,
        toy_instructions_tables,
    output:
        quality="<results>/{dataset}/quality.json",
    log:
        "<logs>/measure_toy_instructions/{dataset}.log",
    wildcard_constraints:
        dataset=datasets_of("instructions"),
    conda:
        "../envs/data.yaml"
    params:
        program=running("measure_toy_instructions.py"),
        code=code("measure_toy_instructions.py"),
        folder=dataset_folder,
        instruct_shards=dataset_config("sources", "pre_query", "shards"),
        respond_shards=dataset_config("respond", "shards"),
        preferences=toy_preferences_flag,
        splits=lambda wildcards: list(CONFIG["datasets"][wildcards.dataset]["splits"]),
    shell:
        "python {params.program}"
        " --folder {params.folder}"
        " --instruct-shards {params.instruct_shards}"
        " --respond-shards {params.respond_shards}"
        " {params.preferences}"
        " --splits {params.splits}"
        " --quality {output.quality}"
        " 2>&1 | tee {log}"
