"""Publishing: a real client against the tests' Hub. One visible change, resumed after any loss, never an overwrite."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from conftest import ROOT
from corpusmith.files import sha256_of, write_json
from hub_objects import HangUp
from hub_server import HubServer

REPO = "someone/maths"
CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: data/test-*
---
# Maths
"""


def make_release(folder: Path, train: int, test: int = 3, shards: int = 2, word: str = "old") -> Path:
    """A release of so many rows, each of which says which release it is of; gives its manifest."""
    for split, rows, files in (("train", train, shards), ("test", test, 1)):
        for number in range(files):
            texts = [f"{word} {split} {row}" for row in range(rows) if row % files == number]
            path = folder / "data" / f"{split}-{number:05d}-of-{files:05d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            parquet.write_table(pa.table({"text": texts, "rows": [rows] * len(texts)}), path)
    (folder / "README.md").write_text(CARD)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    release = [{"path": path.relative_to(folder).as_posix(), "sha256": sha256_of(path)} for path in files]
    write_json(
        folder / "manifest.json", {"dataset": "maths", "rows": {"train": train, "test": test}, "release": release}
    )
    return folder / "manifest.json"


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


class Publisher:
    """Calls the program against the tests' Hub."""

    def __init__(self, hub: HubServer, folder: Path) -> None:
        self.hub, self.folder = hub, folder
        self.receipt = folder / "upload.json"
        self.environment = hub.environment(folder / "home", HF_TOKEN=hub.token)

    def command(self, manifest: Path, *flags: str) -> list[str]:
        return [
            *(sys.executable, str(ROOT / "scripts" / "upload.py"), "--manifest", str(manifest), "--name", "maths"),
            *("--repo", REPO, "--record", str(self.folder / "uploads.jsonl"), "--receipt", str(self.receipt), *flags),
        ]

    def run(self, manifest: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
        # As Snakemake does before it starts a job.
        self.receipt.unlink(missing_ok=True)
        env = self.environment | environment
        return subprocess.run(self.command(manifest, *flags), capture_output=True, text=True, env=env, timeout=300)

    def publish(self, manifest: Path, *flags: str) -> dict[str, Any]:
        done = self.run(manifest, *flags)
        assert done.returncode == 0, done.stderr
        receipt: dict[str, Any] = json.loads(self.receipt.read_text())
        return receipt

    def replace_by(self, folder: Path) -> str:
        """Someone else puts a folder's content in the place of what is there."""
        return self.hub.commit(REPO, folder, kind="datasets")

    def refused(self, manifest: Path, *flags: str, **environment: str) -> str:
        done = self.run(manifest, *flags, **environment)
        assert done.returncode == 1
        assert not self.receipt.exists()
        assert "Traceback" not in done.stderr
        assert self.hub.token not in done.stderr
        return done.stderr.strip().splitlines()[-1]

    def verify(self, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts" / "verify_upload.py"), str(self.receipt)]
        return subprocess.run(command, capture_output=True, text=True, env=self.environment | environment, timeout=300)

    def head(self, branch: str = "main") -> dict[str, bytes]:
        """What readers find."""
        repo = self.hub.repos["datasets", REPO]
        return {path: blob.content for path, blob in repo.commits[repo.branches[branch]].items()}


@pytest.fixture
def publisher(hub: HubServer, tmp_path: Path) -> Publisher:
    return Publisher(hub, tmp_path)


def files_of(manifest: Path) -> dict[str, bytes]:
    folder = manifest.parent
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


READING = """
import json, sys
from datasets import load_dataset, disable_progress_bars
disable_progress_bars()
repo, cache, split = sys.argv[1:4]
found = load_dataset(repo, split=None if split == "all" else split, cache_dir=cache)
splits = found if split == "all" else {split: found}
print(json.dumps({name: [rows["text"], rows["rows"]] for name, rows in ((n, d[:]) for n, d in splits.items())}))
"""


def load(publisher: Publisher, cache: Path, split: str = "all") -> dict[str, list[list[Any]]]:
    """What load_dataset gives of the repo."""
    command = [sys.executable, "-c", READING, REPO, str(cache), split]
    done = subprocess.run(command, capture_output=True, text=True, env=publisher.environment, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[list[Any]]] = json.loads(done.stdout)
    return found


def expected(train: int, test: int = 3, shards: int = 2, word: str = "old") -> dict[str, list[list[Any]]]:
    order = [row for number in range(shards) for row in range(train) if row % shards == number]
    return {
        "train": [[f"{word} train {row}" for row in order], [train] * train],
        "test": [[f"{word} test {row}" for row in range(test)], [test] * test],
    }


# --- what readers get ---


def test_a_release_is_published_and_a_later_one_replaces_it_whole(publisher: Publisher, tmp_path: Path) -> None:
    first = make_release(tmp_path / "first", train=10)
    receipt = publisher.publish(first)
    held = publisher.head()
    held.pop(".gitattributes")
    assert held == files_of(first)
    repo = publisher.hub.repos["datasets", REPO]
    assert repo.private
    assert receipt["commit"] == repo.branches["main"]
    assert receipt["rows"] == {"train": 10, "test": 3}
    assert {entry["path"] for entry in receipt["files"]} == set(held)
    for entry in receipt["files"]:
        blob = repo.commits[receipt["commit"]][entry["path"]]
        assert entry.get("sha256", blob.sha256) == blob.sha256
        assert entry.get("git_blob", blob.git) == blob.git
        assert entry["size"] == len(blob.content)
    assert load(publisher, tmp_path / "one") == expected(10)
    assert load(publisher, tmp_path / "two", "test") == {"test": expected(10)["test"]}

    # Another number of shards: files that the new release does not have are gone.
    second = make_release(tmp_path / "second", train=12, shards=3, word="new")
    later = publisher.publish(second)
    assert repo.parents[later["commit"]] == receipt["commit"], "more than one commit"
    held = publisher.head()
    held.pop(".gitattributes")
    assert held == files_of(second)
    assert load(publisher, tmp_path / "three") == expected(12, shards=3, word="new")
    done = publisher.verify()
    assert done.returncode == 0, done.stderr
    assert later["commit"] in done.stderr


def test_what_has_not_changed_is_not_sent_again(publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish(make_release(tmp_path / "first", train=10))
    sent = set(publisher.hub.uploads.sent)
    assert len(sent) == 3
    second = make_release(tmp_path / "second", train=10)
    shard = second.parent / "data" / "train-00001-of-00002.parquet"
    parquet.write_table(pa.table({"text": ["another"], "rows": [10]}), shard)
    manifest = json.loads(second.read_text())
    for entry in manifest["release"]:
        entry["sha256"] = sha256_of(second.parent / entry["path"])
    write_json(second, manifest)
    publisher.publish(second)
    assert set(publisher.hub.uploads.sent) - sent == {sha256_of(shard)}
    commits = len(publisher.hub.repos["datasets", REPO].commits)
    publisher.publish(second)
    assert len(publisher.hub.repos["datasets", REPO].commits) == commits
    assert len(publisher.hub.uploads.sent) == 4


# --- broken off ---

# Each event once, and the connection or the process ends there: before anything, between objects, before the commit,
# and after it, when nobody has told the program yet.
EVENTS = [
    ("preupload", 1), ("batch", 1), ("object", 1), ("object sent", 2), ("verify", 1), ("commit", 1), ("committed", 1),
]  # fmt: skip


@pytest.mark.slow
def test_readers_see_the_old_release_or_the_new_one_wherever_an_upload_is_killed(
    publisher: Publisher, tmp_path: Path
) -> None:
    repo_key, words = ("datasets", REPO), ["first", *(f"r{number}" for number in range(len(EVENTS)))]
    releases = [make_release(tmp_path / word, train=9 + len(word), shards=3, word=word) for word in words]
    allowed = [expected(9 + len(word), shards=3, word=word) for word in words]
    publisher.publish(releases[0])
    seen: list[Any] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            seen.append(load(publisher, tmp_path / "caches" / str(len(seen))))

    reader = threading.Thread(target=read)
    reader.start()
    killed = []
    try:
        for release, wanted in zip(releases[1:], EVENTS, strict=True):
            publisher.hub.uploads.events.clear()
            process = subprocess.Popen(publisher.command(release), env=publisher.environment, stderr=subprocess.PIPE)

            def kill(at: str, count: int, wanted: tuple[str, int] = wanted, pid: int = process.pid) -> None:
                if (at, count) == wanted:
                    killed.append(at)
                    os.kill(pid, signal.SIGKILL)
                    raise HangUp

            publisher.hub.uploads.watch = kill
            process.communicate(timeout=300)
            publisher.hub.uploads.watch = None
            assert process.returncode == -signal.SIGKILL
            receipt = publisher.publish(release)
            assert receipt["commit"] == publisher.hub.repos[repo_key].branches["main"]
    finally:
        ended.set()
        reader.join()
    seen.append(load(publisher, tmp_path / "last"))
    assert killed == [event for event, _ in EVENTS]
    assert len(seen) > 3
    order = [allowed.index(found) for found in seen]
    assert order == sorted(order)
    assert order[-1] == len(EVENTS)
    # The commit whose answer was lost is found again, and none is made beside it.
    assert len(publisher.hub.repos[repo_key].commits) == 1 + len(releases)
    # No object was sent twice.
    assert len(publisher.hub.uploads.sent) == len(set(publisher.hub.uploads.sent)) == 4 * len(releases)


@pytest.mark.parametrize("event", ["batch", "object", "verify"])
def test_a_connection_that_ends_once_is_made_again(publisher: Publisher, tmp_path: Path, event: str) -> None:
    publisher.hub.uploads.breaks[event] = 0
    manifest = make_release(tmp_path / "release", train=4)
    publisher.publish(manifest)
    held = publisher.head()
    held.pop(".gitattributes")
    assert held == files_of(manifest)


def test_a_commit_whose_answer_is_lost_is_found_by_the_next_attempt(publisher: Publisher, tmp_path: Path) -> None:
    manifest = make_release(tmp_path / "release", train=4)
    publisher.hub.uploads.breaks["committed"] = 0
    message = publisher.refused(manifest)
    assert "cannot be reached" in message
    assert "what was sent stays there" in message
    publisher.publish(manifest)
    assert len(publisher.hub.repos["datasets", REPO].commits) == 2


# --- refused ---


def test_a_wrong_or_missing_token_is_said_by_the_name_of_its_variable(publisher: Publisher, tmp_path: Path) -> None:
    manifest = make_release(tmp_path / "release", train=4)
    message = publisher.refused(manifest, HF_TOKEN="hf_of_another")
    assert "401" in message
    assert "check HF_TOKEN" in message
    assert "hf_of_another" not in message
    assert "HF_TOKEN is not set" in publisher.refused(manifest, HF_TOKEN="")
    assert "MINE is not set" in publisher.refused(manifest, "--token-variable", "MINE")
    assert publisher.hub.repos == {}


def test_a_full_quota_is_said_and_the_old_release_stays(publisher: Publisher, tmp_path: Path) -> None:
    first = make_release(tmp_path / "first", train=4)
    publisher.publish(first)
    publisher.hub.uploads.quota = sum(map(len, publisher.hub.uploads.objects.values()))
    second = make_release(tmp_path / "second", train=12, word="new")
    message = publisher.refused(second)
    assert "storage limit reached" in message
    assert "make room" in message
    held = publisher.head()
    held.pop(".gitattributes")
    assert held == files_of(first)
    publisher.hub.uploads.quota = None
    publisher.publish(second)


def test_what_someone_else_changed_is_not_overwritten(publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish(make_release(tmp_path / "first", train=4))
    repo = publisher.hub.repos["datasets", REPO]
    theirs = publisher.hub.commit(REPO, make_release(tmp_path / "theirs", train=5).parent, kind="datasets")
    second = make_release(tmp_path / "second", train=6, word="new")
    message = publisher.refused(second)
    assert theirs in message
    assert "someone-else" in message
    assert repo.branches["main"] == theirs
    publisher.publish(second, "--replaces", theirs)
    held = publisher.head()
    assert held.pop(".gitattributes", b"") == b""
    assert held == files_of(second)


def test_a_repo_with_other_files_is_not_taken_over_without_being_told(publisher: Publisher, tmp_path: Path) -> None:
    theirs = publisher.hub.commit(REPO, make_release(tmp_path / "theirs", train=5).parent, kind="datasets")
    publisher.hub.repos["datasets", REPO].private = True
    assert f"publish.replaces: {theirs}" in publisher.refused(make_release(tmp_path / "ours", train=6))


def test_a_commit_of_another_in_the_last_moment_is_a_conflict(publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish(make_release(tmp_path / "first", train=4))
    theirs = make_release(tmp_path / "theirs", train=5).parent
    publisher.hub.uploads.before_commit = lambda: [publisher.hub.commit(REPO, theirs, kind="datasets"), None][1]
    message = publisher.refused(make_release(tmp_path / "second", train=6, word="new"))
    assert "412" in message
    assert "someone changed it meanwhile" in message
    held = publisher.head()
    assert held == files_of(theirs / "manifest.json")


def test_a_private_release_does_not_go_into_a_public_repo(publisher: Publisher, tmp_path: Path) -> None:
    manifest = make_release(tmp_path / "release", train=4)
    publisher.publish(manifest)
    publisher.hub.repos["datasets", REPO].private = False
    assert "is public" in publisher.refused(make_release(tmp_path / "second", train=5))
    publisher.publish(manifest, "--public")


def test_a_release_that_was_touched_by_hand_is_not_published(publisher: Publisher, tmp_path: Path) -> None:
    manifest = make_release(tmp_path / "release", train=4)
    extra = manifest.parent / "notes.txt"
    extra.write_text("mine")
    assert "notes.txt: is not in" in publisher.refused(manifest)
    extra.unlink()
    (manifest.parent / "README.md").write_text(CARD + "more")
    assert "README.md: was changed after it was built" in publisher.refused(manifest)


# --- branches, pull requests ---


def test_a_branch_and_a_pull_request_leave_main_as_it_was(publisher: Publisher, tmp_path: Path) -> None:
    first = make_release(tmp_path / "first", train=4)
    publisher.publish(first)
    second = make_release(tmp_path / "second", train=6, word="new")
    main = publisher.hub.repos["datasets", REPO].branches["main"]
    receipt = publisher.publish(second, "--branch", "try")
    assert publisher.hub.repos["datasets", REPO].branches == {"main": main, "try": receipt["commit"]}
    assert {path for path in publisher.head("try")} - {".gitattributes"} == set(files_of(second))
    third = make_release(tmp_path / "third", train=7, word="third")
    assert publisher.publish(third, "--branch", "try")["branch"] == "try"

    publisher.hub.uploads.breaks["committed"] = 0
    publisher.refused(second, "--pull-request")
    receipt = publisher.publish(second, "--pull-request")
    assert receipt["pull_request"] == 1, "a second one was opened"
    assert publisher.hub.repos["datasets", REPO].branches["refs/pr/1"] == receipt["commit"]
    assert publisher.hub.repos["datasets", REPO].branches["main"] == main
    assert publisher.verify().returncode == 0


# --- afterwards ---


def test_verify_tells_what_changed_and_who_did_it(publisher: Publisher, tmp_path: Path) -> None:
    manifest = make_release(tmp_path / "release", train=4)
    publisher.publish(manifest)
    changed = tmp_path / "changed"
    for path, content in publisher.head().items():
        (changed / path).parent.mkdir(parents=True, exist_ok=True)
        (changed / path).write_bytes(content + b"!" if path == "data/test-00000-of-00001.parquet" else content)
    publisher.hub.commit(REPO, changed, kind="datasets")
    done = publisher.verify()
    assert done.returncode == 1
    assert "1 file differ: data/test-00000-of-00001.parquet" in done.stderr
    assert "someone-else" in done.stderr
    assert "may not see it" in publisher.verify(HF_TOKEN="hf_of_another").stderr
    publisher.receipt.unlink()
    assert "is not there; snakemake upload publishes" in publisher.verify().stderr


def test_a_model_folder_is_published_by_the_same_program(publisher: Publisher, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/base"}')
    (folder / "adapter_model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    files = [{"path": path.name, "size": path.stat().st_size, "sha256": sha256_of(path)} for path in folder.iterdir()]
    receipt = tmp_path / "receipt.json"
    write_json(
        receipt,
        {
            "name": "tuned",
            "origin": "local",
            "folder": str(folder),
            "identity": "sha256:0",
            "files": sorted(files, key=lambda entry: str(entry["path"])),
            "parameters": None,
            "dtype": None,
        },
    )
    card = tmp_path / "README.md"
    card.write_text("---\nlicense: apache-2.0\n---\n# tuned\n")
    command = publisher.command(receipt)
    command[2:4] = ["--model", str(receipt), "--card", str(card)]
    done = subprocess.run(command, capture_output=True, text=True, env=publisher.environment, timeout=300)
    assert done.returncode == 0, done.stderr
    repo = publisher.hub.repos["models", REPO]
    held = {path: blob.content for path, blob in repo.commits[repo.branches["main"]].items()}
    assert set(held) == {".gitattributes", "README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert held["README.md"] == card.read_bytes()
    assert json.loads(publisher.receipt.read_text())["kind"] == "model"


# --- which commits are ours ---


def test_a_changed_release_follows_a_commit_whose_answer_was_lost(publisher: Publisher, tmp_path: Path) -> None:
    publisher.hub.uploads.breaks["committed"] = 0
    publisher.refused(make_release(tmp_path / "first", train=4))
    second = make_release(tmp_path / "second", train=6, word="new")
    publisher.publish(second)
    assert load(publisher, tmp_path / "cache", "train") == {"train": expected(6, word="new")["train"]}


def test_a_hub_is_the_same_however_it_is_named(publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish(make_release(tmp_path / "first", train=4))
    second = make_release(tmp_path / "second", train=6, word="new")
    receipt = publisher.publish(second, "--endpoint", publisher.hub.endpoint + "/")
    assert receipt["endpoint"] == publisher.hub.endpoint


def test_a_branch_of_an_upload_that_broke_off_is_ours_when_main_has_moved_on(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.publish(make_release(tmp_path / "first", train=4))
    second = make_release(tmp_path / "second", train=6, word="new")
    publisher.hub.uploads.quota = 0
    publisher.refused(second, "--branch", "v2")
    publisher.hub.uploads.quota = None
    publisher.publish(make_release(tmp_path / "third", train=5))
    assert publisher.publish(second, "--branch", "v2")["branch"] == "v2"


def test_a_merged_pull_request_is_ours_and_main_is_what_is_verified(publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish(make_release(tmp_path / "first", train=4))
    second = make_release(tmp_path / "second", train=6, word="new")
    publisher.publish(second, "--pull-request")
    assert "is not merged" in publisher.verify().stderr
    repo = publisher.hub.repos["datasets", REPO]
    repo.merge(1)
    assert publisher.verify().returncode == 0
    third = make_release(tmp_path / "third", train=7, word="third")
    publisher.publish(third)
    publisher.replace_by(make_release(tmp_path / "theirs", train=5).parent)
    repo.private = True
    publisher.receipt.write_text(json.dumps(json.loads(publisher.receipt.read_text()) | {"pull_request": 1}))
    done = publisher.verify()
    assert done.returncode == 1
    assert "someone-else" in done.stderr


# --- before anything is sent ---


def test_what_the_hub_would_refuse_at_the_end_is_found_before_anything_is_sent(
    publisher: Publisher, tmp_path: Path
) -> None:
    manifest = make_release(tmp_path / "release", train=4)
    (manifest.parent / "README.md").write_text("---\n- no object\n---\n")
    value = json.loads(manifest.read_text())
    for entry in value["release"]:
        entry["sha256"] = sha256_of(manifest.parent / entry["path"])
    write_json(manifest, value)
    assert "does not take its YAML (no object)" in publisher.refused(manifest)
    lines = manifest.parent / "json" / "train.jsonl"
    lines.parent.mkdir()
    for number in range(31):
        lines.with_name(f"{number}.jsonl").write_bytes(b" " * 9_999_999)
    files = [path for path in manifest.parent.rglob("*") if path.is_file() and path != manifest]
    value["release"] = [{"path": str(p.relative_to(manifest.parent)), "sha256": sha256_of(p)} for p in sorted(files)]
    write_json(manifest, value)
    assert "pack JSON with gzip" in publisher.refused(manifest)
    assert publisher.hub.uploads.sent == []


def test_nothing_to_verify_is_said(publisher: Publisher) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "verify_upload.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=publisher.environment, timeout=300)
    assert done.returncode == 0
    assert "nothing is published" in done.stderr
