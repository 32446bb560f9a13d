"""Publishing through Snakemake: what the config names goes to the tests' Hub, once, and stale receipts are renewed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkout import Checkout, need_control
from hub_server import HubServer

pytestmark = pytest.mark.slow

ROWS = 40


@dataclass
class Published:
    """A checkout with a dataset, a folder of JSON and an adapter to publish, and the Hub that they go to."""

    checkout: Checkout
    hub: HubServer
    home: Path

    def config(self, **changes: Any) -> str:
        """The config, with changes to the dataset's release."""
        release = {"title": "Hard problems", "about": "about.md", **changes}
        config = {
            "hub": {"xet": False},
            "models": {"tuned": {"engine": "transformers", "path": "adapter", "publish": {"repo": "me/tuned"}}},
            "datasets": {
                "hard": {
                    "recipe": "maths",
                    "sources": {"files": ["problems.jsonl"], "licence": "cc-by-4.0"},
                    "splits": {"train": 0.8, "test": 0.2},
                    "release": release,
                    "publish": {"repo": "me/hard"},
                },
                "kept-here": {"recipe": "maths", "sources": {"files": ["problems.jsonl"]}},
            },
            "folders": {"notes": {"path": "notes", "licence": "mit", "publish": {"repo": "me/notes"}}},
        }
        path = self.checkout.folder / "publish.yaml"
        path.write_text(yaml.safe_dump(config))
        return str(path)

    def snakemake(self, target: str, *flags: str, check: bool = True, **changes: Any) -> str:
        return self.checkout.snakemake("--configfile", self.config(**changes), *flags, "--", target, check=check).stdout

    def files(self, kind: str, repo: str) -> dict[str, bytes]:
        found = self.hub.repos[kind, repo]
        return {path: blob.content for path, blob in found.commits[found.branches["main"]].items()}

    def load(self, repo: str, split: str) -> list[dict[str, Any]]:
        """The rows that load_dataset gives."""
        code = (
            "import sys, json; from datasets import load_dataset;"
            "print(json.dumps(load_dataset(sys.argv[1], split=sys.argv[2]).to_list()))"
        )
        environment = self.hub.environment(self.home, HF_TOKEN=self.hub.token)
        command = [sys.executable, "-c", code, repo, split]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return rows


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    need_control()
    checkout = Checkout.with_environments(tmp_path_factory, "publishing")
    folder = checkout.folder
    with open(folder / "problems.jsonl", "w") as lines:
        for number in range(ROWS):
            row = {"problem": f"What is {number} + 1?", "expected_answer": str(number + 1)}
            lines.write(json.dumps(row | {"generated_solution": f"It is {number + 1}."}) + "\n")
    (folder / "about.md").write_text("These were *hard* for us. | not a table\n")
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "me/base"}')
    (folder / "adapter" / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    for split in ("train", "test"):
        (folder / "notes" / split).mkdir(parents=True)
        (folder / "notes" / split / "a.jsonl").write_text('{"text": "one", "n": 1}\n{"text": "two", "n": 2.5}\n')
    with HubServer() as hub, pytest.MonkeyPatch.context() as patch:
        for name, value in hub.environment(folder / "home", HF_TOKEN=hub.token).items():
            patch.setenv(name, value)
        yield Published(checkout, hub, folder / "home")


def test_a_plan_names_what_would_go_where_and_sends_nothing(published: Published) -> None:
    plan = published.snakemake("upload", "-n")
    assert "upload hard to me/hard, a private repository, on main" in plan
    assert "upload notes to me/notes, a private repository, on main" in plan
    assert "upload tuned to me/tuned, a private repository, on main" in plan
    assert "kept-here" not in plan
    assert "upload" not in published.checkout.plan("--configfile", published.config())
    assert published.hub.repos == {}


def test_everything_that_is_named_is_published_once_and_what_changes_again(published: Published) -> None:
    published.snakemake("upload")
    assert set(published.hub.repos) == {("datasets", "me/hard"), ("datasets", "me/notes"), ("models", "me/tuned")}
    assert all(repo.private for repo in published.hub.repos.values())
    rows = {split: published.load("me/hard", split) for split in ("train", "test")}
    problems = [row["problem"] for split in rows.values() for row in split]
    assert sorted(problems) == sorted(f"What is {number} + 1?" for number in range(ROWS))
    assert published.load("me/notes", "test") == [{"text": "one", "n": 1.0}, {"text": "two", "n": 2.5}]
    release = published.checkout.folder / "results" / "hard" / "release"
    held = published.files("datasets", "me/hard")
    held.pop(".gitattributes")
    # Snakemake leaves hidden files of its own there.
    built = [path for path in release.rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert held == {str(path.relative_to(release)): path.read_bytes() for path in built}
    card = held["README.md"].decode()
    assert "These were *hard* for us. | not a table\n" in card
    assert 'load_dataset("me/hard", split="train")' in card
    assert "license: cc-by-4.0" in card
    # An adapter has no config.json.
    assert set(published.files("models", "me/tuned")) == {
        *(".gitattributes", "README.md", "adapter_config.json", "model.safetensors")
    }
    assert b"license: unknown" in published.files("models", "me/tuned")["README.md"]
    assert b"base_model: me/base" in published.files("models", "me/tuned")["README.md"]

    assert "Nothing to be done" in published.snakemake("upload")
    assert "is as published" in published.snakemake("verify_upload")

    sent, commits = len(published.hub.uploads.sent), len(published.hub.repos["datasets", "me/hard"].commits)
    plan = published.checkout.plan("--configfile", published.config(title="Harder problems"), "--", "upload")
    assert plan == {"release_dataset": 1, "upload_release": 1, "upload": 1}
    published.snakemake("upload", title="Harder problems")
    assert b"# Harder problems" in published.files("datasets", "me/hard")["README.md"]
    assert len(published.hub.repos["datasets", "me/hard"].commits) == commits + 1
    assert len(published.hub.uploads.sent) == sent, "the card alone has changed"


def test_a_file_that_was_added_to_a_folder_is_all_that_is_converted_and_sent(published: Published) -> None:
    published.snakemake("upload", title="Harder problems")
    data = published.checkout.folder / "results" / "folders" / "notes" / "release" / "data"
    before = {path.name: path.stat().st_mtime_ns for path in data.iterdir()}
    sent = len(published.hub.uploads.sent)
    (published.checkout.folder / "notes" / "train" / "b.json").write_text('[{"text": "three", "n": 3}]')
    published.snakemake("upload", title="Harder problems")
    after = {path.name: path.stat().st_mtime_ns for path in data.iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {"train_b.parquet"}
    assert len(published.hub.uploads.sent) == sent + 1
    assert [row["text"] for row in published.load("me/notes", "train")] == ["one", "two", "three"]


def test_a_folder_whose_columns_do_not_fit_is_no_release_until_they_do(published: Published) -> None:
    notes = published.checkout.folder / "notes" / "train"
    published.snakemake("upload", title="Harder problems")
    held = published.files("datasets", "me/notes")
    (notes / "bad.jsonl").write_text('{"text": 5, "n": 1}\n')
    for _ in range(2):
        # What failed is not taken for done the next time.
        assert "text" in published.snakemake("upload", check=False, title="Harder problems")
        assert not (published.checkout.folder / "results" / "folders" / "notes" / "release" / "manifest.json").exists()
    assert published.files("datasets", "me/notes") == held
    (notes / "bad.jsonl").unlink()
    published.snakemake("upload", title="Harder problems")
    assert published.files("datasets", "me/notes") == held


def test_a_model_that_was_trained_again_is_published_again(published: Published) -> None:
    published.snakemake("upload", title="Harder problems")
    weights = b"\x1c\0\0\0\0\0\0\0" + b'{"__metadata__":{"a":"new"}}'
    (published.checkout.folder / "adapter" / "model.safetensors").write_bytes(weights)
    published.snakemake("upload", title="Harder problems")
    assert published.files("models", "me/tuned")["model.safetensors"] == weights


def test_a_try_is_not_published(published: Published) -> None:
    said = published.snakemake("upload", "--config", "limit=5", check=False)
    assert "a try with a limit is not published" in said


def test_what_someone_changed_there_is_found_and_stops_the_next_upload(published: Published) -> None:
    published.snakemake("upload", title="Harder problems")
    theirs = published.checkout.folder / "theirs"
    for path, content in published.files("datasets", "me/hard").items():
        (theirs / path).parent.mkdir(parents=True, exist_ok=True)
        (theirs / path).write_bytes(content + b"\nmore" if path == "README.md" else content)
    published.hub.commit("me/hard", theirs, kind="datasets")
    published.hub.repos["datasets", "me/hard"].private = True
    shutil.rmtree(theirs)
    said = published.snakemake("verify_upload", title="Harder problems", check=False)
    assert "1 file differ: README.md" in said
    assert "someone-else" in said
    head = published.hub.repos["datasets", "me/hard"].branches["main"]
    said = published.snakemake("upload", title="Hardest problems", check=False)
    assert f"publish.replaces: {head}" in said
    assert published.hub.repos["datasets", "me/hard"].branches["main"] == head
