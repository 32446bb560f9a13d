"""A release: Parquet and JSON lines of every split, a card, its picture, metadata, the resolved config and a manifest.

Before anything is written, the rows are accounted for: what each stage kept is what the next one took in, and the
ids of the pool are those of the release and of everything that was dropped, no more and no less.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from corpusmith.accounting import Account, Tally, add_up, check_chain, read_account
from corpusmith.card import Facts, front, licence_of, write_card
from corpusmith.croissant import About, write_croissant
from corpusmith.errors import InputError
from corpusmith.files import whole_folder, write_json
from corpusmith.hub_parquet import Shards, write_shards
from corpusmith.identity import ITEM_ID_BYTES
from corpusmith.layout import expand
from corpusmith.line_files import LineFiles
from corpusmith.program import Progress, log, track
from corpusmith.provenance import commit_of, environment_entry, file_entry, model_entry
from corpusmith.released import DATA, DEFAULT, RELEASES, Config
from corpusmith.score_picture import Counted, write_picture
from corpusmith.table_files import read_batches, read_rows, row_count
from corpusmith.tables import ITEM_ID, ROWS, Table

_IDS = Table("rows", ITEM_ID)
_PICTURE = "assets/scores.png"


@dataclass(frozen=True)
class Build:
    """What a release is made of.

    folder: the dataset's results; stages, side_stages, tables: entries as `expand` takes them, in the order of the way
    of the data; dropped: tables of dropped rows among them; pool: the table that items are counted from; samples:
    tables of further answers to the items; splits: name to file; card: the card's template; licence: the release's with
    what it was derived from, see `card.licence_of`; about: the user's own text for the card; repo: where the release
    will be published.
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
    licence: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""
    repo: str | None = None
    revision: str | None = None

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
    # A try is for looking at what comes out.
    minimum = build.dataset["release"]["minimum_rows"] if build.config["limit"] is None else 1
    if rows < minimum:
        raise InputError(_too_few(build, stages, rows, minimum))
    beside = add_up(read_account(path) for path in expand(build.folder, build.side_stages, ".account.json"))
    counts = [without_ids(stage) for stage in stages]
    aside = [without_ids(stage) for stage in beside]
    with whole_folder(release) as folder:
        configs = list(_configs(build, folder))
        splits = {split: configs[0].splits[split].rows if split in configs[0].splits else 0 for split in build.splits}
        text = yaml.safe_dump(dict(build.config), allow_unicode=True, sort_keys=False)
        (folder / "resolved_config.yaml").write_text(text, encoding="utf-8")
        models = {name: model_entry(path) for name, path in build.models.items()}
        commit = commit_of(Path(__file__).parent)
        means = _picture(build, configs[0], folder / _PICTURE)
        facts = Facts(
            name=build.name,
            config=build.config,
            template=build.card,
            configs=configs,
            counts=counts,
            aside=aside,
            models=models,
            commit=commit,
            results=build.folder.parent,
            licence=licence_of(build.dataset, build.licence),
            picture=_PICTURE if means else None,
            means=means,
            about=build.about,
            repo=build.repo,
            revision=build.revision,
        )
        write_card(folder / "README.md", facts)
        write_croissant(folder / "croissant.json", _about(facts), configs)
        manifest = {
            "dataset": build.name,
            "recipe": build.dataset["recipe"],
            "rows": splits,
            "licence": facts.licence,
            "commit": commit,
            "models": models,
            "environments": [environment_entry(path) for path in build.environments],
            "stages": counts,
            "side_stages": aside,
            "files": [file_entry(path, build.folder) for path in expand(build.folder, build.tables, ".parquet")],
            "release": [file_entry(path, folder) for path in sorted(folder.rglob("*")) if path.is_file()],
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


def _configs(build: Build, release: Path) -> Iterator[Config]:
    """Writes what can be loaded: the rows, as Parquet and as JSON lines, and what belongs to them; the rows first."""
    kind = RELEASES[build.dataset["recipe"]]
    kept = ROWS[build.dataset["recipe"]].kept
    counts = {split: row_count(path) for split, path in build.splits.items()}
    for split, count in counts.items():
        if count == 0:
            log.warning("split %s has no rows; it is left out, as `datasets` cannot load an empty one", split)
    filled = {split: build.splits[split] for split, count in counts.items() if count}
    answers_name, answers_table = kind.answers
    (release / "json").mkdir()

    def rows(split: str, what: str) -> Iterator[dict[str, Any]]:
        return track(read_rows(filled[split], kept), f"{what} of {split}", counts[split])

    def with_lines(split: str) -> Iterator[dict[str, Any]]:
        with LineFiles(release / "json", split) as lines:
            for row in rows(split, "rows"):
                released = {column.name: row[column.name] for column in kind.rows.columns}
                lines.write(released)
                yield released

    def answers(split: str) -> Iterator[dict[str, Any]]:
        released = np.sort(_ids_of((row["item_id"] for row in read_rows(filled[split], _IDS)), counts[split]))
        for path in expand(build.folder, build.samples, ".parquet"):
            with Progress(f"answers of {split}", row_count(path)) as progress:
                for batch in read_batches(path, answers_table, batch_size=answers_table.row_group):
                    found = _ids_of(batch.column("item_id").to_pylist(), batch.num_rows)
                    places = np.minimum(np.searchsorted(released, found), len(released) - 1)
                    yield from batch.filter(pa.array(released[places] == found)).to_pylist()
                    progress.advance(batch.num_rows)

    yield _config(release, DEFAULT, DATA, kind.rows, {split: with_lines(split) for split in filled})
    if kind.more is not None:
        name, table = kind.more
        yield _config(release, name, name, table, {split: rows(split, name) for split in filled})
    if build.samples:
        further = {split: answers(split) for split in filled}
        config = _config(release, answers_name, answers_name, answers_table, further)
        if config.splits:
            yield config


def _ids_of(ids: Iterable[str], count: int) -> np.ndarray:
    """Ids in 16 bytes each."""
    return np.fromiter(map(bytes.fromhex, ids), dtype=f"S{ITEM_ID_BYTES}", count=count)


def _config(
    release: Path, name: str, folder: str, table: Table, rows: Mapping[str, Iterable[Mapping[str, Any]]]
) -> Config:
    (release / folder).mkdir()
    written: dict[str, Shards] = {
        split: write_shards(release / folder, split, table, of_split) for split, of_split in rows.items()
    }
    return Config(name, folder, table, {split: shards for split, shards in written.items() if shards.rows})


def _picture(build: Build, config: Config, path: Path) -> dict[str, Any]:
    """Draws the picture; returns what it shows and the means, nothing where there is none to draw."""
    number = RELEASES[build.dataset["recipe"]].number
    files = [file for shards in config.splits.values() for file in shards.files]
    rejected_rows = next(iter(build.splits.values())).parent / "rejected.parquet"
    released = Counted.of(number, config.table, files)
    rejected = Counted.of(number, ROWS[build.dataset["recipe"]].rejected, [rejected_rows])
    if not write_picture(path, number, released, rejected):
        return {}
    return {"column": number.column, "released": released.mean, "rejected": rejected.mean}


def _about(facts: Facts) -> About:
    heading = front(facts)
    kind = f"A dataset made by corpusmith's {facts.dataset['recipe']} recipe."
    return About(
        name=facts.name,
        title=facts.title,
        description=facts.dataset["release"].get("description") or kind,
        licence=facts.licence["link"] or facts.licence["licence"],
        languages=heading["language"],
        keywords=heading["tags"],
        url=None if facts.repo is None else f"https://huggingface.co/datasets/{facts.repo}",
    )
