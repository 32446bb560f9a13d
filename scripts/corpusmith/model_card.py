"""The card of a model: what it is, how it is loaded, and which build made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from corpusmith.card_text import cell, plain
from corpusmith.files import read_json
from corpusmith.licences import on_the_hub
from corpusmith.models import ModelReceipt, folder_of

_TEMPLATES = Path(__file__).parent / "templates"


def model_card(
    receipt: ModelReceipt,
    licence: str,
    training: Mapping[str, Any] | None = None,
    terms: Mapping[str, Any] | None = None,
) -> str:
    """The text of README.md.

    licence: by any name, or unknown; training: the training.json of a tuning; terms: parts, what it was made of and by
    (role, name, licence, note), conflicts, what contradicts the licence, and override, the reason why it stands.
    """
    adapter = folder_of(receipt) / "adapter_config.json"
    is_adapter = adapter.exists()
    if training is not None:
        base = training["base_folder_or_repo"].partition("@")[0]
    else:
        base = read_json(adapter).get("base_model_name_or_path") if is_adapter else None
    known, own_name = on_the_hub(licence)
    front: dict[str, Any] = {
        "license": known,
        **({"license_name": own_name} if own_name is not None else {}),
        "library_name": "peft" if is_adapter else "transformers",
        "tags": ["corpusmith", *([training["method"], training["adaptation"]] if training is not None else [])],
    }
    # The Hub knows base models by owner/name; a path of this machine says nothing to it.
    if base and base.count("/") == 1 and not base.startswith((".", "/")):
        front["base_model"] = base
    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters.update(cell=cell, plain=plain)
    return templates.get_template("model.md.jinja").render(
        front=yaml.safe_dump(front, allow_unicode=True, sort_keys=False).strip(),
        model=receipt,
        adapter=is_adapter,
        training=training,
        terms=terms,
    )
