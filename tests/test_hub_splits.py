"""A split of a dataset on the Hub, by repo:config:split: which files it is, and what is said where there is none."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from hub_server import HubServer
from translation_tables import call_program

CARD = """---
configs:
- config_name: default
  data_files:
  - split: cot
    path: data/cot-*
  - split: tir
    path: data/tir-*
- config_name: extra
  data_files:
  - split: train
    path: more/*.parquet
---
# Maths
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    folder = tmp_path / "upload"
    names = ["data/cot-00000-of-00002", "data/cot-00001-of-00002", "data/tir-00000-of-00001", "more/one"]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.table({"problem": [f"What is {number} + 1?"]}), folder / f"{name}.parquet")
    (folder / "README.md").write_text(CARD)
    with HubServer() as server:
        server.commit("someone/maths", folder, kind="datasets")
        yield server


def fetch(hub: HubServer, tmp_path: Path, split: str) -> subprocess.CompletedProcess[str]:
    flags = ("--split", split, "--receipt", tmp_path / "fetch.json")
    return call_program("fetch_source.py", *flags, env=hub.environment(tmp_path / "home"))


@pytest.mark.parametrize(
    ("split", "files"),
    [
        ("default:cot", ["data/cot-00000-of-00002.parquet", "data/cot-00001-of-00002.parquet"]),
        ("default:tir", ["data/tir-00000-of-00001.parquet"]),
        ("extra:train", ["more/one.parquet"]),
    ],
)
def test_the_files_of_a_split_are_fetched_and_no_others(
    hub: HubServer, tmp_path: Path, split: str, files: list[str]
) -> None:
    done = fetch(hub, tmp_path, f"someone/maths:{split}")
    assert done.returncode == 0, done.stderr
    receipt = json.loads((tmp_path / "fetch.json").read_text())
    assert receipt["repo"] == "someone/maths"
    assert receipt["commit"] == hub.repos["datasets", "someone/maths"].branches["main"]
    assert [file["path"] for file in receipt["files"]] == files
    assert all(parquet.read_table(file["local"]).num_rows == 1 for file in receipt["files"])


@pytest.mark.parametrize(
    ("split", "named"),
    [("default:genselect", "cot, tir"), ("other:cot", "default"), ("default:", "cot, tir")],
)
def test_a_config_or_split_that_is_not_there_is_named_with_those_that_are(
    hub: HubServer, tmp_path: Path, split: str, named: str
) -> None:
    done = fetch(hub, tmp_path, f"someone/maths:{split}")
    assert done.returncode == 1
    assert named in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "fetch.json").exists()
