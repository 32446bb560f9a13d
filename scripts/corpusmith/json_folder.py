"""A folder of JSON as a release: one Parquet file per JSON file, the JSON beside, a card, a manifest.

    IN/train/a.jsonl  IN/test/b.json.gz  IN/original_README.md
    OUT/data/train_a.parquet  OUT/data/test_b.parquet  OUT/json/train/a.jsonl  OUT/json/test/b.json.gz
    OUT/README.md  OUT/manifest.json

What OUT holds depends on what IN holds, not on what it held before: files whose JSON and columns are as they were are
left alone, as to write them anew would give the same bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpusmith.accounting import Account
from corpusmith.errors import InputError
from corpusmith.files import read_json, sha256_of, sync, whole_file, write_json, write_text
from corpusmith.json_card import card, original_readme
from corpusmith.json_files import ENDINGS, BadJson, CopyingFile, open_binary
from corpusmith.json_parquet import Converted, convert, refusal, write
from corpusmith.json_schemas import NOTHING, TypesDiffer, as_json, from_json, join, writable
from corpusmith.program import Progress, log
from corpusmith.table_files import TableWriter, open_table, read_rows
from corpusmith.tables import BAD_ROWS

KIND = "json_folder"
_FORMAT = 1
# What the last whole release was, kept beside the manifest and the bad rows, which a build removes before it makes
# them anew. Hidden files are not published.
_BEFORE, _BAD_BEFORE = ".manifest-before.json", ".bad-rows-before.parquet"
# As of datasets.naming; "all" means all of them there.
_SPLIT = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_UNFIT_NAME = re.compile(r"[\x00-\x1f\x7f*?\[\]{}\\:\"<>|]")
_PLACES_SHOWN = 5


@dataclass(frozen=True)
class JsonFile:
    """A file to convert. name: its path within the folder; split, stem: what its Parquet file is named after."""

    path: Path
    name: str
    split: str
    stem: str
    beside: str

    @property
    def json(self) -> str:
        """Where a copy of it lies in the release."""
        return f"json/{self.split}/{self.beside}"

    @property
    def parquet(self) -> str:
        """Its Parquet file in the release."""
        return f"data/{self.split}_{self.stem}.parquet"


@dataclass(frozen=True)
class Folder:
    """What a folder holds: files by split, texts to be kept beside, and the text of the card."""

    files: list[JsonFile]
    texts: list[Path]
    readme: Path | None


def survey(folder: Path) -> Folder:
    """The folder's files, in the order of their names. Raises InputError for names that cannot be, or are no more one.

    Files of sub-folders of a split are its, named after their way: train/web/a.json becomes data/train_web_a.parquet.
    Hidden files are left out; of any other file that is not JSON a warning tells.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    readme = original_readme(folder)
    files, texts = [], []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") for part in parts) or not path.is_file():
            continue
        name = "/".join(parts)
        ending = next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if path.name.endswith(ending)), None)
        if ending is not None:
            split, beside = (parts[0], parts[1:]) if len(parts) > 1 else ("train", parts)
            _check_names(path, split, name)
            files.append(JsonFile(path, name, split, "_".join(beside)[: -len(ending)], "/".join(beside)))
        elif len(parts) == 1 and path.suffix in (".md", ".log"):
            texts += [path] if path != readme else []
        elif path != readme:
            log.warning("%s: is no JSON file, it is left out", path)
    if not files:
        raise InputError(f"{folder}: no JSON files in it; they end in {', '.join(ENDINGS)}")
    known: dict[str, JsonFile] = {}
    for file in files:
        other = known.setdefault(file.parquet, file)
        if other is not file:
            raise InputError(f"{other.path} and {file.path} would both become {file.parquet}; rename one")
    return Folder(sorted(files, key=lambda file: (file.split, file.name)), texts, readme)


