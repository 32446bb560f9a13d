"""What jobs that ask models and scorers are called with, and the GPUs, memory and time that they get."""

from functools import cache

from corpusmith import gpu_memory
from corpusmith.building import executor_settings
from corpusmith.look_up import gpus_wanted
from corpusmith.placement import PLACED, Placement, default_resources


def of_role(function, role):
    """What a function of the layout says of the step's model or scorer."""
    return lambda wildcards: function(CONFIG, step_config(role)(wildcards))


def receipt_of(role):
    """The receipt of the step's model or scorer."""
    return of_role(layout.receipt_of, role)


def tokenizer_receipt_of(role):
    """The receipt of the tokenizer of the step's scorer."""
    return of_role(layout.tokenizer_receipt_of, role)


def gpus_of(role):
    """GPUs that the step's model or scorer needs."""
    return of_role(layout.gpus_of, role)


def looked_up(role, kind):
    """The look-up of a table that the step's model or scorer makes; none where no GPU could be queued for nothing."""

    def missing(wildcards):
        if not gpus_of(role)(wildcards):
            return []
        return f"{dataset_folder(wildcards)}/{wildcards.step}/{kind}/{wildcards.shard}.missing.json"

    return missing


@cache
def placement():
    """Where jobs can run. Asked once the executor is known, which it is not while this is read."""
    return Placement(
        CONFIG, executor_settings(workflow), default_resources(workflow.resource_settings.default_resources)
    )


def placed_by(resources):
    """What a function gives of all that a job may ask for, each under its name. It raises InputError for none."""

    def resource(name):
        def found(wildcards, input, attempt):
            try:
                return resources(wildcards, input, attempt)[name]
            except InputError as error:
                raise WorkflowError(str(error)) from None

        return found

    return {name: resource(name) for name in PLACED}


def placed(role):
    """The resources of a job that runs the step's model or scorer: no GPU, and little else, where everything was found."""

    def resources(wildcards, input, attempt):
        gpus = gpus_wanted(gpus_of(role)(wildcards), str(input.get("missing", "")), attempt)
        return placement().resources(step_config(role)(wildcards), gpus, attempt)

    return placed_by(resources)


def placed_model(name_of):
    """The resources of a job that runs a model for itself, without a store."""

    def resources(wildcards, input, attempt):
        model = name_of(wildcards)
        return placement().resources(model, layout.gpus_of(CONFIG, model), attempt)

    return placed_by(resources)


def missing_flag(wildcards, input):
    """Where the look-up lies. A param that depends on input rebuilds nothing."""
    return f"--missing {input.missing}" if input.missing else ""


def placement_settings(role):
    """What decides whether the step's model or scorer fits on its GPUs. This param rebuilds nothing, as said above."""
    return lambda wildcards, resources: json.dumps(
        gpu_memory.placement_settings(layout.entry_of(CONFIG, step_config(role)(wildcards)))
    )


def setting_of(role, key):
    """A value of the config of the step's model or scorer."""
    return lambda wildcards: layout.entry_of(CONFIG, step_config(role)(wildcards))[key]


def scored_table(kind):
    """The requests or completions that a step's scorer reads: those of an evaluation belong to all its metrics."""

    def table(wildcards):
        return f"{dataset_folder(wildcards)}/{layout.scored_step(wildcards.step)}/{kind}/{wildcards.shard}.parquet"

    return table


def scorer_program(wildcards):
    """The program that runs the step's scorer."""
    return of_role(layout.scorer_program_of, "scorer")(wildcards)


def scorer_code(wildcards):
    """Its digest."""
    return program_digest(scorer_program(wildcards), scripts.scripts)


def scorer_environment(wildcards):
    """The environment file for the kind of the step's scorer."""
    return f"../envs/{of_role(layout.scorer_environment_of, 'scorer')(wildcards)}.yaml"


def scorer_options(wildcards):
    """Flags of the program on which scores depend."""
    step = layout.step_of(CONFIG, wildcards.dataset, wildcards.step)
    return " ".join(layout.scorer_options(CONFIG, step["scorer"], step.get("references", True)))


def scorer_tuning(wildcards, resources):
    """Its other flags. A param that could depend on resources rebuilds nothing."""
    return " ".join(of_role(layout.scorer_tuning, "scorer")(wildcards))


def engine_environment(wildcards):
    """The environment file for the engine of the step's model."""
    return f"../envs/{of_role(layout.engine_environment_of, 'model')(wildcards)}.yaml"


def generation_options(wildcards):
    """Flags of generate.py that only some models need."""
    entry = layout.entry_of(CONFIG, step_config("model")(wildcards))
    flags = [f"--max-length {entry['max_length']}"] if entry["max_length"] else []
    return " ".join([*flags, *(["--trust-remote-code"] if entry["trust_remote_code"] else [])])


def engine_settings(wildcards):
    """Settings of the engine of the step's model on which its answers depend, as JSON."""
    return json.dumps(of_role(layout.engine_settings, "model")(wildcards))


def engine_tuning(wildcards, resources):
    """Its other settings. A param that could depend on resources rebuilds nothing."""
    return json.dumps(of_role(layout.engine_tuning, "model")(wildcards))


def origin_flags(wildcards):
    """Where a model or scorer comes from, as flags of fetch_model.py."""
    return flags_of_origin(layout.entry_of(CONFIG, wildcards.model))


def tokenizer_origin_flags(wildcards):
    """Where a tokenizer comes from, as flags of fetch_model.py: a scorer's, or that of a model that only counts."""
    entry = layout.entry_of(CONFIG, wildcards.model)
    return flags_of_origin(entry.get("tokenizer", entry))


def flags_of_origin(entry):
    """A repository at a revision, or a folder."""
    if "path" in entry:
        return f"--path {shlex.quote(entry['path'])}"
    return f"--repo {shlex.quote(entry['repo'])} --revision {shlex.quote(entry['revision'])}"
