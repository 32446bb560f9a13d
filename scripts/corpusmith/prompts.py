"""Prompts are files: jinja templates of one user turn."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateSyntaxError

from corpusmith.errors import InputError


def load_prompt(path: str | Path) -> Callable[..., str]:
    """The template of a file as a function of its names; one line break at the file's end does not count.

    Raises InputError where the file is no template, or, when it is used, where it asks for a name that is not there.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        template = Environment(undefined=StrictUndefined, autoescape=False, finalize=_shown).from_string(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a prompt ({error})") from error
    except TemplateSyntaxError as error:
        raise InputError(f"{path}, line {error.lineno}: is no jinja template ({error.message})") from error

    def render(**names: Any) -> str:
        try:
            return template.render(**names)
        except Exception as error:
            # A template is a small program of the user's: whatever fails in it is bad input.
            raise InputError(
                f"{path}, line {_line(error)}: {error}; it may use {', '.join(sorted(names)) or 'no names'}"
            ) from error

    return render


def _shown(value: Any) -> Any:
    """What a template shows. Raises InputError for null: the word None is nobody's wish."""
    if value is None:
        raise InputError("what it shows here is null; guard it with {% if NAME is not none %}")
    return value


def _line(error: Exception) -> int:
    """The line of the template where it failed: jinja puts it into the traceback."""
    frames = traceback.walk_tb(error.__traceback__)
    return next((line for frame, line in frames if frame.f_code.co_filename == "<template>"), 1)


def user_turn(text: str) -> list[dict[str, str]]:
    """A conversation of one message of the user."""
    return [{"role": "user", "content": text}]
