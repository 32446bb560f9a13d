"""A release: Parquet and JSON lines of every split, a card, the resolved config and a manifest.

Before anything is written, the rows are accounted for: what each stage kept is what the next one took in, and the
ids of the pool are those of the release and of everything that was dropped, no more and no less.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from corpusmith.accounting import Account, Tally, add_up, check_chain, read_account
from corpusmith.errors import InputError
from corpusmith.files import read_json, sha256_of, whole_folder, write_json
from corpusmith.layout import expand
from corpusmith.program import log
from corpusmith.released import RELEASES
from corpusmith.tables import ITEM_ID, ROWS, SAMPLES, Table, open_table, read_rows, row_count, write_table

_IDS = Table("rows", ITEM_ID)
# What `datasets` aims at for files on the Hub: readers open several at once, and none is unwieldy.
_BYTES_PER_FILE = 500_000_000
# Chunks that follow the content, so that a second release with a few changed rows sends only those; and an index
# of pages, so that a reader can fetch single rows.
_HUB_OPTIONS = {"use_content_defined_chunking": True, "write_page_index": True}


@dataclass(frozen=True)
class Build:
    """What a release is made of.

    folder: the dataset's results; stages, side_stages, tables: entries as `expand` takes them, in the order of the way
    of the data; dropped: tables of dropped rows among them; pool: the table that items are counted from; samples:
    tables of further answers to the items; splits: name to file; card: the card's template.
    """

    name: str
    folder: Path
    stages: Sequence[str]
    tables: Sequence[str]
    dropped: Sequence[str]
    pool: Path
    card: Path
    splits: Mapping[str, Path]
    config: Mapping[str, Any]
    models: Mapping[str, Path]
    environments: Sequence[Path]
    side_stages: Sequence[str] = ()
    samples: Sequence[str] = ()

    @property
    def dataset(self) -> Mapping[str, Any]:
        """The dataset's config."""
        return self.config["datasets"][self.name]


def account_for(build: Build) -> list[Account]:
    """The accounts of all stages and of the release, checked. Raises InputError where a row is unaccounted for."""
    stages = add_up(read_account(path) for path in expand(build.folder, build.stages, ".account.json"))
    release = Account("release")
    for path in build.splits.values():
        for row in read_rows(path, _IDS):
            release.keep(row["item_id"])
    stages.append(release)
    check_chain(stages)
    pool = tally([build.pool])
    # Before there are items, stages have counts alone; what the last of them kept is the pool.
    counted = [stage for stage in stages if stage.unit != release.unit]
    if counted and counted[-1].kept.count != pool.count:
        raise InputError(
            f"rows are unaccounted for between {counted[-1].stage} and the pool: {counted[-1].kept.count} kept,"
            f" {pool.count} in {build.pool}; delete both and build again"
        )
    out = tally(expand(build.folder, build.dropped, ".parquet"))
    out.merge(release.kept)
    if pool != out:
        raise InputError(
            f"{build.folder}: rows are unaccounted for: the pool has {pool.count}, the release and everything that was"
            f" dropped have {out.count}" + ("" if pool.count != out.count else ", not the same ones")
        )
    return stages


def tally(paths: Iterable[Path]) -> Tally:
    """Count and sum of the ids of some tables."""
    whole = Tally()
    for path in paths:
        for row in read_rows(path, _IDS):
            whole.add(row["item_id"])
    return whole


def write_release(build: Build, release: Path, stats: Path) -> int:
    """Writes the release folder whole or not at all, and the stats beside it; returns the number of rows."""
    stages = account_for(build)
    rows = stages[-1].kept.count
    minimum = build.dataset["release"]["minimum_rows"]
    if rows < minimum:
        raise InputError(_too_few(build, stages, rows, minimum))
    beside = add_up(read_account(path) for path in expand(build.folder, build.side_stages, ".account.json"))
    counts = [without_ids(stage) for stage in stages]
    aside = [without_ids(stage) for stage in beside]
    with whole_folder(release) as folder:
        splits = {name: _write_split(build, name, folder) for name in build.splits}
        text = yaml.safe_dump(dict(build.config), allow_unicode=True, sort_keys=False)
        (folder / "resolved_config.yaml").write_text(text, encoding="utf-8")
        models = {name: _model(path) for name, path in build.models.items()}
        (folder / "README.md").write_text(_card(build, counts, aside, splits, models), encoding="utf-8")
        manifest = {
            "dataset": build.name,
            "recipe": build.dataset["recipe"],
            "rows": splits,
            "commit": commit_of(Path(__file__).parent),
            "models": models,
            "environments": [_environment(path) for path in build.environments],
            "stages": counts,
            "side_stages": aside,
            "files": [_file(path, build.folder) for path in expand(build.folder, build.tables, ".parquet")],
            "release": [_file(path, folder) for path in sorted(folder.rglob("*")) if path.is_file()],
        }
        write_json(folder / "manifest.json", manifest)
    write_json(stats, [*counts, *aside])
    return rows


