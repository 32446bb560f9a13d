"""Models and sources from the Hub or from local folders: receipts that pin what they are.

Compute nodes often have no internet, so that these run where Snakemake runs; all others run offline.
"""


localrules:
    fetch_model,
    fetch_tokenizer,
    fetch_source,
    describe_api_model,


rule fetch_model:
    output:
        receipt="<resources>/models/{model}/fetch.json",
    log:
        "<logs>/fetch_model/{model}.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("fetch_model.py"),
        origin=origin_flags,
    shell:
        "python {params.program}"
        " --name {wildcards.model}"
        " {params.origin}"
        " --receipt {output.receipt}"
        " 2>&1 | tee {log}"


rule fetch_tokenizer:
    output:
        receipt="<resources>/models/{model}/tokenizer.json",
    log:
        "<logs>/fetch_tokenizer/{model}.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("fetch_model.py"),
        origin=tokenizer_origin_flags,
    shell:
        "python {params.program}"
        " --name {wildcards.model}"
        " {params.origin}"
        " --tokenizer-only"
        " --receipt {output.receipt}"
        " 2>&1 | tee {log}"


rule describe_api_model:
    output:
        receipt="<resources>/models/{model}/server.json",
    log:
        "<logs>/describe_api_model/{model}.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("describe_api_model.py"),
        code=code("describe_api_model.py"),
        identity=lambda wildcards: layout.server_identity(CONFIG, wildcards.model),
    shell:
        "python {params.program}"
        " --name {wildcards.model}"
        " --identity {params.identity:q}"
        " --receipt {output.receipt}"
        " 2>&1 | tee {log}"


rule fetch_source:
    output:
        receipt="<results>/{dataset}/sources/fetch.json",
    log:
        "<logs>/fetch_source/{dataset}.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("fetch_source.py"),
        code=code("fetch_source.py"),
        hub=hub_flags,
    shell:
        "python {params.program}" " {params.hub}" " --receipt {output.receipt}" " 2>&1 | tee {log}"
