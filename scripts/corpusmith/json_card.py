"""The card of a folder of JSON: YAML for the Hub in front of the user's own text.

---
configs: …
dataset_info: …
---
what original_README.md says
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from corpusmith.card import size_category
from corpusmith.errors import InputError
from corpusmith.json_schemas import features, writable

_NAMES = ("original_README", "original_README.md", "original_README.log", "original_README.txt", "README.md")
_FRONT = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)(?:\r?\n)?---[ \t]*(?:\r?\n|$)", re.DOTALL)


def original_readme(folder: Path) -> Path | None:
    """The user's text. Raises InputError where there are several."""
    found = [folder / name for name in _NAMES if (folder / name).is_file()]
    if len(found) > 1:
        raise InputError(f"{found[0]} and {found[1]}: only one can become the card's text; remove or rename one")
    return found[0] if found else None


def card(
    folder: Path,
    files: Mapping[str, Sequence[Path]],
    types: Mapping[str, pa.DataType],
    rows: Mapping[str, int],
    readme: Path | None,
    title: str,
    licence: str | None,
) -> str:
    """The text of README.md. files, types, rows: Parquet files in `folder`, columns and number of rows by split.

    Where splits have different columns, each is a config of its own. Raises InputError where the text's YAML is broken,
    or names another licence.
    """
    own, text = _parts(readme)
    front: dict[str, Any] = {}
    if licence is not None:
        if own.get("license", licence) != licence:
            raise InputError(f"{readme}: its licence is {own['license']}, --licence says {licence}; change one")
        front["license"] = licence
    front["size_categories"] = [size_category(sum(rows.values()))]
    front |= {name: value for name, value in own.items() if name not in ("configs", "dataset_info")}
    alike = len({str(writable(type_)) for type_ in types.values()}) == 1
    groups = {"default": list(files)} if alike else {split: [split] for split in files}
    configs, infos = [], []
    for name, splits in groups.items():
        data_files = [{"split": split, "path": _patterns(folder, split, files)} for split in splits]
        configs.append({"config_name": name, "data_files": data_files})
        infos.append(_info(name, splits, files, types, rows))
    front["configs"] = configs
    front["dataset_info"] = infos if len(infos) > 1 else infos[0]
    if not text:
        listed = ", ".join(f"{rows[split]:,} rows in `{split}`" for split in files)
        text = f"# {title}\n\n{listed[:1].upper()}{listed[1:]}. `json/` holds the same rows as JSON.\n"
    return f"---\n{yaml.safe_dump(front, allow_unicode=True, sort_keys=False)}---\n\n{text}"


def _parts(readme: Path | None) -> tuple[dict[str, Any], str]:
    """The YAML and the rest of the user's text."""
    if readme is None:
        return {}, ""
    try:
        text = readme.read_text(encoding="utf-8-sig")
        front = _FRONT.match(text)
        own = yaml.safe_load(front[1]) if front else None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{readme}: is not UTF-8, or its YAML is broken ({error}); repair it") from error
    if front is None or not isinstance(own, dict | None):
        # A text may begin with a line of dashes.
        return {}, text
    return own or {}, text[front.end() :].lstrip("\r\n")


def _patterns(folder: Path, split: str, files: Mapping[str, Sequence[Path]]) -> Any:
    """One pattern, or all files where the pattern would take those of another split, too."""
    if any(other.startswith(f"{split}_") for other in files):
        return [path.relative_to(folder).as_posix() for path in files[split]]
    return f"data/{split}_*.parquet"


def _info(
    name: str,
    splits: Sequence[str],
    files: Mapping[str, Sequence[Path]],
    types: Mapping[str, pa.DataType],
    rows: Mapping[str, int],
) -> dict[str, Any]:
    sizes = {split: sum(_unpacked(path) for path in files[split]) for split in splits}
    info: dict[str, Any] = {"config_name": name} if name != "default" else {}
    return info | {
        "features": features(writable(types[splits[0]])),
        "splits": [{"name": split, "num_bytes": sizes[split], "num_examples": rows[split]} for split in splits],
        "download_size": sum(path.stat().st_size for split in splits for path in files[split]),
        "dataset_size": sum(sizes.values()),
    }


def _unpacked(path: Path) -> int:
    metadata = pq.read_metadata(path)
    return sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
