"""Models and sources come to the build: receipts, and downloads from a real HTTP server by the unmodified client."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from conftest import ROOT
from corpusmith.errors import InputError
from corpusmith.models import choose_files, count_parameters, describe_folder, folder_of, read_receipt, write_receipt
from hub_server import HubServer

REPO = "someone/tiny"
FOLDER_OF = "import sys; from corpusmith.models import *; print(folder_of(read_receipt(sys.argv[1])))"


def make_model(folder: Path, words: tuple[str, ...] = ("one", "two"), weight: float = 0.5) -> Path:
    """A model of 3 * 4 + 5 = 17 parameters in float32 and 2 in int64, its tokenizer, and a README."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "tiny"}\n', encoding="utf-8")
    tensors = {
        "a": numpy.full((3, 4), weight, dtype=numpy.float32),
        "b": numpy.zeros(5, dtype=numpy.float32),
        "step": numpy.zeros(2, dtype=numpy.int64),
    }
    save_file(tensors, folder / "model.safetensors")
    Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token=words[0])).save(
        str(folder / "tokenizer.json")
    )
    (folder / "README.md").write_text("# Tiny\n", encoding="utf-8")
    return folder


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


def run_program(program: str, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / program), *arguments]
    return subprocess.run(command, check=False, env=env, capture_output=True, text=True, timeout=300)


