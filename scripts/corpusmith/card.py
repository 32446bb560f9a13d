"""The card of a release (README.md): YAML that the Hub and `datasets` read, and what people should know.

    write_card(release / "README.md", facts)

The text comes from templates/base.md.jinja, and what is a recipe's own from the recipe's template.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from corpusmith import card_text
from corpusmith.errors import InputError
from corpusmith.files import read_json
from corpusmith.program import json_object
from corpusmith.released import DEFAULT, RELEASES, Config
from corpusmith.table_files import read_rows
from corpusmith.tables import Table

TEMPLATES = Path(__file__).resolve().parent / "templates"
_SAMPLES = 3
_SECTIONS = (
    "sources.labels", "sources.pool", "sources.edges", "sources.pre_query", "prefilter", "final", "solve", "check",
    "judge", "respond", "tag", "select", "preferences", "filter",
)  # fmt: skip
# Settings that decide nothing about a row, and what the card says elsewhere.
_LEFT_OUT = ("shards", "max_failed")
_ROLES = {
    "source": "source", "dataset": "source", "model": "model", "judge": "judge", "scorer": "scorer",
}  # fmt: skip
_KNOWN_FROM = {"config": "the config", "known": "known of it", "unknown": "nobody has said"}


@dataclass(frozen=True)
class Facts:
    """What a card tells of.

    config: what determines the release; template: the recipe's; counts, aside: accounts of the stages and of those
    beside the way; models: by name, what their receipts say; results: the folder of all datasets; picture: its place in
    the release, none where there is none; means: of the
    number in it, of released and of rejected rows, and its column; licence: as
    `licence_of` gives it; about: the user's own text; repo, revision: where it will be published.
    """

    name: str
    config: Mapping[str, Any]
    template: Path
    configs: Sequence[Config]
    counts: Sequence[Mapping[str, Any]]
    aside: Sequence[Mapping[str, Any]]
    models: Mapping[str, Mapping[str, Any]]
    commit: Mapping[str, Any]
    results: Path
    licence: Mapping[str, Any]
    picture: str | None = None
    means: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""
    repo: str | None = None
    revision: str | None = None

    @property
    def dataset(self) -> Mapping[str, Any]:
        """The dataset's config."""
        found: Mapping[str, Any] = self.config["datasets"][self.name]
        return found

    @property
    def title(self) -> str:
        """The release's title, in one line."""
        return " ".join(self.dataset["release"].get("title", self.name).split())

    @property
    def default(self) -> Config:
        """The config that is loaded where none is named."""
        return next(config for config in self.configs if config.name == DEFAULT)


