"""Receipts of models: which files a model has, what it is known by, and where it lies on this machine.

A receipt is a small JSON file that the build passes around instead of a model:

    {"name": "teacher", "origin": "hub", "repo": "owner/model", "revision": "40 hexadecimal digits",
     "identity": "hub:owner/model@…", "files": [{"path", "size", "sha256"}, …],
     "parameters": 1234, "dtype": "bfloat16"}

`origin` is hub (fetched), local (a folder of the user's), built (by this build) or api (asked over HTTP). Local and
built models have a `folder` in place of `repo` and `revision`, those behind an API nothing but an identity.
`parameters` and `dtype` are null where no safetensors file tells them.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import struct
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from corpusmith.errors import InputError
from corpusmith.files import sha256_of, write_json

ORIGINS = ("hub", "local", "built", "api")
_FOLDERS = ("local", "built")

_WEIGHTS = (".safetensors", ".bin")
_TEXTS = (".json", ".model", ".txt", ".jinja", ".py", ".tiktoken", ".spm", ".bpe")
_TOKENIZERS = (".model", ".tiktoken", ".spm")
_WEIGHT_INDEX = (".safetensors.index.json", ".bin.index.json")
# The same weights for other programs: transformers and vLLM read none of these.
_DUPLICATE_FOLDERS = {"original", "onnx", "openvino", "coreml", "gguf"}
# All that COMET reads of a model of its own; no config.json lies beside them.
_COMET_SETTINGS = "hparams.yaml"
_COMET_FILE = re.compile(r"hparams\.yaml|checkpoints/[^/.][^/]*\.ckpt")
_NOT_THE_MODEL = {
    "receipt.json",
    "fetch.json",
    "trainer_state.json",
    "training_args.bin",
    "optimizer.bin",
    "scheduler.bin",
    "all_results.json",
    "train_results.json",
    "eval_results.json",
    "license.txt",
    "notice.txt",
    "readme.txt",
    "requirements.txt",
}
# https://github.com/huggingface/safetensors, "Format": 8 bytes of length, then JSON of at most 100 MB.
_LONGEST_HEADER = 100_000_000
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class ModelFile:
    """One file of a model. path: relative to the model's folder, with slashes; size: in bytes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ModelReceipt:
    """A receipt as read. `source` is the receipt's own path, `folder` an absolute one (None for hub and api)."""

    name: str
    origin: str
    repo: str | None
    revision: str | None
    identity: str
    files: tuple[ModelFile, ...]
    parameters: int | None
    dtype: str | None
    folder: Path | None
    source: Path


def choose_files(paths: Iterable[str], *, tokenizer_only: bool = False) -> list[str]:
    """The files that make up a model among all files of its folder or repo, sorted.

    Weights, configuration, tokenizer and code; of weights that are there in several formats only safetensors.
    Left out: hidden files, training state, checkpoints on the way, formats that transformers and vLLM do not read.
    A model of COMET's, with hparams.yaml in place of config.json, is that and checkpoints/*.ckpt.
    tokenizer_only: no weights.
    """
    paths = sorted(paths)
    if not tokenizer_only and _is_of_comet(paths):
        return [path for path in paths if _COMET_FILE.fullmatch(path)]
    chosen, weights = [], []
    for path in paths:
        pure = PurePosixPath(path)
        folders = pure.parts[:-1]
        if any(part.startswith((".", "checkpoint-")) or part in _DUPLICATE_FOLDERS for part in folders):
            continue
        if pure.name.startswith(".") or pure.name.lower() in _NOT_THE_MODEL:
            continue
        if pure.suffix in _WEIGHTS:
            weights.append(pure)
        elif pure.suffix in _TEXTS and not (tokenizer_only and pure.name.endswith(_WEIGHT_INDEX)):
            chosen.append(path)
    if tokenizer_only:
        return chosen
    safe = [path for path in weights if path.suffix == ".safetensors"]
    # Mistral's repos hold all weights twice, once as consolidated*.safetensors for their own programs.
    standard = {path.parent for path in safe if not path.name.startswith("consolidated")}
    kept = [path for path in safe if path.parent not in standard or not path.name.startswith("consolidated")]
    with_safe = {path.parent for path in safe}
    kept += [path for path in weights if path.suffix == ".bin" and path.parent not in with_safe]
    duplicates = {str(folder / "pytorch_model.bin.index.json") for folder in with_safe}
    return sorted([path for path in chosen if path not in duplicates] + [str(path) for path in kept])