def fetch(hub: HubServer, tmp_path: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs fetch_model for the tiny model; the receipt is tmp_path/fetch.json."""
    flags = ("--name", "teacher", "--receipt", str(tmp_path / "fetch.json"), *arguments)
    return run_program("fetch_model.py", *flags, env=hub.environment(tmp_path / "home", **more))


def fetched_folder(hub: HubServer, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Asks a process without network for the fetched model's folder."""
    env = hub.environment(tmp_path / "home", HF_HUB_OFFLINE="1", PYTHONPATH=str(ROOT / "scripts"))
    command = [sys.executable, "-c", FOLDER_OF, str(tmp_path / "fetch.json")]
    return subprocess.run(command, check=False, env=env, capture_output=True, text=True, timeout=300)


def error_line(result: subprocess.CompletedProcess[str]) -> str:
    """The one line with which a program failed."""
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert lines == result.stderr.splitlines()[-1:]
    return lines[0]


# Receipts of folders


def test_describe_folder_gives_files_parameters_and_dtype(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    receipt = describe_folder(folder, "base", "built")

    assert [file["path"] for file in receipt["files"]] == ["config.json", "model.safetensors", "tokenizer.json"]
    for file in receipt["files"]:
        content = (folder / file["path"]).read_bytes()
        assert file["size"] == len(content)
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert receipt["parameters"] == 3 * 4 + 5 + 2
    assert receipt["dtype"] == "float32"


def test_dtype_is_that_of_most_parameters_over_all_shards(tmp_path: Path) -> None:
    save_file({"a": numpy.zeros((2, 3), numpy.float32)}, tmp_path / "model-00001-of-00002.safetensors")
    halves = {"b": numpy.zeros((2, 2, 2), numpy.float16), "c": numpy.array(1, numpy.float16)}
    save_file(halves, tmp_path / "model-00002-of-00002.safetensors")

    names = [path.name for path in tmp_path.iterdir()]
    assert count_parameters(tmp_path, names) == (6 + 8 + 1, "float16")


def test_weights_in_bin_files_have_no_parameters_and_an_identity(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"weights")
    receipt = describe_folder(folder, "base", "local")
    assert (receipt["parameters"], receipt["dtype"]) == (None, None)

    (folder / "pytorch_model.bin").write_bytes(b"Weights")
    assert describe_folder(folder, "base", "local")["identity"] != receipt["identity"]


def test_identity_follows_weights_and_tokenizer_only(tmp_path: Path) -> None:
    first = describe_folder(make_model(tmp_path / "model"), "base", "built")["identity"]
    assert first.startswith("sha256:")
    assert len(first) == len("sha256:") + 64

    other_place = make_model(tmp_path / "elsewhere" / "under another name")
    (other_place / "README.md").write_text("# Another text\n", encoding="utf-8")
    (other_place / "trainer_state.json").write_text('{"step": 7}', encoding="utf-8")
    (other_place / "receipt.json").write_text("{}", encoding="utf-8")
    (other_place / "checkpoint-100").mkdir()
    (other_place / "checkpoint-100" / "config.json").write_text("{}", encoding="utf-8")
    os.utime(other_place / "model.safetensors", (1, 1))
    assert describe_folder(other_place, "another", "local")["identity"] == first

    weights = bytearray((other_place / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other_place / "model.safetensors").write_bytes(weights)
    other_weights = describe_folder(other_place, "base", "built")["identity"]
    other_tokenizer = describe_folder(make_model(tmp_path / "c", words=("one", "three")), "base", "built")["identity"]
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    with_template = describe_folder(tmp_path / "model", "base", "built")["identity"]
    assert len({first, other_weights, other_tokenizer, with_template}) == 4


def test_choose_files_takes_each_weight_once() -> None:
    names = [
        ".gitattributes",
        ".cache/x.json",
        "LICENSE",
        "README.md",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "vocab.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "consolidated.safetensors",
        "pytorch_model-00001-of-00001.bin",
        "pytorch_model.bin.index.json",
        "training_args.bin",
        "model-q4.gguf",
        "tf_model.h5",
        "flax_model.msgpack",
        "original/consolidated.00.pth",
        "original/params.json",
        "onnx/config.json",
        "onnx/model.onnx",
        "modeling_tiny.py",
        "tokenizer.model",
        "1_Dense/pytorch_model.bin",
        "figure.png",
    ]
    text = ["config.json", "generation_config.json", "merges.txt", "modeling_tiny.py", "tokenizer.model", "vocab.json"]
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    assert choose_files(names) == sorted([*text, *shards, "1_Dense/pytorch_model.bin"])
    assert choose_files(names, tokenizer_only=True) == text

    only_bin = ["config.json", "pytorch_model.bin", "pytorch_model.bin.index.json", "model.gguf"]
    assert choose_files(only_bin) == only_bin[:3]
    assert choose_files(["config.json", "consolidated.safetensors"]) == ["config.json", "consolidated.safetensors"]


def test_a_model_of_comet_is_its_settings_and_its_weights() -> None:
    names = [
        ".gitattributes",
        "LICENSE",
        "README.md",
        "checkpoints/.model.ckpt.swp",
        "checkpoints/model.ckpt",
        "checkpoints/old/model.ckpt",
        "hparams.yaml",
        "results.json",
    ]
    assert choose_files(names) == ["checkpoints/model.ckpt", "hparams.yaml"]
    # Beside a config.json such files are what they always were: nothing that transformers reads.
    assert choose_files([*names, "config.json"]) == ["config.json", "results.json"]
    assert choose_files([*names[:-2], "hidden/hparams.yaml"]) == []


def test_the_encoder_of_a_comet_model_is_fetched_without_its_weights() -> None:
    names = [
        *("README.md", "config.json", "flax_model.msgpack", "model.safetensors", "onnx/config.json", "onnx/model.onnx"),
        *("onnx/tokenizer.json", "pytorch_model.bin", "rust_model.ot", "sentencepiece.bpe.model", "tf_model.h5"),
        *("tokenizer.json", "tokenizer_config.json"),
    ]
    chosen = choose_files(names, tokenizer_only=True)
    assert chosen == ["config.json", "sentencepiece.bpe.model", "tokenizer.json", "tokenizer_config.json"]


def test_built_receipt_moves_with_its_folder(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "results" / "base" / "model")
    write_receipt(tmp_path / "results" / "base" / "receipt.json", describe_folder(folder, "base", "built"))
    assert folder_of(read_receipt(tmp_path / "results" / "base" / "receipt.json")) == folder

    text = (tmp_path / "results" / "base" / "receipt.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert json.loads(text)["folder"] == "model"
    (tmp_path / "results").rename(tmp_path / "moved")
    receipt = read_receipt(tmp_path / "moved" / "base" / "receipt.json")
    assert folder_of(receipt) == tmp_path / "moved" / "base" / "model"


def test_folder_of_sees_missing_and_changed_files(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    write_receipt(tmp_path / "receipt.json", describe_folder(folder, "base", "built"))
    receipt = read_receipt(tmp_path / "receipt.json")
    tokenizer = (folder / "tokenizer.json").read_bytes()

    (folder / "tokenizer.json").write_bytes(tokenizer + b"\n")
    with pytest.raises(InputError, match=rf"tokenizer.json has {len(tokenizer) + 1:,} bytes.*delete .*receipt.json"):
        folder_of(receipt)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"base .*: tokenizer.json is missing; delete .*receipt.json and build again"):
        folder_of(receipt)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="the folder is gone"):
        folder_of(receipt)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no model receipt"),
        ("[]", "no model receipt"),
        ('{"name": "a", "origin": "local", "identity": "sha256:0"}', "'files' is missing"),
        ('{"origin": "moon"}', "not one of hub, local, built"),
    ],
)
def test_what_is_no_receipt_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "fetch.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_receipt(tmp_path / "fetch.json")
    assert str(caught.value).startswith(f"{tmp_path / 'fetch.json'}: ")
    with pytest.raises(InputError, match="there is no such model receipt"):
        read_receipt(tmp_path / "none.json")


@pytest.mark.parametrize(
    "content", [b"", b"short", b"\xff" * 20, (4).to_bytes(8, "little") + b"[12]", b"\2" + b"\0" * 7]
)
def test_a_broken_safetensors_file_is_named(tmp_path: Path, content: bytes) -> None:
    folder = make_model(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"model/model.safetensors: no whole safetensors file"):
        describe_folder(folder, "base", "local")


def test_local_folders_by_the_program(hub: HubServer, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "mine")
    assert fetch(hub, tmp_path, "--path", str(folder)).returncode == 0
    receipt = read_receipt(tmp_path / "fetch.json")
    assert (receipt.origin, receipt.repo, receipt.parameters) == ("local", None, 19)
    assert folder_of(receipt) == folder

    assert "there is no folder" in error_line(fetch(hub, tmp_path, "--path", str(tmp_path / "nowhere")))
    (folder / "config.json").unlink()
    assert "has no config.json" in error_line(fetch(hub, tmp_path, "--path", str(folder)))
    assert fetch(hub, tmp_path, "--path", str(folder), "--tokenizer-only").returncode == 0
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer" in error_line(fetch(hub, tmp_path, "--path", str(folder), "--tokenizer-only"))
    make_model(tmp_path / "unweighted")
    (tmp_path / "unweighted" / "model.safetensors").unlink()
    assert "has no weights" in error_line(fetch(hub, tmp_path, "--path", str(tmp_path / "unweighted")))


# Models of the Hub


def test_fetched_model_is_found_without_network(hub: HubServer, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "upload")
    (folder / "pytorch_model.bin").write_bytes(b"the same again")
    commit = hub.commit(REPO, folder)
    result = fetch(hub, tmp_path, "--repo", REPO)
    assert result.returncode == 0, result.stderr
    assert hub.downloads() == ["config.json", "model.safetensors", "tokenizer.json"]

    receipt = read_receipt(tmp_path / "fetch.json")
    assert (receipt.origin, receipt.revision, receipt.identity) == ("hub", commit, f"hub:{REPO}@{commit}")
    assert (receipt.parameters, receipt.dtype) == (19, "float32")
    for file in receipt.files:
        content = (folder / file.path).read_bytes()
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert str(tmp_path) not in (tmp_path / "fetch.json").read_text(encoding="utf-8")

    found = fetched_folder(hub, tmp_path)
    assert found.returncode == 0, found.stderr
    assert (Path(found.stdout.strip()) / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()
    assert not (Path(found.stdout.strip()) / "pytorch_model.bin").exists()

    shutil.rmtree(tmp_path / "home")
    lost = fetched_folder(hub, tmp_path)
    message = f"is not in the cache on this machine; delete {tmp_path / 'fetch.json'} and build again to fetch it"
    assert f"InputError: model teacher ({REPO} at {commit}) {message}" in lost.stderr


def test_receipt_pins_the_commit_when_the_branch_moves(hub: HubServer, tmp_path: Path) -> None:
    old = hub.commit(REPO, make_model(tmp_path / "old", weight=0.5))
    assert fetch(hub, tmp_path, "--repo", REPO).returncode == 0
    new = hub.commit(REPO, make_model(tmp_path / "new", weight=0.25))
    assert new != old
    assert Path(fetched_folder(hub, tmp_path).stdout.strip()).name == old

    # Another build with the pinned commit fetches nothing; one with the branch gets only what changed.
    first = (tmp_path / "fetch.json").read_bytes()
    hub.downloads()
    assert fetch(hub, tmp_path, "--repo", REPO, "--revision", old).returncode == 0
    assert (tmp_path / "fetch.json").read_bytes() == first
    assert hub.downloads() == []
    assert fetch(hub, tmp_path, "--repo", REPO).returncode == 0
    assert hub.downloads() == ["model.safetensors"]
    assert read_receipt(tmp_path / "fetch.json").identity == f"hub:{REPO}@{new}"


def test_tokenizer_only_leaves_the_weights(hub: HubServer, tmp_path: Path) -> None:
    hub.commit(REPO, make_model(tmp_path / "upload"))
    assert fetch(hub, tmp_path, "--repo", REPO, "--tokenizer-only").returncode == 0
    assert hub.downloads() == ["config.json", "tokenizer.json"]
    receipt = read_receipt(tmp_path / "fetch.json")
    assert [file.path for file in receipt.files] == ["config.json", "tokenizer.json"]
    assert (receipt.parameters, receipt.dtype) == (None, None)
    found = Path(fetched_folder(hub, tmp_path).stdout.strip())
    assert Tokenizer.from_file(str(found / "tokenizer.json")).get_vocab() == {"one": 0, "two": 1}


def test_a_model_of_comet_is_fetched(hub: HubServer, tmp_path: Path) -> None:
    folder = tmp_path / "upload"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "hparams.yaml").write_text("class_identifier: regression_metric\n", encoding="utf-8")
    (folder / "README.md").write_text("# COMET\n", encoding="utf-8")
    hub.commit(REPO, folder)
    line = error_line(fetch(hub, tmp_path, "--repo", REPO))
    assert "has hparams.yaml, as models of COMET have, but no checkpoints/*.ckpt" in line

    (folder / "checkpoints" / "model.ckpt").write_bytes(b"weights")
    commit = hub.commit(REPO, folder)
    result = fetch(hub, tmp_path, "--repo", REPO)
    assert result.returncode == 0, result.stderr
    assert hub.downloads() == ["checkpoints/model.ckpt", "hparams.yaml"]
    receipt = read_receipt(tmp_path / "fetch.json")
    assert (receipt.identity, receipt.parameters, receipt.dtype) == (f"hub:{REPO}@{commit}", None, None)
    found = Path(fetched_folder(hub, tmp_path).stdout.strip())
    assert (found / "checkpoints" / "model.ckpt").read_bytes() == b"weights"

    identity = describe_folder(folder, "judge", "local")["identity"]
    (folder / "hparams.yaml").write_text("class_identifier: ranking_metric\n", encoding="utf-8")
    assert describe_folder(folder, "judge", "local")["identity"] != identity
    assert "has no tokenizer" in error_line(fetch(hub, tmp_path, "--repo", REPO, "--tokenizer-only"))


def test_gated_model_needs_the_token_and_never_shows_it(hub: HubServer, tmp_path: Path) -> None:
    hub.commit(REPO, make_model(tmp_path / "upload"), gated=True)
    line = error_line(fetch(hub, tmp_path, "--repo", REPO))
    assert f"{REPO} is gated and HF_TOKEN is not set; accept its licence on {hub.endpoint}/{REPO}" in line

    refused = fetch(hub, tmp_path, "--repo", REPO, HF_TOKEN="hf_of_somebody_else")
    assert "the account of HF_TOKEN has no access to it" in error_line(refused)
    broken = [fetch(hub, tmp_path, "--repo", REPO, HF_TOKEN=token) for token in ("hf_of\x0bsomebody", "hf_of\u200bme")]
    for result in broken:
        assert "check HF_TOKEN for stray characters" in error_line(result)
    assert not (tmp_path / "fetch.json").exists()
    accepted = fetch(hub, tmp_path, "--repo", REPO, HF_TOKEN=hub.token)
    assert accepted.returncode == 0, accepted.stderr
    for result in (refused, *broken, accepted):
        assert "hf_" not in result.stdout + result.stderr


def test_what_cannot_be_fetched_is_said_in_one_line(hub: HubServer, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "upload")
    hub.commit(REPO, folder, sizes={"model.safetensors": 10**18})
    assert "has no repo someone/else" in error_line(fetch(hub, tmp_path, "--repo", "someone/else"))
    assert f"{REPO} has no revision 'v9'" in error_line(fetch(hub, tmp_path, "--repo", REPO, "--revision", "v9"))
    assert "give it as owner/name" in error_line(fetch(hub, tmp_path, "--repo", "a/b/c"))
    assert "HF_HUB_OFFLINE keeps" in error_line(fetch(hub, tmp_path, "--repo", REPO, HF_HUB_OFFLINE="1"))
    unreachable = error_line(fetch(hub, tmp_path, "--repo", REPO, HF_ENDPOINT="http://127.0.0.1:9"))
    assert "http://127.0.0.1:9 cannot be reached" in unreachable
    full = error_line(fetch(hub, tmp_path, "--repo", REPO))
    assert "model teacher: 1,000,000.0 TB of" in full
    assert "set HF_HOME to a larger disk" in full

    (folder / "config.json").unlink()
    hub.commit(REPO, folder)
    assert f"{REPO} at" in (line := error_line(fetch(hub, tmp_path, "--repo", REPO)))
    assert "has no config.json" in line
    assert not (tmp_path / "fetch.json").exists()


# Sources of the Hub


def make_source(folder: Path) -> Path:
    """Three English files, one of them large, and a German one."""
    for name, size in (
        ("en/a.jsonl.gz", 10),
        ("en/b.jsonl.gz", 12_000_000),
        ("en/c.jsonl.gz", 30),
        ("de/a.jsonl.gz", 40),
    ):
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / name).write_bytes(hashlib.shake_128(name.encode()).digest(size))
    (folder / "README.md").write_text("# Text\n", encoding="utf-8")
    return folder


