"""Asks every model one prompt and every scorer one pair, as the build asks them: snakemake preflight.

Each is asked as a step that uses it asks it, but anew and without the store; the logs are all that stays.
"""


localrules:
    request_preflight,
    write_preflight_pair,
    show_preflight,
    preflight,


rule request_preflight:
    input:
        model=receipt_of("model"),
    output:
        requests=temp("<logs>/preflight/{dataset}/{step}/{model}.requests.parquet"),
    log:
        "<logs>/request_preflight/{dataset}/{step}/{model}.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("request_preflight.py"),
        code=code("request_preflight.py"),
    shell:
        "python {params.program}" " --model {input.model}" " --requests {output.requests}" " 2>&1 | tee {log}"


rule write_preflight_pair:
    output:
        requests=temp("<logs>/preflight/pair.requests.parquet"),
        completions=temp("<logs>/preflight/pair.completions.parquet"),
    log:
        "<logs>/write_preflight_pair.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("write_preflight_pair.py"),
        code=code("write_preflight_pair.py"),
    shell:
        "python {params.program}"
        " --requests {output.requests}"
        " --completions {output.completions}"
        " 2>&1 | tee {log}"


# These two end well, whatever comes of the question: what fails is said beside what works, and by the target.
rule preflight_generate:
    input:
        requests="<logs>/preflight/{dataset}/{step}/{model}.requests.parquet",
        model=receipt_of("model"),
    output:
        answer=temp(directory("<logs>/preflight/{dataset}/{step}/{model}.answer")),
    log:
        "<logs>/preflight/{dataset}/{step}/{model}.log",
    benchmark:
        "<benchmarks>/preflight/{dataset}/{step}/{model}.tsv"
    conda:
        engine_environment
    resources:
        **placed("model"),
        api_jobs=of_role(layout.api_jobs_of, "model"),
        tp=setting_of("model", "tp"),
        batch_size=setting_of("model", "batch_size"),
        stall_timeout=setting_of("model", "stall_timeout"),
        drain_seconds=setting_of("model", "drain_seconds"),
    params:
        program=running("generate.py"),
        asked=this_moment,
        engine=setting_of("model", "engine"),
        device=setting_of("model", "device"),
        dtype=setting_of("model", "dtype"),
        options=generation_options,
        settings=engine_settings,
        tuning=engine_tuning,
    shell:
        "mkdir -p {output.answer};"
        " HF_HUB_OFFLINE=1"
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
        " --stall-timeout {resources.stall_timeout}"
        " --drain-seconds {resources.drain_seconds}"
        " --max-failed 1"
        " --stage preflight"
        " --completions {output.answer}/completions.parquet"
        " --account {output.answer}/account.json"
        " 2>&1 | tee {log} || true"


rule preflight_score:
    input:
        requests="<logs>/preflight/pair.requests.parquet",
        completions="<logs>/preflight/pair.completions.parquet",
        scorer=receipt_of("scorer"),
        tokenizer=tokenizer_receipt_of("scorer"),
    output:
        score=temp(directory("<logs>/preflight/{dataset}/{step}/{model}.score")),
    log:
        "<logs>/preflight/{dataset}/{step}/{model}.log",
    benchmark:
        "<benchmarks>/preflight/{dataset}/{step}/{model}.tsv"
    conda:
        scorer_environment
    resources:
        **placed("scorer"),
        tp=setting_of("scorer", "tp"),
        tokens_per_batch=setting_of("scorer", "tokens_per_batch"),
        stall_timeout=setting_of("scorer", "stall_timeout"),
        drain_seconds=setting_of("scorer", "drain_seconds"),
    params:
        asked=this_moment,
        program=running(scorer_program),
        device=setting_of("scorer", "device"),
        dtype=setting_of("scorer", "dtype"),
        options=scorer_options,
        tuning=scorer_tuning,
    shell:
        "mkdir -p {output.score};"
        " HF_HUB_OFFLINE=1"
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
        " --stall-timeout {resources.stall_timeout}"
        " --drain-seconds {resources.drain_seconds}"
        " --max-failed 1"
        " --stage preflight"
        " --scores {output.score}/scores.parquet"
        " --account {output.score}/account.json"
        " 2>&1 | tee {log} || true"


rule show_preflight:
    input:
        answer=preflight_answer,
    output:
        outcome=temp("<logs>/preflight/{dataset}/{step}/{model}.json"),
    log:
        "<logs>/show_preflight/{dataset}/{step}/{model}.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("show_preflight.py"),
        asked=this_moment,
        log=preflight_file("logs", ".log"),
        benchmark=preflight_file("benchmarks", ".tsv"),
        width=max(map(len, ASKED), default=0),
    shell:
        "python {params.program}"
        " --name {wildcards.model}"
        " --answer {input.answer}"
        " --log {params.log}"
        " --benchmark {params.benchmark}"
        " --width {params.width}"
        " --outcome {output.outcome}"
        " 2>&1 | tee {log}"


rule preflight:
    input:
        preflight_outcomes(),
    output:
        # What a target without an output needs would stay, temp() or not.
        checked=temp(touch("<logs>/preflight.checked")),
    log:
        "<logs>/preflight.log",
    conda:
        "../envs/data.yaml"
    params:
        program=running("check_preflight.py"),
        asked=this_moment,
    shell:
        "python {params.program}" " --outcomes {input}" " 2>&1 | tee {log}"
