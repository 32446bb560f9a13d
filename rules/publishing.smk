"""What the rules that publish ask of the config: flags, files, places."""

from corpusmith import publish_targets
from corpusmith.licensing import model_licence, release_licence, tuning_licence, tuning_terms

# Raised by hand when what is uploaded changes: another comma in the program sends nothing anew.
UPLOAD_VERSION = 1
# A try is not published: it would take the place of the whole.
PUBLISHED = {
    kind: publish_targets.published(CONFIG, kind) if CONFIG["limit"] is None else [] for kind in publish_targets.KINDS
}
PUBLISHED_MODELS = [*PUBLISHED["models"], *PUBLISHED["tuning"]]


def upload_target(kind, wildcard):
    """Where something is published, as flags."""
    return lambda wildcards: publish_targets.upload_flags(CONFIG, kind, getattr(wildcards, wildcard))


def upload_message(kind, wildcard):
    """The same, for people."""
    return lambda wildcards: publish_targets.destination(CONFIG, kind, getattr(wildcards, wildcard))


def of_published_model(function):
    """What a function of `publish_targets` says of a model or a tuning."""
    return lambda wildcards: function(CONFIG, kind_of_model(wildcards.model), wildcards.model)


def kind_of_model(name):
    """Under which key the config has a model that is published."""
    return "tuning" if name in CONFIG["tuning"] else "models"


def uploads(wildcards):
    """What tells of each upload. A try has none."""
    if CONFIG["limit"] is not None:
        raise WorkflowError("a try with a limit is not published; leave out the limit, or copy its release yourself")
    # With what was published: where that failed to be built anew, the receipt before it is not taken for an answer.
    return [*published_things(), *upload_receipts()]


def published_things():
    """What is published."""
    return [
        *(f"{RESULTS}/{name}/release/manifest.json" for name in PUBLISHED["datasets"]),
        *(f"{RESULTS}/folders/{name}/release/manifest.json" for name in PUBLISHED["folders"]),
        *(f"{MODELS}/{name}/published.json" for name in PUBLISHED_MODELS),
    ]


def upload_receipts():
    """What tells of each upload."""
    return [
        *(f"{RESULTS}/{name}/upload.json" for name in PUBLISHED["datasets"]),
        *(f"{RESULTS}/folders/{name}/upload.json" for name in PUBLISHED["folders"]),
        *(f"{MODELS}/{name}/upload.json" for name in PUBLISHED_MODELS),
    ]


def published_model(wildcards):
    """What of a model is published: the files of a local folder, or what the build made, by its receipt."""
    if kind_of_model(wildcards.model) == "tuning":
        return tuning_places.tuning_files(CONFIG, wildcards.model)
    entry = CONFIG["models"][wildcards.model]
    return (
        publish_targets.folder_files(entry["path"]) if "path" in entry else layout.receipt_of(CONFIG, wildcards.model)
    )


def published_model_flags(wildcards):
    """The same as flags of write_model_card.py."""
    if kind_of_model(wildcards.model) == "tuning":
        folder = tuning_places.tuning_folder(CONFIG, wildcards.model)
        return f"--model {folder}/receipt.json --training {folder}/training.json"
    entry = CONFIG["models"][wildcards.model]
    if "path" in entry:
        return f"--folder {shlex.quote(entry['path'])}"
    return f"--model {layout.receipt_of(CONFIG, wildcards.model)}"


def published_model_licence(wildcards):
    """The licence for its card."""
    name = wildcards.model
    return tuning_licence(CONFIG, name) if name in CONFIG["tuning"] else model_licence(CONFIG["models"][name])


def published_model_terms(wildcards):
    """What a tuned model was made of, and what that says of its licence, as JSON for its card."""
    name = wildcards.model
    return json.dumps(tuning_terms(CONFIG, name) if name in CONFIG["tuning"] else None)


def folder_setting(key):
    """A value of the folder's config."""
    return lambda wildcards: CONFIG["folders"][wildcards.folder][key]


def folder_flags(wildcards):
    """What the card says, where the config does."""
    entry = CONFIG["folders"][wildcards.folder]
    flags = [f"--title {shlex.quote(entry['title'] or wildcards.folder)}"]
    return " ".join([*flags, *([f"--licence {shlex.quote(entry['licence'])}"] if entry["licence"] else [])])


def release_about(wildcards):
    """The user's own text for the card, in a list."""
    about = CONFIG["datasets"][wildcards.dataset]["release"]["about"]
    return edited([about] if about is not None else [])


def release_repo(wildcards):
    """Where the release is published, if it is, as flags."""
    publish = CONFIG["datasets"][wildcards.dataset]["publish"]
    if publish is None:
        return ""
    # Of a pull request readers get what it becomes.
    return f"--repo {publish['repo']}" + (f" --revision {publish['branch']}" if publish["branch"] != "main" else "")
