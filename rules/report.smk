"""What the runs did."""


# Seconds on the login node, and no queue for them.
localrules:
    collect_run_stats,


rule collect_run_stats:
    input:
        run_stats_tables,
    output:
        run_stats="<results>/{dataset}/run-stats.json",
    log:
        "<logs>/collect_run_stats/{dataset}.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("collect_run_stats.py"),
        code=code("collect_run_stats.py"),
        folder=dataset_folder,
        tables=layout_of("asking"),
    shell:
        "python {params.program}"
        " --dataset {params.folder}"
        " --tables {params.tables}"
        " --run-stats {output.run_stats}"
        " 2>&1 | tee {log}"
