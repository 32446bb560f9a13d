"""What all rules share: the checked config, the folders, the wildcards, and where conda is."""

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from corpusmith import config as corpusmith_config
from corpusmith import layout
from corpusmith.build_code import BuildCode
from corpusmith.code_digest import program_digest
from corpusmith.conda import offer_stand_in
from corpusmith.documents import local_sources
from corpusmith.errors import InputError
from corpusmith.preflight import asked_steps
from corpusmith.retrying import read_retry_mark
from corpusmith.tuning import places as tuning_places

try:
    CONFIG = corpusmith_config.resolve_config(config)
    LOCAL_SOURCES = local_sources(CONFIG["datasets"])
except InputError as error:
    raise WorkflowError(str(error)) from None

RESULTS = layout.results_folder(CONFIG)
MODELS = layout.models_folder(CONFIG)

offer_stand_in(Path(workflow.basedir) / "envs" / "bin")


pathvars:
    results=RESULTS,
    models=MODELS,
    logs=f"{RESULTS}/logs",
    benchmarks=f"{RESULTS}/benchmarks",


wildcard_constraints:
    dataset=r"[^/]+",
    model=r"[^/]+",
    step=r"[^/]+",
    shard=r"\d+-of-\d+",
    split=r"(?!rejected)[a-z][a-z0-9_]*",


# Where programs and prompts are: once the build runs, in a copy that nobody edits.
scripts = BuildCode(Path(workflow.basedir), [*layout.edited_files(CONFIG), *tuning_places.tuning_prompts(CONFIG)])


def code(program):
    """The digest of a program: what it made is rebuilt when its code changes, and only then."""
    return lambda wildcards: program_digest(program, scripts.scripts)


def running(program):
    """A program as a command calls it. A param that could depend on resources rebuilds nothing."""
    return lambda wildcards, resources: scripts.program(program(wildcards) if callable(program) else program)


def edited(paths):
    """Files that people edit, as inputs. A build reads its own copies: that `text` changes rebuilds, no date of a file."""
    return [ancient(path) for path in paths]


def text(files):
    """The digest of such files."""
    return lambda wildcards: scripts.digest(files(wildcards))


def copies(name):
    """The build's own copies of an input's files. A param that depends on input rebuilds nothing."""
    return lambda wildcards, input: [scripts.file(path) for path in input[name]]


def quoted(words):
    """Words as a part of a command."""
    return " ".join(map(shlex.quote, words))


def one_of(names):
    """A wildcard that is one of some names."""
    return "|".join(map(re.escape, names)) or "(?!)"


# --- what the config says of a dataset, a step, a model ---


def dataset_folder(wildcards):
    """The folder of the dataset's results."""
    return f"{RESULTS}/{wildcards.dataset}"


def dataset_config(*keys):
    """A value of the dataset's config."""

    def value(wildcards):
        found = CONFIG["datasets"][wildcards.dataset]
        for key in keys:
            found = found[key]
        return found

    return value


def step_config(key):
    """A value of the step's config."""
    return lambda wildcards: layout.step_of(CONFIG, wildcards.dataset, wildcards.step)[key]


def toy_config(key):
    """A value of the toy model's config."""
    return lambda wildcards: layout.entry_of(CONFIG, wildcards.model)["toy"][key]


# --- the files of a dataset ---


def files_of(wildcards, entries):
    """Tables of the dataset by their entries in the layout."""
    return [str(path) for path in layout.expand(dataset_folder(wildcards), entries, ".parquet")]


def step_tables(step, kinds):
    """Tables of all shards of a step."""

    def tables(wildcards):
        shards = layout.step_of(CONFIG, wildcards.dataset, step)["shards"]
        return files_of(wildcards, [f"{step}/{kind}={shards}" for kind in kinds])

    return tables


def split_tables(wildcards):
    """The filtered splits."""
    return files_of(wildcards, [f"filtered/{split}" for split in CONFIG["datasets"][wildcards.dataset]["splits"]])


def datasets_of(recipe):
    """The datasets of a recipe, as a wildcard."""
    return one_of(name for name, entry in CONFIG["datasets"].items() if entry["recipe"] == recipe)


def layout_of(name):
    """Entries of the layout as a param: stages, tables, dropped, asking."""
    return lambda wildcards: getattr(layout, name)(CONFIG, wildcards.dataset)


def release_tables(wildcards):
    """Every table behind a release."""
    return files_of(wildcards, layout.tables(CONFIG, wildcards.dataset))


def run_stats_tables(wildcards):
    """The tables that models and scorers made."""
    return files_of(wildcards, layout.asking(CONFIG, wildcards.dataset))


def release_card(wildcards):
    """The template of a release's card."""
    return edited([layout.card_of(CONFIG, wildcards.dataset)])


def release_models(wildcards):
    """The receipts of all models and scorers behind a release."""
    return list(layout.models_of(CONFIG, wildcards.dataset).values())


def release_environments(wildcards):
    """The environment files behind a release."""
    return edited(f"envs/{name}.yaml" for name in layout.environments(CONFIG, wildcards.dataset))


# --- the translation recipe ---


