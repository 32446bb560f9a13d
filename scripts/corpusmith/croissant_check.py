"""Checks Croissant metadata with mlcroissant, the standard's own validator, and without a network.

validate(Path("release/croissant.json"))    # nothing, or an InputError with what is wrong
"""

from __future__ import annotations

from pathlib import Path

from corpusmith.errors import InputError


def validate(path: Path) -> list[str]:
    """Returns the validator's warnings, one a line. Raises InputError with its errors, or where it cannot read it.

    Structure and references are checked; the files that it names have to be there, their contents are not read.
    """
    import mlcroissant

    try:
        metadata = mlcroissant.Dataset(jsonld=path).metadata
    except mlcroissant.ValidationError as error:
        raise InputError(
            f"{path}: is no valid Croissant metadata: {_one_line(str(error))}; make the release again"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read as Croissant metadata ({_one_line(repr(error))})") from error
    missing = [
        file.content_url for file in metadata.file_objects if not (path.parent / (file.content_url or "")).is_file()
    ]
    if missing:
        raise InputError(
            f"{path}: names files that are not there: {', '.join(map(str, missing))}; make the release again"
        )
    return sorted(metadata.issues.warnings)


def _one_line(text: str) -> str:
    return " ".join(text.split())
