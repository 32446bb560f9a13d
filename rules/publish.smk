"""What the config says is published: releases, folders of JSON, models. snakemake upload; snakemake verify_upload.

Uploads run where Snakemake runs, as compute nodes often have no internet. Nothing is uploaded without `publish:`.
"""


localrules:
    upload_release,
    upload_folder,
    upload_model,
    upload,
    verify_upload,


rule json_to_parquet:
    input:
        lambda wildcards: publish_targets.folder_files(CONFIG["folders"][wildcards.folder]["path"]),
    output:
        manifest="<results>/folders/{folder}/release/manifest.json",
        bad_rows="<results>/folders/{folder}/bad_rows.parquet",
    log:
        "<logs>/json_to_parquet/{folder}.log",
    benchmark:
        "<benchmarks>/json_to_parquet/{folder}.tsv"
    wildcard_constraints:
        folder=one_of(CONFIG["folders"]),
    conda:
        "../envs/data.yaml"
    threads: 4
    params:
        program=running("json_to_parquet.py"),
        code=code("json_to_parquet.py"),
        folder=folder_setting("path"),
        max_bad=folder_setting("max_bad_share"),
        card=folder_flags,
    shell:
        "python {params.program}"
        " --folder {params.folder:q}"
        " --output $(dirname {output.manifest})"
        " --max-bad {params.max_bad}"
        " --threads {threads}"
        " {params.card}"
        " --bad-rows {output.bad_rows}"
        " 2>&1 | tee {log}"


rule upload_release:
    input:
        manifest="<results>/{dataset}/release/manifest.json",
    output:
        receipt="<results>/{dataset}/upload.json",
    log:
        "<logs>/upload_release/{dataset}.log",
    wildcard_constraints:
        dataset=one_of(PUBLISHED["datasets"]),
    conda:
        "../envs/publish.yaml"
    params:
        program=running("upload.py"),
        version=UPLOAD_VERSION,
        target=upload_target("datasets", "dataset"),
        place=upload_message("datasets", "dataset"),
        record=lambda wildcards: f"{RESULTS}/{wildcards.dataset}/uploads.jsonl",
    message:
        "upload {wildcards.dataset} to {params.place}"
    shell:
        "python {params.program}"
        " --manifest {input.manifest}"
        " --name {wildcards.dataset}"
        " {params.target:q}"
        " --record {params.record}"
        " --receipt {output.receipt}"
        " 2>&1 | tee {log}"


rule upload_folder:
    input:
        manifest="<results>/folders/{folder}/release/manifest.json",
    output:
        receipt="<results>/folders/{folder}/upload.json",
    log:
        "<logs>/upload_folder/{folder}.log",
    wildcard_constraints:
        folder=one_of(PUBLISHED["folders"]),
    conda:
        "../envs/publish.yaml"
    params:
        program=running("upload.py"),
        version=UPLOAD_VERSION,
        target=upload_target("folders", "folder"),
        place=upload_message("folders", "folder"),
        record=lambda wildcards: f"{RESULTS}/folders/{wildcards.folder}/uploads.jsonl",
    message:
        "upload {wildcards.folder} to {params.place}"
    shell:
        "python {params.program}"
        " --manifest {input.manifest}"
        " --name {wildcards.folder}"
        " {params.target:q}"
        " --record {params.record}"
        " --receipt {output.receipt}"
        " 2>&1 | tee {log}"


rule write_model_card:
    input:
        published_model,
    output:
        receipt="<models>/{model}/published.json",
        card="<models>/{model}/card.md",
    log:
        "<logs>/write_model_card/{model}.log",
    wildcard_constraints:
        model=one_of(PUBLISHED_MODELS),
    conda:
        "../envs/data.yaml"
    params:
        program=running("write_model_card.py"),
        code=code("write_model_card.py"),
        model=published_model_flags,
        licence=published_model_licence,
        terms=published_model_terms,
    shell:
        "python {params.program}"
        " {params.model}"
        " --name {wildcards.model}"
        " --licence {params.licence:q}"
        " --terms {params.terms:q}"
        " --receipt {output.receipt}"
        " --card {output.card}"
        " 2>&1 | tee {log}"


rule upload_model:
    input:
        model="<models>/{model}/published.json",
        card="<models>/{model}/card.md",
    output:
        receipt="<models>/{model}/upload.json",
    log:
        "<logs>/upload_model/{model}.log",
    wildcard_constraints:
        model=one_of(PUBLISHED_MODELS),
    conda:
        "../envs/publish.yaml"
    params:
        program=running("upload.py"),
        version=UPLOAD_VERSION,
        target=of_published_model(publish_targets.upload_flags),
        place=of_published_model(publish_targets.destination),
        record=lambda wildcards: f"{MODELS}/{wildcards.model}/uploads.jsonl",
    message:
        "upload {wildcards.model} to {params.place}"
    shell:
        "python {params.program}"
        " --model {input.model}"
        " --card {input.card}"
        " --name {wildcards.model}"
        " {params.target:q}"
        " --record {params.record}"
        " --receipt {output.receipt}"
        " 2>&1 | tee {log}"


rule upload:
    input:
        uploads,


rule verify_upload:
    log:
        "<logs>/verify_upload.log",
    conda:
        "../envs/publish.yaml"
    params:
        program=running("verify_upload.py"),
        token=CONFIG["hub"]["token_variable"],
        receipts=upload_receipts(),
    shell:
        "python {params.program}" " --token-variable {params.token}" " {params.receipts}" " 2>&1 | tee {log}"