def _is_of_comet(paths: Collection[str]) -> bool:
    return _COMET_SETTINGS in paths and "config.json" not in paths


def check_complete(files: Collection[str], where: str, *, tokenizer_only: bool = False) -> None:
    """Raises InputError unless these files make up a model (or a tokenizer). where: names it in the message."""
    names = [PurePosixPath(path) for path in files]
    top = {path.name for path in names if len(path.parts) == 1}
    if tokenizer_only:
        if not any(name.startswith(("tokenizer", "vocab.")) or name.endswith(_TOKENIZERS) for name in top):
            raise InputError(f"{where} has no tokenizer (tokenizer.json, tokenizer_config.json, *.model …)")
        return
    if _is_of_comet(files):
        if not any(path.suffix == ".ckpt" for path in names):
            raise InputError(f"{where} has {_COMET_SETTINGS}, as models of COMET have, but no checkpoints/*.ckpt")
        return
    if "config.json" not in top:
        raise InputError(f"{where} has no config.json, so it is no model that transformers or vLLM can load")
    if not any(path.suffix in _WEIGHTS for path in names):
        raise InputError(f"{where} has no weights (*.safetensors or *.bin)")


def hub_identity(repo: str, commit: str) -> str:
    """What a fetched model is known by: "hub:REPO@COMMIT"."""
    return f"hub:{repo}@{commit}"


def files_identity(files: Iterable[Mapping[str, Any]]) -> str:
    """What a local or built model is known by: "sha256:…" of the sorted paths and checksums of its files."""
    state = hashlib.sha256()
    for file in sorted(files, key=lambda file: file["path"]):
        # A checksum has always 64 digits and no path holds a zero byte: no two lists run into the same bytes.
        state.update(f"{file['path']}\0{file['sha256']}".encode("utf-8", "surrogatepass"))
    return f"sha256:{state.hexdigest()}"


def describe_folder(folder: str | Path, name: str, origin: str, *, tokenizer_only: bool = False) -> dict[str, Any]:
    """The receipt of a model in a local folder, to be written by `write_receipt`.

    origin: local or built. Raises InputError if the folder is missing or holds no whole model.
    """
    if origin not in _FOLDERS:
        raise ValueError(f"a folder's origin is local or built, not {origin!r}")
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"model {name}: there is no folder {folder}; give the path of a folder with config.json")
    present = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    chosen = choose_files(present, tokenizer_only=tokenizer_only)
    check_complete(chosen, f"model {name}: the folder {folder}", tokenizer_only=tokenizer_only)
    files = [
        {"path": path, "size": (folder / path).stat().st_size, "sha256": sha256_of(folder / path)} for path in chosen
    ]
    parameters, dtype = count_parameters(folder, chosen)
    return {
        "name": name,
        "origin": origin,
        "identity": files_identity(files),
        "files": files,
        "parameters": parameters,
        "dtype": dtype,
        "folder": str(folder),
    }


def describe_files(folder: str | Path, name: str) -> dict[str, Any]:
    """The receipt of a local folder as a whole, to be published: an adapter has no config.json of its own.

    Hidden files are left out. Raises InputError where there is no file.
    """
    folder = Path(folder)
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    paths = [path for path in paths if not any(part.startswith(".") for part in path.split("/"))]
    if not paths:
        raise InputError(f"model {name}: there is nothing in {folder}; give the path of a folder with a model in it")
    files = [
        {"path": path, "size": (folder / path).stat().st_size, "sha256": sha256_of(folder / path)} for path in paths
    ]
    parameters, dtype = count_parameters(folder, paths)
    return {
        "name": name,
        "origin": "local",
        "identity": files_identity(files),
        "files": files,
        "parameters": parameters,
        "dtype": dtype,
        "folder": str(folder),
    }


def describe_api_model(name: str, identity: str) -> dict[str, Any]:
    """The receipt of a model that is asked over HTTP, to be written by `write_receipt`."""
    return {"name": name, "origin": "api", "identity": identity, "files": [], "parameters": None, "dtype": None}