def _too_few(build: Build, stages: Sequence[Account], rows: int, minimum: int) -> str:
    asked = f"the release asks for at least {minimum} (release.minimum_rows)"
    lines = [f"{build.name}: {rows} rows passed, {asked}. The way down:"]
    for stage in stages[:-1]:
        ordered = sorted(stage.reasons.items(), key=lambda item: (-item[1], item[0]))
        reasons = ", ".join(f"{reason} {count}" for reason, count in ordered)
        counts = f"{stage.taken.count} {stage.unit} in, {stage.kept.count} kept"
        lines.append(f"  {stage.stage}: {counts}" + (f" ({reasons})" if reasons else ""))
    lines.append(f"Each rejected row and its reasons: {build.folder}/filtered/rejected.parquet")
    return "\n".join(lines)


def without_ids(account: Account) -> dict[str, Any]:
    """An account as stats show it: counts, reasons, tokens."""
    return {name: value for name, value in account.as_json().items() if name != "ids"}


def _write_split(build: Build, split: str, release: Path) -> int:
    """Parquet, JSON lines and what belongs to the rows of a split; returns its rows. One without rows has no files."""
    path, recipe = build.splits[split], build.dataset["recipe"]
    kind = RELEASES[recipe]
    for folder in ("data", "json"):
        (release / folder).mkdir(exist_ok=True)
    rows = row_count(path)
    if rows == 0:
        log.warning("split %s has no rows; it is left out, as `datasets` cannot load an empty one", split)
        return 0
    # A file's size is that of its rows in memory, an upper bound of what zstd leaves of it.
    files = max(1, -(-_bytes(path) // _BYTES_PER_FILE))
    per_file = -(-rows // files)
    files = -(-rows // per_file)
    source = read_rows(path, ROWS[recipe].kept)
    released_ids = set()
    with ExitStack() as stack:
        lines = stack.enter_context(open(release / "json" / f"{split}.jsonl", "w", encoding="utf-8"))
        more = None
        if kind.more is not None:
            folder, table = kind.more
            more = stack.enter_context(open_table(release / folder / f"{split}.parquet", table, **_HUB_OPTIONS))
        for number in range(files):
            name = f"{split}-{number:05d}-of-{files:05d}.parquet"
            with open_table(release / "data" / name, kind.rows, **_HUB_OPTIONS) as data:
                for row in islice(source, per_file):
                    released = {column.name: row[column.name] for column in kind.rows.columns}
                    data.write(released)
                    lines.write(json.dumps(released, ensure_ascii=False) + "\n")
                    released_ids.add(row["item_id"])
                    if more is not None:
                        more.write(row)
    for table_path in expand(build.folder, build.samples, ".parquet"):
        belonging = (row for row in read_rows(table_path, SAMPLES) if row["item_id"] in released_ids)
        write_table(release / "samples" / f"{split}.parquet", SAMPLES, belonging, **_HUB_OPTIONS)
    return rows


def _bytes(path: Path) -> int:
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path)
    return sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))


def _file(path: Path, folder: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"path": path.relative_to(folder).as_posix(), "sha256": sha256_of(path)}
    if path.suffix == ".parquet":
        entry["rows"] = row_count(path)
    elif path.suffix == ".jsonl":
        with open(path, "rb") as lines:
            entry["rows"] = sum(1 for _ in lines)
    return entry


def _model(receipt: Path) -> dict[str, Any]:
    value = read_json(receipt)
    return {name: value.get(name) for name in ("identity", "origin", "repo", "revision", "parameters", "dtype")}


def _environment(path: Path) -> dict[str, Any]:
    dependencies = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
    pins = [entry for entry in dependencies if isinstance(entry, str)]
    for entry in dependencies:
        if isinstance(entry, dict):
            pins += [pin for pin in entry["pip"] if not pin.startswith("-")]
    return {"name": path.stem, "sha256": sha256_of(path), "pins": pins}


def commit_of(folder: Path) -> dict[str, Any]:
    """The commit of the checkout that builds, and whether its tracked files differ from it; none outside of git."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True).stdout

    try:
        top = git("rev-parse", "--show-toplevel").strip()
        return {
            "id": git("rev-parse", "HEAD").strip(),
            "modified": bool(git("-C", top, "status", "--porcelain", "--untracked-files=no").strip()),
        }
    except (OSError, subprocess.CalledProcessError):
        log.warning("not a git checkout: the manifest names no commit")
        return {"id": None, "modified": None}


def _card(
    build: Build,
    counts: Sequence[Mapping[str, Any]],
    aside: Sequence[Mapping[str, Any]],
    splits: Mapping[str, int],
    models: Mapping[str, Any],
) -> str:
    templates = Environment(
        loader=FileSystemLoader(build.card.parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    dataset = build.dataset
    kind = RELEASES[dataset["recipe"]]
    heading = kind.heading(dataset)
    front = {
        "language": heading["language"],
        "license": dataset["release"]["licence"],
        "task_categories": heading["task_categories"],
        "size_categories": [size_category(sum(splits.values()))],
        "tags": heading["tags"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": name, "path": f"data/{name}-*.parquet"} for name, rows in splits.items() if rows
                ],
            }
        ],
    }
    return templates.get_template(build.card.name).render(
        front=yaml.safe_dump(front, allow_unicode=True, sort_keys=False).strip(),
        name=build.name,
        title=dataset["release"].get("title", build.name),
        dataset=dataset,
        splits=splits,
        stages=counts,
        side_stages=aside,
        models=models,
        columns=kind.rows.columns,
    )


def size_category(rows: int) -> str:
    """The Hub's word for a number of rows."""
    limits = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M")]
    return next((name for limit, name in limits if rows < limit), "10M<n<100M")
