"""The Croissant metadata of a release (croissant.json): what its Parquet files are and hold, for machines.

    write_croissant(release / "croissant.json", About(name="mini", …), configs)
    -> {"@type": "sc:Dataset", "conformsTo": "http://mlcommons.org/croissant/1.1", "name": "mini",
        "distribution": [a file each, with its checksum], "recordSet": [one for each config and split]}

Names of files are relative to the metadata. Written without mlcroissant; `croissant_check` validates it with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from corpusmith.files import sha256_of, write_json
from corpusmith.released import Config

_PARQUET = "application/x-parquet"
# The context that the standard asks every 1.1 file to have.
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{
        name: f"cr:{name}"
        for name in (
            "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileObject",
            "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
            "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate",
            "separator", "source", "subField", "transform",
        )
    },
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "sc": "https://schema.org/",
}  # fmt: skip
_TYPES = {
    pa.string(): "sc:Text",
    pa.bool_(): "sc:Boolean",
    pa.float64(): "cr:Float64",
    pa.float32(): "cr:Float32",
    pa.int32(): "cr:Int32",
    pa.int64(): "cr:Int64",
}


@dataclass(frozen=True)
class About:
    """What is said of a whole release. licence: id or address; url: of its page, where that is known."""

    name: str
    title: str
    description: str
    licence: str
    languages: Sequence[str]
    keywords: Sequence[str]
    url: str | None = None


def write_croissant(path: Path, about: About, configs: Sequence[Config]) -> None:
    """Writes the metadata. The files of the configs lie below its folder."""
    write_json(path, croissant(about, configs, path.parent))


def croissant(about: About, configs: Sequence[Config], folder: Path) -> dict[str, Any]:
    """The metadata as JSON."""
    files = [path for config in configs for shards in config.splits.values() for path in shards.files]
    objects = [_file_object(path, folder) for path in files]
    # Nobody numbers releases; what tells one from another is what they hold.
    content = hashlib.sha256("".join(entry["sha256"] for entry in objects).encode()).hexdigest()[:12]
    sets = [
        {
            "@type": "cr:FileSet",
            "@id": f"{config.name}/{split}-files",
            "name": f"{config.name}/{split}-files",
            "encodingFormat": _PARQUET,
            "includes": f"{config.folder}/{split}-*.parquet",
        }
        for config in configs
        for split, shards in config.splits.items()
        if len(shards.files) > 1
    ]
    address = {} if about.url is None else {"url": about.url}
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": about.name,
        "alternateName": about.title,
        "description": about.description,
        "license": about.licence,
        **address,
        "version": f"1.0.0+{content}",
        "inLanguage": list(about.languages),
        "keywords": list(about.keywords),
        "citeAs": _cite(about),
        "distribution": [*objects, *sets],
        "recordSet": [_record_set(config, split, folder) for config in configs for split in config.splits],
    }


def _cite(about: About) -> str:
    # Braces that are not in pairs would end the entry.
    title = about.title.replace("{", "(").replace("}", ")")
    address = "" if about.url is None else f", howpublished = {{\\url{{{about.url}}}}}"
    return f"@misc{{{about.name}, title = {{{title}}}{address}}}"


def _file_object(path: Path, folder: Path) -> dict[str, Any]:
    place = path.relative_to(folder).as_posix()
    return {
        "@type": "cr:FileObject",
        "@id": place,
        "name": place,
        "contentUrl": place,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": _PARQUET,
        "sha256": sha256_of(path),
    }


def _record_set(config: Config, split: str, folder: Path) -> dict[str, Any]:
    name, files = f"{config.name}/{split}", config.splits[split].files
    kind, source = ("fileObject", files[0].relative_to(folder).as_posix())
    if len(files) > 1:
        kind, source = "fileSet", f"{name}-files"
    described = f"{config.splits[split].rows} rows of the split {split}"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": described + ("" if config.name == "default" else f", config {config.name}"),
        "field": [
            _field(name, field, {kind: {"@id": source}, "extract": {"column": field.name}})
            for field in config.table.schema
        ],
    }


def _field(parent: str, field: pa.Field, source: Mapping[str, Any], json_path: str | None = None) -> dict[str, Any]:
    """A column, or a field of one: then json_path says where in the column's values it is."""
    name, type_ = f"{parent}/{field.name}", field.type
    found: dict[str, Any] = {"@type": "cr:Field", "@id": name, "name": name}
    if field.metadata and b"meaning" in field.metadata:
        found["description"] = field.metadata[b"meaning"].decode()
    if pa.types.is_list(type_):
        found |= {"isArray": True, "arrayShape": "-1"}
        type_ = type_.value_type
    if pa.types.is_struct(type_):
        steps = [*([json_path] if json_path else [])]
        found["subField"] = [_field(name, inner, source, ".".join([*steps, inner.name])) for inner in type_]
        return found
    taken = dict(source) if json_path is None else {**source, "transform": {"jsonPath": json_path}}
    return {**found, "dataType": _TYPES[type_], "source": taken}