def fetch_source(hub: HubServer, tmp_path: Path, *patterns: str) -> subprocess.CompletedProcess[str]:
    flags = ("--repo", "someone/text", "--receipt", str(tmp_path / "source.json"), "--pattern", *patterns)
    return run_program("fetch_source.py", *flags, env=hub.environment(tmp_path / "home"))


def test_fetch_source_takes_what_the_patterns_match(hub: HubServer, tmp_path: Path) -> None:
    folder = make_source(tmp_path / "upload")
    commit = hub.commit("someone/text", folder, kind="datasets")
    result = fetch_source(hub, tmp_path, "data/en/[c-z]*.gz", "data/de/a.jsonl.gz", "*/a.jsonl.gz")
    assert result.returncode == 0, result.stderr

    receipt = json.loads((tmp_path / "source.json").read_text(encoding="utf-8"))
    assert (receipt["repo"], receipt["revision"], receipt["commit"]) == ("someone/text", "main", commit)
    paths = ["data/de/a.jsonl.gz", "data/en/a.jsonl.gz", "data/en/c.jsonl.gz"]
    assert [file["path"] for file in receipt["files"]] == paths == hub.downloads()
    for file in receipt["files"]:
        content = (folder / file["path"]).read_bytes()
        assert Path(file["local"]).read_bytes() == content
        assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())

    (tmp_path / "source.json").unlink()
    for pattern in ("data/fr/*", "data/en/*.json"):
        line = error_line(fetch_source(hub, tmp_path, "data/de/*", pattern))
        assert f"no file of someone/text at {commit} matches '{pattern}'" in line
    assert not (tmp_path / "source.json").exists()


