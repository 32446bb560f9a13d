"""What the rules of the maths recipe, and the demo's, ask of the config: flags and files."""

from corpusmith.recipes import maths


def counting_input(wildcards):
    """The receipt of the model whose tokenizer counts, where something is counted."""
    receipt = counting_tokenizer(wildcards)
    return {"tokenizer": receipt} if receipt is not None else {}


def counting_flag(wildcards):
    """The same as a flag."""
    receipt = counting_tokenizer(wildcards)
    return f"--tokenizer-of {receipt}" if receipt is not None else ""


def limit_flag(wildcards):
    """How many rows are read at most, in a try."""
    return f"--limit {CONFIG['limit']}" if CONFIG["limit"] is not None else ""


def answer_flags(wildcards):
    """How final answers are found in solutions."""
    check = CONFIG["datasets"][wildcards.dataset]["check"]
    pattern = f" --pattern={shlex.quote(check['pattern'])}" if check["pattern"] is not None else ""
    return f"--answer {check['answer']}{pattern}"


def judged(wildcards):
    """What the config says of the judge of solutions; none where there is none."""
    return CONFIG["datasets"][wildcards.dataset]["judge"]


def verdicts_of_shard(wildcards):
    """What the judge said of a shard's solutions."""
    return f"{dataset_folder(wildcards)}/judge/completions/{wildcards.shard}.parquet" if judged(wildcards) else []


def verdict_flags(wildcards):
    """The same as flags of grade_solutions.py."""
    if not judged(wildcards):
        return ""
    accept = quoted(judged(wildcards)["accept"])
    return f"--verdicts {verdicts_of_shard(wildcards)} --accept {accept}"


def grade_tables(wildcards):
    """The grades of all problems, where they were solved."""
    solve = CONFIG["datasets"][wildcards.dataset]["solve"]
    return files_of(wildcards, [f"solve/grades={solve['shards']}"]) if solve is not None else []


def grade_flags(wildcards):
    """The same as flags of select_rows.py."""
    solve = CONFIG["datasets"][wildcards.dataset]["solve"]
    return f"--grades {dataset_folder(wildcards)}/solve/grades --shards {solve['shards']}" if solve is not None else ""


def band_flags(wildcards):
    """The pass rates that stay."""
    band = CONFIG["datasets"][wildcards.dataset]["select"]["pass_rate"]
    names = {"at_least": "--at-least", "at_most": "--at-most"}
    return " ".join(f"{flag} {band[name]}" for name, flag in names.items() if band[name] is not None)


def toy_maths_tables(wildcards):
    """What of a toy dataset of maths is measured beside its filters: its source, or the solutions that were made."""
    entry = CONFIG["datasets"][wildcards.dataset]
    found = [f"{dataset_folder(wildcards)}/sources/toy.jsonl.gz"] if "toy" in entry["sources"] else []
    if entry["solve"] is None:
        return [*found, *files_of(wildcards, ["sources/rows"])]
    shards = entry["solve"]["shards"]
    entries = ["sources/problems", f"solve/completions={shards}", f"solve/graded={shards}"]
    return [*found, *files_of(wildcards, [*entries, *([f"judge/completions={shards}"] if entry["judge"] else [])])]


def toy_maths_flags(wildcards):
    """The same as flags of measure_toy_maths.py."""
    entry = CONFIG["datasets"][wildcards.dataset]
    flags = [f"--source {dataset_folder(wildcards)}/sources/toy.jsonl.gz"] if "toy" in entry["sources"] else []
    if entry["solve"] is not None:
        flags.append(f"--shards {entry['solve']['shards']}")
        flags += [f"--accept {shlex.quote(entry['judge']['accept'][0])}"] if entry["judge"] else []
    return " ".join(flags)
