"""Models on benchmarks: tasks of lm-evaluation-harness, other harnesses, and every adaptation against its base.

Compute nodes often have no internet, so that what tasks read is fetched where Snakemake runs; evaluations run offline.
"""


localrules:
    fetch_task,
    compare_evaluations,
    evaluations,


rule fetch_task:
    input:
        own_task_files,
    output:
        receipt="<resources>/tasks/{task}.json",
    log:
        "<logs>/fetch_task/{task}.log",
    wildcard_constraints:
        task=one_of(CONFIG["evaluations"]["tasks"]),
    conda:
        "../envs/benchmark-cpu.yaml"
    params:
        program=running("fetch_task.py"),
        task=fetch_flags,
    shell:
        "python {params.program}" " {params.task}" " --receipt {output.receipt}" " 2>&1 | tee {log}"


rule evaluate_model:
    input:
        evaluated_receipts,
        task_inputs,
        model=evaluated_receipt,
    output:
        result="<results>/evals/{model}/{task}.json",
        samples="<results>/evals/{model}/{task}.samples.parquet",
    log:
        "<logs>/evaluate_model/{model}/{task}.log",
    benchmark:
        "<benchmarks>/evaluate_model/{model}/{task}.tsv"
    wildcard_constraints:
        task=one_of(CONFIG["evaluations"]["tasks"]),
        model=one_of(evaluations.evaluated(CONFIG)),
    conda:
        f"../envs/{evaluations.environment(CONFIG)}.yaml"
    resources:
        **placed_by(evaluation_resources),
        gpus_used=CONFIG["evaluations"]["gpus"],
        batch_size=str(CONFIG["evaluations"]["batch_size"]),
    params:
        program=running("evaluate_model.py"),
        version=EVALUATION_VERSION,
        model=evaluated_flags,
        task=task_flags,
    shell:
        "HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1"
        " python {params.program}"
        " --model {input.model}"
        " --name {wildcards.model}"
        " {params.model}"
        " {params.task}"
        " --gpus {resources.gpus_used}"
        " --batch-size {resources.batch_size}"
        " --result {output.result}"
        " 2>&1 | tee {log}"


rule run_harness:
    input:
        evaluated_receipts,
        model=evaluated_receipt,
    output:
        result="<results>/evals/{model}/{task}.json",
    log:
        "<logs>/run_harness/{model}/{task}.log",
    benchmark:
        "<benchmarks>/run_harness/{model}/{task}.tsv"
    wildcard_constraints:
        task=one_of(CONFIG["evaluations"]["harnesses"]),
        model=one_of(evaluations.evaluated(CONFIG)),
    conda:
        f"../envs/{evaluations.environment(CONFIG, harness=True)}.yaml"
    resources:
        **placed_by(evaluation_resources),
        gpus_used=CONFIG["evaluations"]["gpus"],
    params:
        program=running("run_harness.py"),
        version=HARNESS_VERSION,
        model=served_flags,
        harness=harness_flags,
    shell:
        "HF_HUB_OFFLINE=1"
        " python {params.program}"
        " --model {input.model}"
        " --name {wildcards.model}"
        " {params.model}"
        " --harness {wildcards.task}"
        " {params.harness}"
        " --gpus {resources.gpus_used}"
        " --result {output.result}"
        " 2>&1 | tee {log}"


rule compare_evaluations:
    input:
        evaluations.results(CONFIG),
        compared_samples,
        compared_trainings,
    output:
        comparison="<results>/evals/comparison.md",
        picture="<results>/evals/comparison.png",
    log:
        "<logs>/compare_evaluations.log",
    conda:
        "../envs/benchmark-cpu.yaml"
    params:
        program=running("compare_evaluations.py"),
        code=code("compare_evaluations.py"),
        compared=quoted(evaluations.comparison_flags(CONFIG)),
    shell:
        "python {params.program}"
        " {params.compared}"
        " --comparison {output.comparison}"
        " --picture {output.picture}"
        " 2>&1 | tee {log}"


rule evaluations:
    input:
        evaluations.comparisons(CONFIG),