def test_a_lost_connection_goes_on_where_it_was(hub: HubServer, tmp_path: Path) -> None:
    folder = make_source(tmp_path / "upload")
    hub.commit("someone/text", folder, kind="datasets")
    hub.break_once("data/en/b.jsonl.gz", after=11_000_000)
    result = fetch_source(hub, tmp_path, "data/en/b*")
    assert result.returncode == 0, result.stderr

    # The client keeps what has come in whole pieces of 10 MiB and asks for the rest.
    ranges = [asked for method, path, asked in hub.requests if method == "GET" and path.endswith("b.jsonl.gz")]
    assert ranges == [None, f"bytes={10 * 1024 * 1024}-"]
    file = json.loads((tmp_path / "source.json").read_text(encoding="utf-8"))["files"][0]
    assert Path(file["local"]).read_bytes() == (folder / "data/en/b.jsonl.gz").read_bytes()


def test_a_failed_run_keeps_what_it_fetched(hub: HubServer, tmp_path: Path) -> None:
    hub.commit("someone/text", make_source(tmp_path / "upload"), kind="datasets")
    hub.fail_once("data/en/c.jsonl.gz")
    line = error_line(fetch_source(hub, tmp_path, "data/en/*"))
    assert "answers 500 when asked for someone/text; build again: what is fetched stays" in line
    assert not (tmp_path / "source.json").exists()
    assert hub.downloads() == [f"data/en/{name}.jsonl.gz" for name in "abc"]

    assert fetch_source(hub, tmp_path, "data/en/*").returncode == 0
    assert hub.downloads() == ["data/en/c.jsonl.gz"]
    receipt = json.loads((tmp_path / "source.json").read_text(encoding="utf-8"))
    assert [file["size"] for file in receipt["files"]] == [10, 12_000_000, 30]