def _check_names(path: Path, split: str, name: str) -> None:
    if not _SPLIT.fullmatch(split) or split == "all":
        raise InputError(
            f"{path}: {split!r} can be no split's name: letters, digits and _, with single dots between; rename it"
        )
    if _UNFIT_NAME.search(name):
        raise InputError(
            f"{path}: a file's name must be free of * ? [ ] {{ }} \\ : \" < > | to be published; rename it"
        )


@dataclass
class Source:
    """What is known of a file: the SHA-256 of it, rows that are kept and that were set aside, its own type."""

    sha256: str
    rows: int
    bad: int
    type: pa.DataType

    def as_json(self, file: JsonFile) -> dict[str, Any]:
        """As it stands in the manifest."""
        about = {"path": file.name, "split": file.split, "sha256": self.sha256, "rows": self.rows, "bad": self.bad}
        return about | {"schema": as_json(self.type)}


@dataclass
class _Before:
    """What an earlier run says of OUT; nothing, where there was none of this format."""

    sources: dict[str, Source]
    schemas: dict[str, pa.DataType]
    release: dict[str, str]


def _before(output: Path) -> _Before:
    """Raises InputError where OUT holds something else."""
    manifest = next((path for path in (output / _BEFORE, output / "manifest.json") if path.exists()), None)
    if manifest is None:
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise InputError(f"{output}: is not empty, and no release of a folder of JSON; name another, or delete it")
        return _Before({}, {}, {})
    found = read_json(manifest)
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise InputError(f"{manifest}: is of something else than a folder of JSON; name another --output")
    if found.get("written_by") != _written_by():
        return _Before({}, {}, {})
    try:
        sources = {
            entry["path"]: Source(entry["sha256"], entry["rows"], entry["bad"], from_json(entry["schema"]))
            for entry in found["sources"]
        }
        schemas = {split: from_json(schema) for split, schema in found["schemas"].items()}
        return _Before(sources, schemas, {entry["path"]: entry["sha256"] for entry in found["release"]})
    except (KeyError, TypeError) as error:
        raise InputError(f"{manifest}: is broken ({error!r}); delete {output} and publish again") from error


def _written_by() -> dict[str, Any]:
    # Another version writes other bytes.
    return {"format": _FORMAT, "pyarrow": pa.__version__}


def publish(
    folder: Path, output: Path, bad_rows: Path, max_bad: float, threads: int, title: str | None, licence: str | None
) -> Account:
    """Makes `output` a release of `folder`; returns the account of the rows.

    bad_rows: table for the rows that are set aside; max_bad: largest share of them in a file. Raises InputError for
    names (see `survey`), columns whose types differ within a split, too many bad rows.
    """
    if output.resolve().is_relative_to(folder.resolve()) or folder.resolve().is_relative_to(output.resolve()):
        raise InputError(f"{output}: must not lie within {folder}, nor hold it")
    if bad_rows.resolve().is_relative_to(output.resolve()):
        raise InputError(f"{bad_rows}: rows that are set aside are not for publishing; name a path outside of {output}")
    found = survey(folder)
    before = _before(output)
    output.mkdir(parents=True, exist_ok=True)
    _open(output)
    build = _Build(found, output, before, max_bad, threads)
    account = Account("json_to_parquet", "rows")
    with open_table(bad_rows, BAD_ROWS) as aside:
        build.read(aside, output / _BAD_BEFORE, account)
    schemas = build.unify()
    build.write(schemas)
    rows = {split: sum(build.sources[file.name].rows for file in files) for split, files in build.splits.items()}
    for path in found.texts:
        _copy(path, output / path.name)
    parquet = {split: [output / file.parquet for file in files] for split, files in build.splits.items()}
    write_text(
        output / "README.md",
        card(output, parquet, schemas, rows, found.readme, title or folder.resolve().name, licence),
    )
    expected = {"README.md", *(path.name for path in found.texts)}
    for file in found.files:
        expected |= {file.parquet, file.json}
    _tidy(output, expected)
    manifest = {
        "kind": KIND,
        "written_by": _written_by(),
        "rows": rows,
        "schemas": {split: as_json(type_) for split, type_ in schemas.items()},
        "sources": [build.sources[file.name].as_json(file) for file in found.files],
        "release": [_entry(output / name, name, build) for name in sorted(expected)],
    }
    _copy(bad_rows, output / _BAD_BEFORE)
    write_json(output / _BEFORE, manifest)
    write_json(output / "manifest.json", manifest)
    return account