def source_files(wildcards):
    """What a dataset's sources are: files of the user's or of the Hub, releases of other datasets, the toy world's."""
    sources = CONFIG["datasets"][wildcards.dataset]["sources"]
    if "hub" in sources:
        return f"{dataset_folder(wildcards)}/sources/fetch.json"
    if "toy" in sources:
        return f"{dataset_folder(wildcards)}/sources/toy.jsonl.gz"
    if "dataset" in sources:
        return [f"{RESULTS}/{name}/release/manifest.json" for name in sources["dataset"]]
    return LOCAL_SOURCES[wildcards.dataset]


def source_flags(wildcards):
    """The same as flags of the program that reads them."""
    sources = CONFIG["datasets"][wildcards.dataset]["sources"]
    if "hub" in sources:
        return f"--fetched {source_files(wildcards)}"
    patterns = sources.get("files", [source_files(wildcards)])
    if "dataset" in sources:
        patterns = [f"{RESULTS}/{name}/release/data/*.parquet" for name in sources["dataset"]]
    return quoted(["--glob", *patterns])


def stop_flag(wildcards):
    """Whether reading stops as soon as the pool is full."""
    full = CONFIG["datasets"][wildcards.dataset]["sources"]["stop_when_full"]
    return "--stop-when-full" if full else "--no-stop-when-full"


def counting_tokenizer(wildcards):
    """The receipt of the model whose tokenizer counts."""
    return layout.counting_receipt_of(CONFIG, wildcards.dataset)


def hub_flags(wildcards):
    """What of the Hub is fetched, as flags of fetch_source.py."""
    hub = CONFIG["datasets"][wildcards.dataset]["sources"]["hub"]
    if "split" in hub:
        return f"--split {shlex.quote(hub['split'])} --revision {shlex.quote(hub['revision'])}"
    patterns = quoted(hub["files"])
    return f"--repo {shlex.quote(hub['repo'])} --revision {shlex.quote(hub['revision'])} --pattern {patterns}"


def sources_of_step(wildcards):
    """What a step asks about: the pool, or what was selected from it."""
    name = "sources/segments" if wildcards.step == "prefilter" else f"{wildcards.step}/sources"
    return f"{dataset_folder(wildcards)}/{name}.parquet"


def prompt_of(step):
    """A step's prompt file, in a list."""
    return lambda wildcards: edited([layout.step_of(CONFIG, wildcards.dataset, step or wildcards.step)["prompt"]])


def language_words(key):
    """A language as two words: code and name."""
    return lambda wildcards: [CONFIG["datasets"][wildcards.dataset][key][name] for name in ("code", "name")]


def asked_flags(wildcards):
    """How many answers a step asks for: one greedy and one sampled, n sampled, or one greedy and n sampled."""
    n = CONFIG["datasets"][wildcards.dataset]["final"]["n"]
    return {"prefilter": "--greedy --n 1", "final": f"--n {n}", "baseline": f"--greedy --n {n}"}[wildcards.step]


# --- evaluation ---

(EVALUATION_SHARD,) = layout.shard_names(layout.EVALUATION_SHARDS)


def references_of(wildcards):
    """Right translations: files of the user's, or the toy world's truth."""
    references = CONFIG["datasets"][wildcards.dataset]["evaluation"]["references"]
    return references.get("files", f"{dataset_folder(wildcards)}/evaluation/toy.jsonl.gz")


def metric_tables(wildcards):
    """The scores of an evaluation."""
    steps = layout.metric_steps(CONFIG, wildcards.dataset).values()
    return files_of(wildcards, [f"{step}/scores={layout.EVALUATION_SHARDS}" for step in steps])


# --- the store ---


def named_receipts():
    """What the config calls its models and scorers, each with its receipt, whether that is there or not."""
    return [f"{name}={layout.receipt_of(CONFIG, name)}" for name in [*CONFIG["models"], *CONFIG["scorers"]]]


def asking_tables():
    """The tables that models and scorers make, of all datasets."""
    return [
        f"{RESULTS}/{dataset}/{entry}" for dataset in CONFIG["datasets"] for entry in layout.asking(CONFIG, dataset)
    ]


def delete_flag():
    """Whether pruning removes anything: --config, which makes text of it, has a say as well as the config."""
    return "--delete" if str(CONFIG["store_prune"]["delete"]).lower() == "true" else ""


def retry_mark(kind):
    """How often the shard was made due again by retry_failed."""
    return lambda wildcards: read_retry_mark(
        f"{dataset_folder(wildcards)}/{wildcards.step}/{kind}/{wildcards.shard}.parquet"
    )


# --- preflight ---

ASKED = asked_steps(CONFIG)


def preflight_outcomes():
    """What becomes of the question to each model and scorer that datasets use."""
    return [f"{RESULTS}/logs/preflight/{dataset}/{step}/{name}.json" for name, (dataset, step) in ASKED.items()]


def preflight_answer(wildcards):
    """The folder of the answer or score."""
    return preflight_file("logs", ".answer" if wildcards.model in CONFIG["models"] else ".score")(wildcards)


def preflight_file(folder, ending):
    """A file that tells of the question to a model or scorer."""
    return lambda wildcards: (
        f"{RESULTS}/{folder}/preflight/{wildcards.dataset}/{wildcards.step}/{wildcards.model}{ending}"
    )


def this_moment(wildcards):
    """Another number in each call, so that what an earlier call left is not taken for an answer of today."""
    return time.time_ns()