def write_receipt(path: str | Path, receipt: Mapping[str, Any]) -> None:
    """Writes a receipt.

    The folder of a built model, and any folder given as a relative path, is written relative to the receipt's own,
    so that results can be moved and have the same bytes everywhere; a local folder's absolute path stays as given.
    """
    value = dict(receipt)
    if value["origin"] == "built" or (value["origin"] == "local" and not os.path.isabs(value["folder"])):
        value["folder"] = Path(os.path.relpath(value["folder"], Path(path).parent)).as_posix()
    write_json(path, value)


def read_receipt(path: str | Path) -> ModelReceipt:
    """A receipt that a program wrote. Raises InputError naming the file if it is no receipt."""
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        origin = value["origin"]
        if origin not in ORIGINS:
            raise ValueError(f"origin is {origin!r}, not one of {', '.join(ORIGINS)}")
        return ModelReceipt(
            name=value["name"],
            origin=origin,
            repo=value["repo"] if origin == "hub" else None,
            revision=value["revision"] if origin == "hub" else None,
            identity=value["identity"],
            files=tuple(ModelFile(file["path"], file["size"], file["sha256"]) for file in value["files"]),
            parameters=value["parameters"],
            dtype=value["dtype"],
            folder=Path(os.path.abspath(path.parent / value["folder"])) if origin in _FOLDERS else None,
            source=path,
        )
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such model receipt; build it first") from None
    except KeyError as error:
        raise InputError(f"{path}: no model receipt: {error} is missing; delete it and build again") from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: no model receipt ({error}); delete it and build again") from None


def folder_of(receipt: ModelReceipt) -> Path:
    """The folder with a model's files on this machine.

    Sizes are checked, checksums are not: reading 50 GB before every job would cost more than it saves.
    Raises InputError if the cache or the folder lacks a file or has another size for it.
    """
    again = f"delete {receipt.source} and build again to fetch it"
    if receipt.origin == "api":
        raise InputError(f"model {receipt.name} ({receipt.identity}) is asked over HTTP: it has no files here")
    if receipt.origin == "hub":
        what = f"model {receipt.name} ({receipt.repo} at {receipt.revision})"
        folder = _cached_folder(receipt)
        if folder is None:
            raise InputError(f"{what} is not in the cache on this machine; {again}")
    else:
        what, folder = f"model {receipt.name} ({receipt.folder})", receipt.folder
        again = f"delete {receipt.source} and build again"
        if folder is None or not folder.is_dir():
            raise InputError(f"{what}: the folder is gone; put it back, or {again}")
    for file in receipt.files:
        try:
            size = (folder / file.path).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(f"{what}: {file.path} is missing; {again}") from None
        if size != file.size:
            raise InputError(f"{what}: {file.path} has {size:,} bytes, the receipt says {file.size:,}; {again}")
    return folder


def _cached_folder(receipt: ModelReceipt) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    assert receipt.repo is not None
    try:
        # The patterns keep the cache from missing files of the repo that were never fetched on purpose.
        folder = snapshot_download(
            receipt.repo,
            revision=receipt.revision,
            local_files_only=True,
            allow_patterns=[glob.escape(file.path) for file in receipt.files],
        )
    except LocalEntryNotFoundError:
        return None
    return Path(folder)


def count_parameters(folder: Path, paths: Iterable[str]) -> tuple[int | None, str | None]:
    """Number of parameters of a model and the type that most of them have, from its safetensors headers.

    paths: the model's files, relative to `folder`. (None, None) where none of the weights is in safetensors.
    Quantised weights count as they are stored: eight of 4 bits packed into an int32 count as one.
    """
    counts: Counter[str] = Counter()
    safe = sorted(path for path in paths if path.endswith(".safetensors"))
    for path in safe:
        for dtype, count in _header_counts(folder / path).items():
            counts[dtype] += count
    if not counts:
        return None, None
    # Equal counts: the first by name, so that the order of files never decides.
    most = min(counts, key=lambda dtype: (-counts[dtype], dtype))
    return counts.total(), _DTYPES.get(most, most.lower())


def _header_counts(path: Path) -> Counter[str]:
    """Parameters by type of one safetensors file, from its header alone."""
    counts: Counter[str] = Counter()
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_LONGEST_HEADER, path.stat().st_size - 8):
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for dimension in tensor["shape"]:
                    size *= dimension
                counts[tensor["dtype"]] += size
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no whole safetensors file ({error}); make or copy it again") from None
    return counts
