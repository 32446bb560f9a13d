"""Functions of the filters of every recipe: what each reads, its settings, its model, its group of jobs."""


def all_filters(kind):
    """What each filter kept or rejected."""
    return lambda wildcards: files_of(
        wildcards, [f"{name}/{kind}" for name in layout.filters(CONFIG, wildcards.dataset)]
    )


def last_filter(kind):
    """What the last filter kept or rejected."""
    return lambda wildcards: all_filters(kind)(wildcards)[-1]


def kept_before(folder):
    """What the filter before another one kept."""
    return (
        lambda wildcards: f"{dataset_folder(wildcards)}/{layout.kept_before(CONFIG, wildcards.dataset, folder)}/kept.parquet"
    )


def group_of_filters(wildcards):
    """The group of filters without a model: that of the selection, unless a filter with one stands between them.

    Its job is of no group, and what leaves a group may not come back to it.
    """
    between = CONFIG["datasets"][wildcards.dataset]["filter"]["neighbours"] is not None
    return f"{wildcards.dataset}-{'filters' if between else 'selection'}"


def group_of_what_passes(wildcards):
    """The group of the filters that come last: that of the release, unless a model answers to what passes them."""
    answered = CONFIG["datasets"][wildcards.dataset].get("preferences") is not None
    return f"{wildcards.dataset}-{'passed' if answered else 'release'}"


def filter_config(name, key):
    """A value of the config of one of the dataset's filters."""
    return lambda wildcards: CONFIG["datasets"][wildcards.dataset]["filter"][name][key]


def recipe_of(wildcards):
    """The dataset's recipe."""
    return CONFIG["datasets"][wildcards.dataset]["recipe"]


def deduplicate_flags(wildcards):
    """How duplicates are found, and which stays."""
    return " ".join(layout.deduplicate_flags(CONFIG, wildcards.dataset))


def best_flags(wildcards):
    """How many rows stay, and what makes them the best."""
    return quoted(layout.best_flags(CONFIG, wildcards.dataset))


def neighbours_flags(wildcards):
    """Which rows are neighbours, and which stays."""
    return quoted(layout.neighbours_flags(CONFIG, wildcards.dataset))


def neighbours_model(wildcards):
    """The model whose embeddings are compared."""
    return layout.neighbours_model(CONFIG, wildcards.dataset)


def neighbours_receipt(wildcards):
    """Its receipt."""
    return layout.receipt_of(CONFIG, neighbours_model(wildcards))


def neighbours_environment(wildcards):
    """The environment file for embeddings on its device."""
    return f"../envs/{layout.environment_of(CONFIG, 'embeddings', neighbours_model(wildcards))}.yaml"


def neighbours_device(wildcards):
    """Where it runs, as flags, which change nothing but the time that it takes."""
    entry = layout.entry_of(CONFIG, neighbours_model(wildcards))
    return f"--device {entry['device']}" + (" --trust-remote-code" if entry["trust_remote_code"] else "")


def decontaminate_flags(wildcards):
    """What of the rows is held against what of the benchmarks."""
    return quoted(layout.decontaminate_flags(CONFIG, wildcards.dataset))


def safety_flags(wildcards):
    """What is not to be released, and where it is looked for."""
    return quoted(layout.safety_flags(CONFIG, wildcards.dataset))


def safety_samples(wildcards):
    """Tables of further answers that are released beside the rows."""
    return files_of(wildcards, layout.safety_samples(CONFIG, wildcards.dataset))