def _open(output: Path) -> None:
    """Says that the release is not whole, so that nobody takes it for one."""
    if not (output / _BEFORE).exists():
        write_json(output / _BEFORE, {"kind": KIND})
    (output / "manifest.json").unlink(missing_ok=True)
    sync(output)


def _copy(path: Path, target: Path) -> str:
    with whole_file(target) as partial, open_binary(path) as source, open(partial, "wb") as copy:
        return CopyingFile(source, copy).finish()


def _tidy(output: Path, expected: Iterable[str]) -> None:
    """Removes what belongs to no file any more, and what was not finished when a run was killed."""
    kept = {output / name for name in [*expected, _BEFORE, _BAD_BEFORE]}
    for path in sorted(output.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept:
            log.info("%s: removed, its source is gone", path)
            path.unlink()


class _Build:
    """The state of one run."""

    def __init__(self, found: Folder, output: Path, before: _Before, max_bad: float, threads: int) -> None:
        self._output, self._before, self._max_bad, self._threads = output, before, max_bad, threads
        self.splits: dict[str, list[JsonFile]] = {}
        for file in found.files:
            self.splits.setdefault(file.split, []).append(file)
        self.sources: dict[str, Source] = {}
        # What Parquet files are written as; their checksums where they are known.
        self._written: dict[str, pa.DataType] = {}
        self.checksums: dict[str, str] = {}

    def _files(self) -> list[JsonFile]:
        return [file for files in self.splits.values() for file in files]

    def read(self, aside: TableWriter, earlier: Path, account: Account) -> None:
        """Reads what changed and writes it as it is likely to stay. earlier: table of bad rows of the run before."""
        unchanged = self._unchanged(_kept_aside(earlier))
        size = sum(file.path.stat().st_size for file in self._files() if file.name not in unchanged)
        hints: dict[str, pa.DataType | None] = {}
        for file in self._files():
            if file.name in unchanged:
                hints[file.split] = _joined(hints.get(file.split), self.sources[file.name].type)
        if unchanged:
            log.info("%d of %d files have not changed", len(unchanged), len(self._files()))
        with Progress("read JSON", size, "bytes") as progress:
            for file in self._files():
                if file.name in unchanged:
                    bad = unchanged[file.name]
                else:
                    converted = self._convert(file, hints.get(file.split), progress)
                    hints[file.split] = _joined(hints.get(file.split), converted.type)
                    bad = [_bad_row(file, row) for row in converted.bad]
                source = self.sources[file.name]
                self._check_share(file, source, bad)
                aside.write_all(bad)
                account.kept.count += source.rows
                account.dropped.count += source.bad
                account.taken.count += source.rows + source.bad
                account.reasons.update(Counter(row["reason"] for row in bad))

    def _unchanged(self, earlier: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
        """The files that an earlier run read as they are, with their bad rows."""
        found = {}
        for file in self._files():
            source = self._before.sources.get(file.name)
            bad = earlier.get(file.name, [])
            if source is None or len(bad) != source.bad or sha256_of(file.path) != source.sha256:
                continue
            if self._sha256(file.json) == source.sha256:
                self.sources[file.name], found[file.name] = source, bad
                checksum = self._sha256(file.parquet)
                if checksum is not None and checksum == self._before.release.get(file.parquet):
                    self.checksums[file.parquet] = checksum
                    self._written[file.parquet] = self._before.schemas[file.split]
                self.checksums[file.json] = source.sha256
        return found

    def _sha256(self, name: str) -> str | None:
        path = self._output / name
        return sha256_of(path) if path.is_file() else None

    def _convert(self, file: JsonFile, hint: pa.DataType | None, progress: Progress) -> Converted:
        with (
            # The next run holds it against the manifest's checksum, as an upload does.
            whole_file(self._output / file.json, lasting=False) as json_copy,
            open_binary(file.path) as raw,
            open(json_copy, "wb") as copy,
        ):
            reading = CopyingFile(raw, copy, progress.advance)
            target = self._output / file.parquet
            with whole_file(target) as partial:
                converted = convert(file.path, partial, hint=hint, file=reading, threads=self._threads)
            checksum = reading.finish()
        if converted.written is not None:
            self._written[file.parquet] = converted.written
        self.checksums[file.json] = checksum
        self.sources[file.name] = Source(checksum, converted.rows, len(converted.bad), converted.type)
        return converted

    def _check_share(self, file: JsonFile, source: Source, bad: Sequence[Mapping[str, Any]]) -> None:
        if source.bad > self._max_bad * (source.rows + source.bad):
            places = "\n".join(
                f"  line (or element) {row['line']}: {row['reason']}: {row['excerpt']:.100}"
                for row in bad[:_PLACES_SHOWN]
            )
            raise InputError(
                f"{file.path}: {source.bad:,} of {source.rows + source.bad:,} rows cannot be read, more than the share"
                f" of {self._max_bad} that --max-bad allows; repair them, or allow more. The first:\n{places}"
            )

    def unify(self) -> dict[str, pa.DataType]:
        """The type of each split's rows. Raises InputError where files differ, with file, row and column."""
        found = {}
        for split, files in self.splits.items():
            type_ = NOTHING
            for file in files:
                try:
                    type_ = join(type_, self.sources[file.name].type)
                except TypesDiffer as error:
                    raise refusal(file.path, type_, f" ({self._other(files, file)})") from error
            if not type_.num_fields:
                raise InputError(f"{files[0].path.parent}: no row of the split {split} has a column; remove its files")
            found[split] = type_
        return found

    def _other(self, files: Sequence[JsonFile], file: JsonFile) -> str:
        """The first file that this one does not go together with."""
        for other in files:
            if _joined(self.sources[other.name].type, self.sources[file.name].type) is None:
                return f"elsewhere: {other.path}"
        return "elsewhere: the files before it together"

    def write(self, schemas: Mapping[str, pa.DataType]) -> None:
        """Writes anew what was not written, or otherwise than its split is."""
        again = [
            file
            for file in self._files()
            if file.parquet not in self._written
            or not writable(self._written[file.parquet]).equals(writable(schemas[file.split]))
        ]
        if not again:
            return
        size = sum(file.path.stat().st_size for file in again)
        with Progress("write again, as other columns came", size, "bytes") as progress:
            for file in again:
                with whole_file(self._output / file.parquet) as partial, open_binary(self._output / file.json) as raw:
                    reading = CopyingFile(raw, None, progress.advance)
                    own = self.sources[file.name].type
                    write(file.path, partial, own, schemas[file.split], reading, self._threads)
                self.checksums.pop(file.parquet, None)


def _joined(first: pa.DataType | None, second: pa.DataType) -> pa.DataType | None:
    try:
        return second if first is None else join(first, second)
    except TypesDiffer:
        return None


def _bad_row(file: JsonFile, row: BadJson) -> dict[str, Any]:
    return {"file": file.name, "line": row.place, "reason": row.reason, "excerpt": row.excerpt}


def _kept_aside(table: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows that an earlier run set aside, by file; none where there is no such table."""
    found: dict[str, list[dict[str, Any]]] = {}
    if table.exists():
        for row in read_rows(table, BAD_ROWS):
            found.setdefault(row["file"], []).append(row)
    return found


def _entry(path: Path, name: str, build: _Build) -> dict[str, Any]:
    entry = {"path": name, "sha256": build.checksums.get(name) or sha256_of(path), "size": path.stat().st_size}
    return entry | ({"rows": pq.read_metadata(path).num_rows} if path.suffix == ".parquet" else {})