def licence_of(dataset: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The licence of a release with what it was derived from; without that, as the dataset's config names it."""
    nothing: dict[str, Any] = {"name": None, "link": None, "parts": [], "conflicts": [], "override": None}
    return nothing | {"licence": dataset["release"].get("licence") or "unknown"} | dict(given or {})


def read_licence(text: str) -> dict[str, Any]:
    """The flag --licence. Raises InputError where it is not what `licence_of` takes."""
    found = json_object(text, "--licence")
    if not isinstance(found.get("licence"), str):
        raise InputError(f"--licence has no text under licence: {text:.80}")
    for part in found.get("parts", []):
        missing = {"role", "name", "licence", "from"} - set(part)
        if missing:
            raise InputError(f"--licence: a part has no {', '.join(sorted(missing))}: {part!r:.200}")
    return found


def read_about(path: Path) -> str:
    """The user's own text. Raises InputError where there is none, or where it is no UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; it is to go into the card") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not in UTF-8 ({error}); save it as such") from error


def write_card(path: Path, facts: Facts) -> None:
    """Writes the card."""
    path.write_text(card(facts), encoding="utf-8")


def card(facts: Facts) -> str:
    """The card: the same text for the same facts."""
    templates = Environment(
        loader=FileSystemLoader([facts.template.parent, TEMPLATES]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name in ("inline", "cell", "plain", "fenced"):
        templates.filters[name] = getattr(card_text, name)
    licences = {
        (_ROLES.get(part["role"], part["role"]), part["name"]): part["licence"] for part in facts.licence["parts"]
    }
    limit = facts.config.get("limit")
    return templates.get_template(facts.template.name).render(
        facts=facts,
        dataset=facts.dataset,
        front=yaml.safe_dump(front(facts), allow_unicode=True, sort_keys=False, width=10**6).strip(),
        splits={name: shards.rows for name, shards in facts.default.splits.items()},
        place=json.dumps(facts.repo or "PATH/TO/release", ensure_ascii=False),
        sources=list(_sources(facts, facts.name, licences)),
        settings=list(card_text.settings(facts.dataset, _SECTIONS, _LEFT_OUT)),
        licences=licences,
        known_from=_KNOWN_FROM,
        samples=_samples(facts.default),
        folder="results" if limit is None else f"results-limit-{limit}",
        # Whether rows are of the toy world alone.
        toy=_is_toy(facts.config, facts.name),
    )


def front(facts: Facts) -> dict[str, Any]:
    """The YAML of the card."""
    kind, licence = RELEASES[facts.dataset["recipe"]], facts.licence
    heading = kind.heading(facts.dataset)
    named = {
        f"license_{key}": licence[key]
        for key in ("name", "link")
        if licence["licence"] == "other" and licence[key] is not None
    }
    return {
        "language": heading["language"],
        "license": licence["licence"],
        **named,
        "pretty_name": facts.title,
        "task_categories": heading["task_categories"],
        "size_categories": [size_category(sum(shards.rows for shards in facts.default.splits.values()))],
        "tags": heading["tags"],
        "dataset_info": [_info(config) for config in facts.configs],
        "configs": [
            {
                "config_name": config.name,
                "data_files": [
                    {"split": split, "path": f"{config.folder}/{split}-*.parquet"} for split in config.splits
                ],
                **({"default": True} if config.name == DEFAULT else {}),
            }
            for config in facts.configs
        ],
    }


def _info(config: Config) -> dict[str, Any]:
    return {
        "config_name": config.name,
        "features": features(config.table),
        "splits": [
            {"name": split, "num_bytes": shards.bytes, "num_examples": shards.rows}
            for split, shards in config.splits.items()
        ],
        "download_size": sum(shards.file_bytes for shards in config.splits.values()),
        "dataset_size": sum(shards.bytes for shards in config.splits.values()),
    }


def features(table: Table) -> list[dict[str, Any]]:
    """The columns of a table as `datasets` writes them into cards."""
    # Takes a second to import, and this is the one place that needs it.
    from datasets import Features

    found: list[dict[str, Any]] = Features.from_arrow_schema(table.schema)._to_yaml_list()
    return found


def size_category(rows: int) -> str:
    """The Hub's word for a number of rows."""
    limits = [
        (10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
        (10**8, "10M<n<100M"), (10**9, "100M<n<1B"),
    ]  # fmt: skip
    return next((name for limit, name in limits if rows < limit), "1B<n<10B")


def _sources(facts: Facts, name: str, licences: Mapping[tuple[str, str], str]) -> list[str]:
    """Where the rows of a dataset come from, one line each; of its releases that are sources, where those come from."""
    sources, lines = facts.config["datasets"][name]["sources"], []

    def line(text: str, *names: str) -> None:
        found = next((licences["source", named] for named in names if ("source", named) in licences), None)
        lines.append(text + (f", licence {card_text.inline(found)}" if found else ""))

    # Where they lie on somebody's disk is nobody's business.
    files = [PurePosixPath(pattern).name for pattern in sources.get("files", [])]
    for pattern in files:
        line(f"local files {card_text.inline(pattern)}", ", ".join(files))
    if "hub" in sources:
        hub = sources["hub"]
        repo = hub["repo"] if "repo" in hub else hub["split"].split(":")[0]
        receipt = facts.results / name / "sources" / "fetch.json"
        commit = read_json(receipt)["commit"] if receipt.is_file() else None
        at = card_text.inline(commit or hub["revision"])
        what = f", split {card_text.inline(hub['split'])}" if "split" in hub else ""
        line(f"[{card_text.plain(repo)}](https://huggingface.co/datasets/{repo}){what}, revision {at}", repo)
    if "pre_query" in sources:
        line(f"made up by {card_text.inline(sources['pre_query']['model'])} behind its bare chat template")
    if "toy" in sources:
        line("a toy world whose truth is known, made for this build and fit to try it with, not to train on", name)
    for other in sources.get("dataset", []):
        behind = "; ".join(_sources(facts, other, {}))
        line(f"the dataset {card_text.inline(other)} of the same build, which comes from {behind}", other)
    return lines


def _is_toy(config: Mapping[str, Any], name: str) -> bool:
    sources = config["datasets"][name]["sources"]
    if "pre_query" in sources:
        return "toy" in config["models"][sources["pre_query"]["model"]]
    return "toy" in sources or any(_is_toy(config, other) for other in sources.get("dataset", []))


def _samples(config: Config) -> list[dict[str, Any]]:
    """The first rows of the first split."""
    for shards in config.splits.values():
        return list(islice(read_rows(shards.files[0], config.table, batch_size=_SAMPLES), _SAMPLES))
    return []
