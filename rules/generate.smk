"""Generation: from a table of requests to a table of completions, for every step of every recipe."""


rule look_up_answers:
    input:
        requests="<results>/{dataset}/{step}/requests/{shard}.parquet",
        model=receipt_of("model"),
    output:
        # Each build looks anew; that is why no change of this program makes anything due.
        missing=temp("<results>/{dataset}/{step}/completions/{shard}.missing.json"),
    log:
        "<logs>/look_up_answers/{dataset}/{step}/{shard}.log",
    group:
        "{dataset}-{step}-requests"
    conda:
        engine_environment
    resources:
        store=CONFIG["store"],
    params:
        program=running("look_up_answers.py"),
        placement=placement_settings("model"),
        engine=setting_of("model", "engine"),
        dtype=setting_of("model", "dtype"),
        options=generation_options,
        settings=engine_settings,
        tuning=engine_tuning,
    shell:
        "HF_HUB_OFFLINE=1"
        " python {params.program}"
        " --requests {input.requests}"
        " --model {input.model}"
        " --engine {params.engine}"
        " --dtype {params.dtype}"
        " {params.options}"
        " --settings {params.settings:q}"
        " --tuning {params.tuning:q}"
        " --store {resources.store:q}"
        " --missing {output.missing}"
        " --placement {params.placement:q}"
        " 2>&1 | tee {log}"


rule generate:
    input:
        requests="<results>/{dataset}/{step}/requests/{shard}.parquet",
        model=receipt_of("model"),
        missing=looked_up("model", "completions"),
    output:
        completions="<results>/{dataset}/{step}/completions/{shard}.parquet",
        account="<results>/{dataset}/{step}/completions/{shard}.account.json",
        run_stats="<results>/{dataset}/{step}/completions/{shard}.run-stats.json",
    log:
        "<logs>/generate/{dataset}/{step}/{shard}.log",
    benchmark:
        "<benchmarks>/generate/{dataset}/{step}/{shard}.tsv"
    wildcard_constraints:
        # Its completions are chosen among those of other steps.
        step=f"(?!{layout.EVALUATION}/)[^/]+",
    conda:
        engine_environment
    resources:
        **placed("model"),
        # Limits of calls a minute hold for each job: --resources api_jobs=1 lets those that ask an API take turns.
        api_jobs=of_role(layout.api_jobs_of, "model"),
        tp=setting_of("model", "tp"),
        batch_size=setting_of("model", "batch_size"),
        max_failed=lambda wildcards: str(step_config("max_failed")(wildcards)),
        store=CONFIG["store"],
        commit_seconds=str(CONFIG["commit_seconds"]),
        stall_timeout=setting_of("model", "stall_timeout"),
        drain_seconds=setting_of("model", "drain_seconds"),
    params:
        program=running("generate.py"),
        code=code("generate.py"),
        retry=retry_mark("completions"),
        engine=setting_of("model", "engine"),
        device=setting_of("model", "device"),
        dtype=setting_of("model", "dtype"),
        options=generation_options,
        settings=engine_settings,
        tuning=engine_tuning,
        missing=missing_flag,
    shell:
        "HF_HUB_OFFLINE=1"
        " python {params.program}"
        " --requests {input.requests}"
        " --model {input.model}"
        " --engine {params.engine}"
        " --device {params.device}"
        " --tp {resources.tp}"
        " --dtype {params.dtype}"
        " --batch-size {resources.batch_size}"
        " {params.options}"
        " --settings {params.settings:q}"
        " --tuning {params.tuning:q}"
        " --store {resources.store:q}"
        " {params.missing}"
        " --commit-seconds {resources.commit_seconds}"
        " --stall-timeout {resources.stall_timeout}"
        " --drain-seconds {resources.drain_seconds}"
        " --max-failed {resources.max_failed}"
        " --stage {wildcards.step}/generate"
        " --completions {output.completions}"
        " --account {output.account}"
        " 2>&1 | tee {log}"
