"""What is evaluated: a whole model, or an adapter on its base, as files of this machine.

subject = find_subject("results/models/student/receipt.json", "resources/models/base/fetch.json")
subject.folder, subject.adapter     # weights of the base, folder of the adapter
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpusmith.errors import InputError
from corpusmith.files import read_json
from corpusmith.models import ModelReceipt, describe_files, folder_of, read_receipt

_ADAPTER, _TOKENIZERS = "adapter_config.json", ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")


@dataclass(frozen=True)
class Subject:
    """folder: weights; adapter: None for a whole model; tokenizer: folder with it; base: what an adapter stands on."""

    name: str
    identity: str
    folder: Path
    adapter: Path | None
    tokenizer: Path
    base: ModelReceipt | None

    @property
    def adapter_config(self) -> dict[str, Any]:
        """What PEFT says of the adapter; nothing for a whole model."""
        return {} if self.adapter is None else dict(read_json(self.adapter / _ADAPTER))

    def described(self) -> dict[str, Any]:
        """For results: which model it is."""
        base = None if self.base is None else {"name": self.base.name, "identity": self.base.identity}
        return {"name": self.name, "identity": self.identity, "base": base}


def find_subject(receipt: str | Path, base: str | Path | None = None, adapter: str | Path | None = None) -> Subject:
    """The model of a receipt, or with it a folder with an adapter.

    base: receipt of what the model stands on, where it is an adapter; adapter: a folder, whose base is then the
    receipt's model. Raises InputError where files are missing, or the adapter was trained on another base.
    """
    found = read_receipt(receipt)
    folder = folder_of(found)
    if adapter is not None:
        described = describe_files(adapter, Path(adapter).name)
        return _on_base(described["name"], described["identity"], Path(adapter), found)
    if not (folder / _ADAPTER).is_file():
        return Subject(found.name, found.identity, folder, None, folder, None)
    if base is None:
        raise InputError(f"model {found.name} ({folder}) is an adapter; give the receipt of its base with --base")
    return _on_base(found.name, found.identity, folder, read_receipt(base))


def _on_base(name: str, identity: str, folder: Path, base: ModelReceipt) -> Subject:
    if not (folder / _ADAPTER).is_file():
        raise InputError(f"{folder}: is no adapter of PEFT: it has no {_ADAPTER}")
    training = folder.parent / "training.json"
    wanted = read_json(training).get("base_identity") if training.is_file() else None
    if wanted not in (None, base.identity):
        raise InputError(
            f"model {name}: its adapter was trained on {wanted}, and the base here is {base.name} ({base.identity});"
            " give that base, or train it again"
        )
    base_folder = folder_of(base)
    has_tokenizer = any((folder / file).is_file() for file in _TOKENIZERS)
    return Subject(name, identity, base_folder, folder, folder if has_tokenizer else base_folder, base)
