"""What is published: the files of a release, or of a model, each held against the checksum that was written with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpusmith.errors import InputError
from corpusmith.files import read_json, sha256_of
from corpusmith.models import folder_of, read_receipt
from corpusmith.program import Progress

_CARD = "README.md"


@dataclass(frozen=True)
class PublishedFile:
    """A file to publish. path: in the repo, with slashes; local: on this machine; size: in bytes."""

    path: str
    local: Path
    size: int
    sha256: str

    def git_blob(self) -> str:
        """What git knows the content by, and so the Hub, of files that it does not keep as large ones."""
        digest = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        with open(self.local, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()


@dataclass(frozen=True)
class Content:
    """What a repo is to hold, and nothing else. rows: by split, none for models; title: what commits call it."""

    title: str
    files: tuple[PublishedFile, ...]
    rows: Mapping[str, int]

    @property
    def digest(self) -> str:
        """Known by its paths and checksums."""
        lines = "".join(f"{file.sha256}  {file.path}\n" for file in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()


def release_content(manifest: Path, name: str) -> Content:
    """A release by its manifest, which lies in it. Raises InputError where a file is not as the manifest says."""
    folder, value = manifest.parent, read_json(manifest)
    if not isinstance(value, dict) or "release" not in value or "rows" not in value:
        raise InputError(f"{manifest}: is no manifest of a release; build it again")
    known = {entry["path"]: entry["sha256"] for entry in value["release"]}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    found -= {path for path in found if any(part.startswith(".") for part in path.split("/"))}
    for path in sorted(found - {*known, manifest.name}):
        raise InputError(f"{folder / path}: is not in {manifest}; move it away, or build the release again")
    files = _checked({**{path: folder / path for path in known}, manifest.name: manifest}, known)
    rows = {split: count for split, count in value["rows"].items() if count}
    return Content(f"{name}: {sum(rows.values()):,} rows", files, rows)


def model_content(receipt_path: Path, card: Path) -> Content:
    """A model, or an adapter, by its receipt. card: its README.md, where its folder has none."""
    receipt = read_receipt(receipt_path)
    if receipt.origin not in ("local", "built"):
        raise InputError(
            f"{receipt_path}: {receipt.name} was not built here and is no local folder: nothing to publish"
        )
    folder = folder_of(receipt)
    paths = {file.path: folder / file.path for file in receipt.files}
    paths.setdefault(_CARD, folder / _CARD if (folder / _CARD).exists() else card)
    return Content(f"{receipt.name}: model", _checked(paths, {file.path: file.sha256 for file in receipt.files}), {})


def _checked(paths: Mapping[str, Path], known: Mapping[str, str]) -> tuple[PublishedFile, ...]:
    """The files, sorted by path. known: checksums that they have to have."""
    total = sum(local.stat().st_size for local in paths.values() if local.exists())
    files = []
    with Progress("checksums", total, "bytes") as progress:
        for path, local in sorted(paths.items()):
            if not local.is_file():
                raise InputError(f"{local}: is gone; build it again")
            file = PublishedFile(path, local, local.stat().st_size, sha256_of(local))
            if known.get(path, file.sha256) != file.sha256:
                raise InputError(f"{local}: was changed after it was built; build it again, or bring it back")
            files.append(file)
            progress.advance(file.size)
    return tuple(files)


def differing(files: Iterable[PublishedFile], remote: Mapping[str, Any]) -> tuple[list[PublishedFile], list[str]]:
    """Files that a repo lacks or has otherwise, and paths that it has beside them.

    remote: the repo's files by path, as huggingface_hub's RepoFile.
    """
    changed, unknown = [], dict(remote)
    for file in files:
        there = unknown.pop(file.path, None)
        if there is None or not _same(file, there):
            changed.append(file)
    return changed, sorted(unknown)


def _same(file: PublishedFile, there: Any) -> bool:
    if there.size != file.size:
        return False
    return bool(there.lfs.sha256 == file.sha256) if there.lfs else bool(there.blob_id == file.git_blob())
