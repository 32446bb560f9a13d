"""What the rules of the instructions recipe ask of the config: flags and files."""

from corpusmith.recipes import instructions
from corpusmith.recipes.common import finder_flags


def drawing(wildcards):
    """How instructions are made up."""
    return CONFIG["datasets"][wildcards.dataset]["sources"]["pre_query"]


def drawing_settings(wildcards):
    """The same as programs read it, without what decides nothing about an instruction."""
    left_out = ("model", "family", "template", "system_template", "shards", "max_failed")
    return json.dumps({key: value for key, value in drawing(wildcards).items() if key not in left_out})


def template_flags(wildcards):
    """The pre-query template."""
    names = {"family": "--family", "template": "--template", "system_template": "--system-template"}
    found = {flag: drawing(wildcards)[name] for name, flag in names.items() if drawing(wildcards).get(name)}
    return " ".join(f"{flag}={shlex.quote(value)}" for flag, value in found.items())


def drawing_model(wildcards):
    """The receipt of the model that makes instructions up: of its tokenizer alone where nothing else is there yet."""
    return layout.receipt_of(CONFIG, drawing(wildcards)["model"])


def system_flag(wildcards):
    """Whether the system prompt of an instruction's topic goes before it."""
    return "--with-system" if CONFIG["datasets"][wildcards.dataset]["respond"]["with_system"] else ""


def tag_flags(wildcards):
    """The values of the tags where the config says them."""
    tag = CONFIG["datasets"][wildcards.dataset]["tag"]
    flags = []
    for name in ("difficulty", "quality", "category", "language"):
        if tag[name] is not None:
            flags += [f"--{name}", *map(shlex.quote, tag[name])]
    return " ".join(flags)


def response_tables(wildcards):
    """What responses are selected from."""
    entry = CONFIG["datasets"][wildcards.dataset]
    shards = entry["respond"]["shards"]
    found = [f"respond/{kind}={shards}" for kind in ("requests", *instructions.kinds(entry, "respond"))]
    if entry["tag"] is not None:
        found += [f"tag/{kind}={shards}" for kind in ("requests", "completions")]
    return files_of(wildcards, found)


def response_flags(wildcards):
    """The same as flags of select_responses.py."""
    entry = CONFIG["datasets"][wildcards.dataset]
    flags = [f"--step {dataset_folder(wildcards)}/respond", f"--shards {entry['respond']['shards']}"]
    flags += [] if entry["respond"]["scorer"] is not None else ["--no-scores"]
    flags += [f"--tags {dataset_folder(wildcards)}/tag"] if entry["tag"] is not None else []
    return " ".join(flags)


def pair_flags(wildcards):
    """Which responses make a pair."""
    pairs = CONFIG["datasets"][wildcards.dataset]["preferences"]
    flags = [f"--rule {pairs['rule']}", f"--minimum-margin {pairs['minimum_margin']}", f"--seed {pairs['seed']}"]
    flags += [f"--margin {pairs['margin']}"] if pairs["margin"] is not None else []
    return " ".join(flags)


def pair_safety_flags(wildcards):
    """What no response of a pair may hold."""
    entry = CONFIG["datasets"][wildcards.dataset]
    if entry["filter"]["safety"] is None:
        return ""
    return quoted(["--safety", *finder_flags(entry)])


def selection_rules(wildcards):
    """Which rows stay, as select_responses.py reads it."""
    return json.dumps(instructions.selection_rules(CONFIG["datasets"][wildcards.dataset]))


def toy_instructions_tables(wildcards):
    """What of a toy dataset of instructions is measured beside its splits."""
    entry = CONFIG["datasets"][wildcards.dataset]
    shards = entry["respond"]["shards"]
    found = [f"instruct/completions={instructions.step_of(entry, 'instruct')['shards']}"]
    found += [f"respond/{kind}={shards}" for kind in ("requests", "completions", "scores")]
    return files_of(wildcards, [*found, *instructions.samples(entry)])


def toy_preferences_flag(wildcards):
    """Whether there are pairs."""
    return "--preferences" if instructions.samples(CONFIG["datasets"][wildcards.dataset]) else ""
