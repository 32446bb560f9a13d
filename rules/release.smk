"""The release of a dataset: the target of every recipe. Fails where a row is unaccounted for."""


rule release_dataset:
    input:
        release_tables,
        split_tables,
        card=release_card,
        about=release_about,
        models=release_models,
        environments=release_environments,
    output:
        manifest="<results>/{dataset}/release/manifest.json",
        card="<results>/{dataset}/release/README.md",
        config="<results>/{dataset}/release/resolved_config.yaml",
        data=directory("<results>/{dataset}/release/data"),
        lines=directory("<results>/{dataset}/release/json"),
        croissant="<results>/{dataset}/release/croissant.json",
        stats="<results>/{dataset}/stats.json",
    log:
        "<logs>/release_dataset/{dataset}.log",
    benchmark:
        "<benchmarks>/release_dataset/{dataset}.tsv"
    group:
        "{dataset}-release"
    conda:
        "../envs/data.yaml"
    params:
        program=running("release_dataset.py"),
        code=code("release_dataset.py"),
        folder=dataset_folder,
        config=lambda wildcards: json.dumps(layout.release_config(CONFIG, wildcards.dataset)),
        stages=layout_of("stages"),
        tables=layout_of("tables"),
        dropped=layout_of("dropped"),
        side_stages=layout_of("side_stages"),
        samples=layout_of("samples"),
        pool=lambda wildcards: layout.pool_table(CONFIG, wildcards.dataset),
        splits=lambda wildcards: list(CONFIG["datasets"][wildcards.dataset]["splits"]),
        card_text=text(release_card),
        about_text=text(release_about),
        base_text=text(lambda wildcards: [str(scripts.scripts / "corpusmith/templates/base.md.jinja")]),
        environments_text=text(release_environments),
        environments=copies("environments"),
        card=copies("card"),
        about=copies("about"),
        licence=lambda wildcards: json.dumps(release_licence(CONFIG, wildcards.dataset)),
        repo=release_repo,
        models=lambda wildcards: [
            f"{name}={receipt}" for name, receipt in layout.models_of(CONFIG, wildcards.dataset).items()
        ],
    shell:
        "python {params.program}"
        " --dataset {wildcards.dataset}"
        " --folder {params.folder}"
        " --config {params.config:q}"
        " --stages {params.stages}"
        " --tables {params.tables}"
        " --dropped {params.dropped}"
        " --side-stages {params.side_stages}"
        " --samples {params.samples}"
        " --pool {params.folder}/{params.pool}.parquet"
        " --card {params.card}"
        " --licence {params.licence:q}"
        " --about {params.about:q}"
        " {params.repo}"
        " --splits {params.splits}"
        " --models {params.models}"
        " --environments {params.environments}"
        " --manifest {output.manifest}"
        " --stats {output.stats}"
        " 2>&1 | tee {log}"
