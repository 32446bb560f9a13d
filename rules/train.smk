"""Tuning: from rows and a base to an adapter or a whole model, by SFT or DPO. snakemake tuned makes them all."""


localrules:
    tuned,


rule tune:
    input:
        base=tuned_base,
        before=tuned_before,
        rows=tuning_rows,
        prompt=tuning_prompt,
    output:
        receipt="<results>/models/{tuning}/receipt.json",
        training="<results>/models/{tuning}/training.json",
        losses="<results>/models/{tuning}/losses.tsv",
        picture="<results>/models/{tuning}/losses.png",
        folder=directory("<results>/models/{tuning}/model"),
    log:
        "<logs>/tune/{tuning}.log",
    benchmark:
        "<benchmarks>/tune/{tuning}.tsv"
    wildcard_constraints:
        tuning=one_of(CONFIG["tuning"]),
    conda:
        tuning_environment
    resources:
        **placed_by(tuning_resources),
        checkpoint_minutes=lambda wildcards: str(tuning_setting("checkpoint_minutes")(wildcards)),
        drain_seconds=lambda wildcards: str(tuning_setting("drain_seconds")(wildcards)),
    params:
        program=running(tuning_program),
        # A training is dear, and a change of code that changes no weight would repeat it.
        version=TUNING_VERSION,
        flags=tuning_flags,
        prompt_text=text(tuning_prompt),
        prompt=tuning_prompt_flag,
        arguments=tuning_arguments,
        # No output: what a failed job has written is what the next attempt goes on from.
        checkpoints=lambda wildcards: f"{tuning_places.tuning_folder(CONFIG, wildcards.tuning)}/checkpoints",
    shell:
        "HF_HUB_OFFLINE=1"
        " python {params.program}"
        " --name {wildcards.tuning}"
        " --base {input.base}"
        " {params.flags}"
        " {params.prompt}"
        " --arguments {params.arguments:q}"
        " --checkpoints {params.checkpoints}"
        " --checkpoint-minutes {resources.checkpoint_minutes}"
        " --drain-seconds {resources.drain_seconds}"
        " --folder {output.folder}"
        " --receipt {output.receipt}"
        " --training {output.training}"
        " --losses {output.losses}"
        " --picture {output.picture}"
        " 2>&1 | tee {log}"


rule tuned:
    input:
        tuned_receipts(),
