"""The store of answers: what is in it, few files, nothing that is not used; and what failed, asked again.

Targets for people: snakemake store_report, store_compact, store_prune, retry_failed. They build nothing.
"""


localrules:
    store_report,
    store_compact,
    store_prune,
    retry_failed,


rule store_report:
    log:
        "<logs>/store_report.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("report_store.py"),
        store=CONFIG["store"],
        models=named_receipts(),
        tables=asking_tables(),
    shell:
        "python {params.program}"
        " --store {params.store:q}"
        " --models {params.models}"
        " --tables {params.tables}"
        " 2>&1 | tee {log}"


rule store_compact:
    log:
        "<logs>/store_compact.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("compact_store.py"),
        store=CONFIG["store"],
        models=named_receipts(),
    shell:
        "python {params.program}" " --store {params.store:q}" " --models {params.models}" " 2>&1 | tee {log}"


rule store_prune:
    log:
        "<logs>/store_prune.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("prune_store.py"),
        store=CONFIG["store"],
        results=CONFIG["results"],
        tables=asking_tables(),
        keep=CONFIG["store_prune"]["keep"],
        models=named_receipts(),
        delete=delete_flag(),
    shell:
        "python {params.program}"
        " --store {params.store:q}"
        " --results {params.results}"
        " --tables {params.tables}"
        " --keep {params.keep:q}"
        " --models {params.models}"
        " {params.delete}"
        " 2>&1 | tee {log}"


rule retry_failed:
    log:
        "<logs>/retry_failed.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("retry_failed.py"),
        tables=asking_tables(),
    shell:
        "python {params.program}" " --tables {params.tables}" " 2>&1 | tee {log}"
