"""What tuning asks of the config: flags and files, and the GPUs, memory and time of its jobs."""

from corpusmith.documents import expand_globs
from corpusmith.tuning.settings import VERSION as TUNING_VERSION


def of_tuning(function):
    """What a function of `places` says of the tuning."""
    return lambda wildcards: function(CONFIG, wildcards.tuning)


def tuning_setting(key):
    """A value of the tuning's config."""
    return lambda wildcards: CONFIG["tuning"][wildcards.tuning][key]


def tuned_base(wildcards):
    """The receipt of the model that is tuned."""
    return layout.receipt_of(CONFIG, tuning_setting("base")(wildcards))


def tuned_before(wildcards):
    """The receipt of the tuning that this one goes on with, in a list."""
    adapter = tuning_setting("adapter")(wildcards)
    return [tuning_places.tuning_receipt(CONFIG, adapter)] if adapter is not None else []


def tuning_rows(wildcards):
    """The release with the rows to learn from, or files of them."""
    data = tuning_setting("data")(wildcards)
    if "dataset" in data:
        return tuning_places.tuning_manifests(CONFIG, wildcards.tuning)
    try:
        return [str(path) for path in expand_globs([*data["files"], *data["evaluation_files"]])]
    except InputError as error:
        raise WorkflowError(f"config: tuning.{wildcards.tuning}.data: {error}") from None


def tuning_prompt(wildcards):
    """The file of the prompt that rows are asked with, in a list; none where they hold conversations."""
    return edited(filter(None, [of_tuning(tuning_places.tuning_prompt)(wildcards)]))


def tuning_prompt_flag(wildcards, input):
    """The same as a flag."""
    return " ".join(f"--row-prompt {shlex.quote(str(path))}" for path in copies("prompt")(wildcards, input))


def tuning_program(wildcards):
    """The program of the method."""
    return f"train_{tuning_setting('method')(wildcards)}.py"


def tuning_environment(wildcards):
    """The environment file for the tuning's device."""
    return f"../envs/{of_tuning(tuning_places.tuning_environment)(wildcards)}.yaml"


def tuning_flags(wildcards):
    """Flags on which the tuned weights depend, for the shell."""
    return quoted(of_tuning(tuning_places.tuning_flags)(wildcards))


def tuning_arguments(wildcards):
    """Further arguments of the trainer, as JSON."""
    return json.dumps(tuning_setting("arguments")(wildcards))


def tuning_resources(wildcards, input, attempt):
    """The resources of a tuning's job."""
    return placement().resources_of_tuning(wildcards.tuning, attempt)


def tuned_receipts():
    """The receipts of all tunings."""
    return [tuning_places.tuning_receipt(CONFIG, name) for name in CONFIG["tuning"]]
