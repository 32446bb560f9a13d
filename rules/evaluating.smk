"""What the rules that evaluate models ask of the config: files, flags, places."""

from corpusmith.evaluations import settings as evaluations

# Raised by hand when what an evaluation comes to changes: another comma in a program measures nothing anew.
EVALUATION_VERSION = 1
HARNESS_VERSION = 1


@cache
def evaluation_placement():
    """Where jobs that evaluate can run. Asked once the executor is known."""
    return Placement(
        evaluations.as_model(CONFIG),
        executor_settings(workflow),
        default_resources(workflow.resource_settings.default_resources),
    )


def evaluation_resources(wildcards, input, attempt):
    """The resources of a job that evaluates."""
    settings = CONFIG["evaluations"]
    gpus = settings["gpus"] if settings["device"] == "cuda" else 0
    problem = evaluations.memory_problem(CONFIG, wildcards.model)
    if problem is not None:
        raise InputError(problem)
    try:
        return evaluation_placement().resources("evaluations", gpus, attempt)
    except InputError as error:
        said = str(error).replace("models.evaluations.tp", "evaluations.gpus")
        raise InputError(said.replace("models.evaluations.", "evaluations.")) from None


def evaluated_receipts(wildcards):
    """The receipts of a model that is evaluated and of what it stands on."""
    names = [wildcards.model, evaluations.base_of(CONFIG, wildcards.model)]
    return [evaluations.receipt_of(CONFIG, name) for name in names if name is not None]


def evaluated_receipt(wildcards):
    """The receipt of the model itself."""
    return evaluations.receipt_of(CONFIG, wildcards.model)


def task_inputs(wildcards):
    """The files of a task, and what tells that its data are in the cache."""
    # Another metric to compare looks anew whether there is one, and measures nothing anew.
    return [*evaluations.task_files(CONFIG, wildcards.task), *map(ancient, evaluations.fetched(CONFIG, wildcards.task))]


def own_task_files(wildcards):
    """The files of a task of the user's."""
    return evaluations.task_files(CONFIG, wildcards.task)


def fetch_flags(wildcards):
    """A task as flags, with the metrics that it has to have."""
    return quoted(evaluations.fetch_flags(CONFIG, wildcards.task))


def task_flags(wildcards):
    """How a task is run."""
    return quoted(evaluations.task_flags(CONFIG, wildcards.task))


def evaluated_flags(wildcards):
    """The model, and what runs it."""
    return quoted(evaluations.model_flags(CONFIG, wildcards.model))


def harness_flags(wildcards):
    """How a harness is run."""
    return quoted(evaluations.harness_flags(CONFIG, wildcards.task))


def served_flags(wildcards):
    """The model that a harness asks."""
    flags = evaluations.base_flags(CONFIG, wildcards.model)
    return quoted([*flags, *evaluations.machine_flags(CONFIG, wildcards.model)])


def compared_samples(wildcards):
    """What each item got, of every task."""
    tasks = CONFIG["evaluations"]["tasks"]
    return expand(
        "{folder}/{model}/{task}.samples.parquet",
        folder=evaluations.folder(CONFIG),
        model=evaluations.evaluated(CONFIG),
        task=tasks,
    )


def compared_trainings(wildcards):
    """What tells of the training of each adaptation."""
    return [
        evaluations.training_of(CONFIG, name)
        for name in evaluations.evaluated(CONFIG)
        if evaluations.is_tuned(CONFIG, name)
    ]
