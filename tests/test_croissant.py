"""The Croissant metadata of releases: valid for mlcroissant, and it reads the released rows by them."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlcroissant
import pyarrow.parquet as pq
import pytest

from corpusmith import hub_parquet
from corpusmith.croissant_check import validate
from corpusmith.errors import InputError
from corpusmith.files import read_json, write_json
from corpusmith.release import Build, write_release
from corpusmith.released import RELEASED
from small_build import Made, make
from small_maths import maths_build


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        pytest.fail("asks the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="session")
def translation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release whose train split has three files."""
    made: Made = make(tmp_path_factory.mktemp("build"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub_parquet, "BYTES_PER_FILE", 1)
        patch.setattr(RELEASED, "row_group", 2)
        made.write()
    return made.release


@pytest.fixture(scope="session")
def maths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(maths_build(tmp_path_factory.mktemp("maths")))


def write(build: Build) -> Path:
    write_release(build, build.folder / "release", build.folder / "stats.json")
    return build.folder / "release"


def row_of(record: Any, prefix: str) -> Any:
    """A record as the row that it stands for: names without those of the set, texts and numbers of Python."""
    if isinstance(record, Mapping):
        return {name.removeprefix(prefix): row_of(value, f"{name}/") for name, value in record.items()}
    if isinstance(record, list):
        return [row_of(value, prefix) for value in record]
    if isinstance(record, bytes):
        return record.decode()
    return record.item() if hasattr(record, "item") else record


FOLDERS = {"default": "data", "top_k": "top_k", "samples": "samples"}


@pytest.mark.parametrize("recipe", ["translation", "maths"])
def test_mlcroissant_finds_no_error_and_reads_the_released_rows(translation: Path, maths: Path, recipe: str) -> None:
    folder = {"translation": translation, "maths": maths}[recipe]
    path = folder / "croissant.json"
    # When a release will be published nobody knows while it is made.
    (warning,) = validate(path)
    assert "datePublished" in warning
    dataset = mlcroissant.Dataset(jsonld=path)
    sets = [record_set.uuid for record_set in dataset.metadata.record_sets]
    others = "top_k" if recipe == "translation" else "samples"
    assert sets == ["default/train", "default/test", f"{others}/train", f"{others}/test"]
    for name in sets:
        config, split = name.split("/")
        files = sorted((folder / FOLDERS[config]).glob(f"{split}-*.parquet"))
        expected = [row for file in files for row in pq.read_table(file).to_pylist()]
        found = [row_of(record, f"{name}/") for record in dataset.records(name)]
        assert len(found) > 0
        # Nested fields are named by all that they lie in.
        found = [
            {key: [named(value) for value in value] if isinstance(value, list) else value for key, value in row.items()}
            for row in found
        ]
        assert found == expected


def named(value: Any) -> Any:
    return {key.rpartition("/")[2]: inner for key, inner in value.items()} if isinstance(value, dict) else value


def test_every_parquet_file_is_listed_with_its_checksum_and_size(translation: Path) -> None:
    listed = {
        entry["contentUrl"]: entry
        for entry in read_json(translation / "croissant.json")["distribution"]
        if entry["@type"] == "cr:FileObject"
    }
    files = {path.relative_to(translation).as_posix(): path.read_bytes() for path in translation.rglob("*.parquet")}
    assert set(listed) == set(files)
    assert len(files) == 3 + 2 + 1 + 1
    for name, content in files.items():
        assert listed[name]["sha256"] == hashlib.sha256(content).hexdigest()
        assert listed[name]["contentSize"] == f"{len(content)} B"


def test_it_says_what_the_card_says(translation: Path, tmp_path: Path) -> None:
    metadata = mlcroissant.Dataset(jsonld=translation / "croissant.json").metadata
    assert (metadata.name, metadata.license) == ("mini", ["cc-by-4.0"])
    assert metadata.description == "Small, {{ but }} complete."
    assert metadata.in_language == ["en", "ko"]
    assert metadata.url is None
    build = maths_build(tmp_path)
    there = write(type(build)(**{**vars(build), "repo": "someone/sums"}))
    assert mlcroissant.Dataset(jsonld=there / "croissant.json").metadata.url.endswith("/datasets/someone/sums")


def test_the_version_changes_with_the_rows_alone(tmp_path: Path) -> None:
    def version(name: str, rows: int, about: str = "") -> str:
        from small_maths import solution

        found = [solution(number, 0.5) for number in range(rows)]
        build = maths_build(tmp_path / name, rows={"train": found, "rejected": []})
        return read_json(write(type(build)(**{**vars(build), "about": about})) / "croissant.json")["version"]

    assert version("a", 2) == version("b", 2, about="ours") != version("c", 3)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda found: found["distribution"].pop(0), "train"),
        (lambda found: found["distribution"][0].pop("contentUrl"), "content"),
        (lambda found: found["distribution"][0].update(contentUrl="data/gone.parquet"), "data/gone.parquet"),
        (lambda found: found["recordSet"][0]["field"][0].update(dataType="sc:Nothing"), "dataType"),
        (lambda found: found.pop("@context"), "croissant.json"),
    ],
)
def test_broken_metadata_is_one_error_that_names_the_file(maths: Path, tmp_path: Path, change: Any, told: str) -> None:
    folder = shutil.copytree(maths, tmp_path / "release")
    found = read_json(folder / "croissant.json")
    change(found)
    write_json(folder / "croissant.json", found)
    with pytest.raises(InputError, match=r"croissant\.json") as caught:
        validate(folder / "croissant.json")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"@type": "x"})])
def test_what_is_no_metadata_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "croissant.json").write_text(content)
    with pytest.raises(InputError, match=r"croissant\.json"):
        validate(tmp_path / "croissant.json")
    with pytest.raises(InputError, match=r"gone\.json"):
        validate(tmp_path / "gone.json")
