"""Scoring: from requests and completions to a table of scores, for every step of every recipe."""


# Seconds on the login node, and no queue for them: each shard is looked up when its answers are there.
localrules:
    look_up_scores,


rule look_up_scores:
    input:
        requests=scored_table("requests"),
        completions=scored_table("completions"),
        scorer=receipt_of("scorer"),
    output:
        missing=temp("<results>/{dataset}/{step}/scores/{shard}.missing.json"),
    log:
        "<logs>/look_up_scores/{dataset}/{step}/{shard}.log",
    conda:
        "../envs/data.yaml"
    resources:
        store=CONFIG["store"],
    params:
        program=running("look_up_scores.py"),
        placement=placement_settings("scorer"),
        metric=setting_of("scorer", "metric"),
        dtype=setting_of("scorer", "dtype"),
        options=scorer_options,
    shell:
        "python {params.program}"
        " --requests {input.requests}"
        " --completions {input.completions}"
        " --metric {params.metric}"
        " --scorer {input.scorer}"
        " --dtype {params.dtype}"
        " {params.options}"
        " --store {resources.store:q}"
        " --missing {output.missing}"
        " --placement {params.placement:q}"
        " 2>&1 | tee {log}"


rule score:
    input:
        requests=scored_table("requests"),
        completions=scored_table("completions"),
        scorer=receipt_of("scorer"),
        tokenizer=tokenizer_receipt_of("scorer"),
        missing=looked_up("scorer", "scores"),
    output:
        scores="<results>/{dataset}/{step}/scores/{shard}.parquet",
        account="<results>/{dataset}/{step}/scores/{shard}.account.json",
        run_stats="<results>/{dataset}/{step}/scores/{shard}.run-stats.json",
    log:
        "<logs>/score/{dataset}/{step}/{shard}.log",
    benchmark:
        "<benchmarks>/score/{dataset}/{step}/{shard}.tsv"
    conda:
        scorer_environment
    resources:
        **placed("scorer"),
        tp=setting_of("scorer", "tp"),
        tokens_per_batch=setting_of("scorer", "tokens_per_batch"),
        max_failed=lambda wildcards: str(step_config("max_failed")(wildcards)),
        store=CONFIG["store"],
        commit_seconds=str(CONFIG["commit_seconds"]),
        stall_timeout=setting_of("scorer", "stall_timeout"),
        drain_seconds=setting_of("scorer", "drain_seconds"),
    params:
        program=running(scorer_program),
        code=scorer_code,
        retry=retry_mark("scores"),
        device=setting_of("scorer", "device"),
        dtype=setting_of("scorer", "dtype"),
        options=scorer_options,
        tuning=scorer_tuning,
        missing=missing_flag,
    shell:
        "HF_HUB_OFFLINE=1"
        " python {params.program}"
        " --requests {input.requests}"
        " --completions {input.completions}"
        " --scorer {input.scorer}"
        " --tokenizer {input.tokenizer}"
        " --device {params.device}"
        " --tp {resources.tp}"
        " --dtype {params.dtype}"
        " --tokens-per-batch {resources.tokens_per_batch}"
        " {params.options}"
        " {params.tuning}"
        " --store {resources.store:q}"
        " {params.missing}"
        " --commit-seconds {resources.commit_seconds}"
        " --stall-timeout {resources.stall_timeout}"
        " --drain-seconds {resources.drain_seconds}"
        " --max-failed {resources.max_failed}"
        " --stage {wildcards.step}/score"
        " --scores {output.scores}"
        " --account {output.account}"
        " 2>&1 | tee {log}"
