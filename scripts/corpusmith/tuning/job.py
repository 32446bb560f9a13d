"""All that a training needs to know, as one value that a file can hold: each process of several reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corpusmith.errors import InputError
from corpusmith.files import read_json, write_json
from corpusmith.identity import canonical, digest
from corpusmith.models import ModelReceipt, folder_of, read_receipt
from corpusmith.tuning.settings import VERSION

# What changes no weight, only where and how the training runs.
_AROUND = ("base", "adapter", "rows", "evaluation_rows", "state", "model", "checkpoint_minutes", "name")


@dataclass(frozen=True)
class Job:
    """A training.

    base: folder of the base; base_identity: what its files are known by; adapter: folder of an earlier tuning to go on
    with; rows, evaluation_rows: files of `tuning.tokens`, with their digests; state: folder of its checkpoints; model:
    folder for what it makes; lora, prompt: settings of the adaptation.
    """

    name: str
    method: str
    base: str
    base_name: str
    base_identity: str
    stored_dtype: str | None
    adapter: str | None
    adapter_identity: str | None
    adaptation: str
    lora: dict[str, Any]
    prompt: dict[str, Any]
    rows: str
    rows_digest: str
    evaluation_rows: str | None
    evaluation_digest: str | None
    arguments: dict[str, Any]
    max_length: int | None
    seed: int
    device: str
    dtype: str
    quantization: str
    gpus: int
    trust_remote_code: bool
    checkpoint_minutes: float
    state: str = ""
    model: str = ""

    @property
    def fingerprint(self) -> str:
        """What decides the weights: checkpoints of another one are of no use."""
        decides = {key: value for key, value in asdict(self).items() if key not in _AROUND}
        return digest(canonical(decides), str(VERSION))[:16]

    def write(self, path: str | Path) -> None:
        """Writes it for other processes."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: str | Path) -> Job:
        """One that `write` wrote."""
        return cls(**read_json(path))


def read_earlier(path: str | Path, base: ModelReceipt, adaptation: str) -> tuple[str, dict[str, Any]]:
    """Folder of the model of an earlier tuning, and its training.json.

    path: its receipt, or the folder of the tuning or of its model. Raises InputError where it was made for another
    base, in another way, or where nobody can tell.
    """
    if adaptation == "prompt":
        # PEFT loads one to be used, and not to be trained.
        raise InputError(f"{path}: a prompt cannot be gone on with; leave it out, or train a longer one at once")
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    # The folder of the tuning, or of the model in it.
    record = next((found / "training.json" for found in (folder, folder.parent) if _has_record(found)), None)
    if record is None:
        raise InputError(f"{path}: there is no training.json beside it that says what its base is; name another")
    training = read_json(record)
    model = folder_of(read_receipt(record.parent / "receipt.json"))
    if training["base_identity"] != base.identity:
        raise InputError(
            f"{path}: was made for {training['base']} ({training['base_identity']}), and the base is {base.name}"
            f" ({base.identity}); take its own base, or another adapter"
        )
    if training["adaptation"] != adaptation:
        raise InputError(
            f"{path}: its adaptation is {training['adaptation']}, and this tuning's {adaptation}; a tuning goes on with"
            " one of its own kind"
        )
    return str(model), training


def _has_record(folder: Path) -> bool:
    return (folder / "training.json").is_file()
