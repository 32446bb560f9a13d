"""Prompts and requests: what is asked, and what is no question."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from conftest import ROOT
from corpusmith.errors import InputError
from corpusmith.prompts import load_prompt, user_turn
from corpusmith.requests import request
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import REQUESTS
from corpusmith.translation import Language

ITEM = "0" * 31 + "1"
MESSAGES = [{"role": "user", "content": "one"}]


@pytest.fixture
def prompt(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """A prompt file with some content."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "prompt.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def message_of(action: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- prompts ---


def test_a_prompt_is_filled_in(prompt: Callable[[str], Path]) -> None:
    template = "Translate {{ source_language.name }} ({{ source_language.code }}):\n\n{{ text }}\n"
    render = load_prompt(prompt(template))
    assert render(text="One.\nTwo.", source_language=Language("English", "en")) == (
        "Translate English (en):\n\nOne.\nTwo."
    )


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_goes_in_as_it_is(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "prompt.txt"
    path.write_text("<{{ text }}>", encoding="utf-8")
    assert load_prompt(path)(text=text) == f"<{text}>"


def test_a_text_that_looks_like_a_template_or_markup_is_not_touched(prompt: Callable[[str], Path]) -> None:
    text = "{{ text }} {% if %} <b>a & b</b> &amp; 'c'"
    assert load_prompt(prompt("{{ text }}"))(text=text) == text


@pytest.mark.parametrize(
    ("content", "rendered"),
    [("a", "a"), ("a\n", "a"), ("a\n\n", "a\n"), ("a\r\nb\r\n", "a\nb"), ("\n a \n", "\n a "), ("", ""), ("\n", "")],
)
def test_one_line_break_at_the_file_s_end_does_not_count(
    prompt: Callable[[str], Path], content: str, rendered: str
) -> None:
    assert load_prompt(prompt(content))() == rendered


def test_a_name_that_is_not_there_is_one_line_with_file_line_and_what_there_is(prompt: Callable[[str], Path]) -> None:
    path = prompt("Translate\n\n{{ texts }}\n")
    assert message_of(lambda: load_prompt(path)(text="one", source="two")) == (
        f"{path}, line 3: 'texts' is undefined; it may use source, text"
    )


def test_an_attribute_that_is_not_there_is_one_line_with_file_and_line(prompt: Callable[[str], Path]) -> None:
    path = prompt("{{ source_language.name }}\n{{ source_language.script }}\n")
    message = message_of(lambda: load_prompt(path)(source_language=Language("English", "en")))
    assert message.startswith(f"{path}, line 2: ")
    assert "has no attribute 'script'" in message


@pytest.mark.parametrize(
    "template",
    [
        "a\n{{ 1 / zero }}",
        "a\n{{ text + 1 }}",
        "a\n{{ text.upper(1, 2) }}",
        "a\n{% include 'b.txt' %}",
        "a\n{% for part in zero %}{% endfor %}",
    ],
)
def test_whatever_fails_in_a_template_is_one_line_with_file_and_line(
    prompt: Callable[[str], Path], template: str
) -> None:
    path = prompt(template)
    message = message_of(lambda: load_prompt(path)(text="one", zero=0))
    assert message.startswith(f"{path}, line 2: ")


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{{ text", 1),
        ("a\n{{ text }\n", 2),
        ("a\nb\n{% if text %}\nc\n", 3),
        ("a\n{% endif %}", 2),
        ("a\nb\n{{ text | nofilter }}", 3),
        ("a\n{% nosuchtag %}", 2),
        ("{{ 1 + }}", 1),
    ],
)
def test_a_broken_template_is_one_line_with_file_and_line_before_anything_is_asked(
    prompt: Callable[[str], Path], template: str, line: int
) -> None:
    path = prompt(template)
    message = message_of(lambda: load_prompt(path))
    assert message.startswith(f"{path}, line {line}: is no jinja template (")


def test_a_prompt_that_is_not_there_or_is_no_text_is_named(tmp_path: Path, prompt: Callable[[bytes], Path]) -> None:
    for path in (tmp_path / "none.txt", tmp_path, prompt(b"\xff\xfe")):
        message = message_of(lambda path=path: load_prompt(path))
        assert message.startswith(f"{path}: cannot be read as a prompt (")


@pytest.mark.parametrize("name", ["translate.txt", "toy-translate.txt"])
def test_the_prompts_that_come_with_it_ask_for_what_the_recipe_gives(name: str) -> None:
    render = load_prompt(ROOT / "config" / "prompts" / name)
    rendered = render(
        text="Mina bought 3 books.",
        source_language=Language("English", "en"),
        target_language=Language("Korean", "ko"),
    )
    assert rendered.endswith("Mina bought 3 books.")
    assert "Korean" in rendered
    assert "{" not in rendered


@given(text=st.text())
def test_a_user_turn_is_one_message_of_the_user(text: str) -> None:
    assert user_turn(text) == [{"role": "user", "content": text}]


# --- requests ---

VALID: dict[str, dict[str, Any]] = {
    "greedy": {"messages": MESSAGES, "max_tokens": 8},
    "sampled": {"messages": MESSAGES, "max_tokens": 8, "temperature": 0.7, "top_p": 0.9, "top_k": 40, "n": 128},
    "a raw prompt": {"prompt": "", "max_tokens": 1},
    "tokens": {"token_ids": [1, 2], "max_tokens": 1},
    "later samples": {"prompt": "one", "max_tokens": 1, "temperature": 1, "first_sample": 32, "n": 96},
    "choices": {"prompt": "one", "max_tokens": 4, "choices": ["yes", "no"]},
    "a schema": {"prompt": "one", "max_tokens": 4, "json_schema": '{"type": "object"}'},
    "to be scored": {"prompt": "one", "max_tokens": 4, "stop": ("\n",), "source": "one", "reference": "하나"},
}
INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to ask": ({"prompt": None}, "none of messages, prompt, token_ids given"),
    "two things to ask": ({"messages": MESSAGES}, "messages and prompt of messages, prompt, token_ids given"),
    "messages and tokens": ({"prompt": None, "messages": MESSAGES, "token_ids": [1]}, "messages and token_ids of"),
    "several greedy answers": ({"n": 2}, "n is 2 at temperature 0"),
    "no answer": ({"n": 0, "temperature": 1.0}, "n is 0; allowed: at least 1"),
    "no token": ({"max_tokens": 0}, "max_tokens is 0; allowed: at least 1"),
    "samples before the first": ({"first_sample": -1}, "first_sample is -1; allowed: at least 0"),
    "a negative temperature": ({"temperature": -0.1}, "temperature is -0.1; allowed: at least 0"),
    "no temperature": ({"temperature": math.nan}, "temperature is nan; allowed: at least 0"),
    "a negative top k": ({"top_k": -1}, "top_k is -1; allowed: at least 0"),
    "no probability": ({"top_p": 0}, "top_p is 0.0; allowed: above 0, at most 1"),
    "more than all probability": ({"top_p": 1.1}, "top_p is 1.1; allowed: above 0, at most 1"),
    "no choice": ({"choices": []}, "choices is empty; allowed: at least one choice"),
    "choices and a schema": ({"choices": ["yes"], "json_schema": "{}"}, "choices and json_schema given"),
}


@pytest.mark.parametrize("values", VALID.values(), ids=VALID)
def test_a_valid_request_is_a_row_of_the_requests_table(tmp_path: Path, values: dict[str, Any]) -> None:
    row = request(ITEM, "final", **values)
    write_table(tmp_path / "requests.parquet", REQUESTS, [row])
    assert list(read_rows(tmp_path / "requests.parquet", REQUESTS)) == [row]
    assert list(row) == REQUESTS.schema.names
    assert {name: row[name] for name in values} == {**values, **({"stop": ["\n"]} if "stop" in values else {})}


def test_a_request_is_greedy_and_free_unless_it_says_otherwise() -> None:
    row = request(ITEM, "greedy", prompt="one", max_tokens=8)
    given_values = {"item_id": ITEM, "request": "greedy", "prompt": "one", "max_tokens": 8}
    assert {name: value for name, value in row.items() if name not in given_values} == {
        "messages": None,
        "token_ids": None,
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 0,
        "stop": [],
        "choices": None,
        "json_schema": None,
        "first_sample": 0,
        "n": 1,
        "source": None,
        "reference": None,
    }


@pytest.mark.parametrize(("values", "said"), INVALID.values(), ids=INVALID)
def test_a_request_that_nobody_could_answer_is_named_with_what_is_allowed(values: dict[str, Any], said: str) -> None:
    message = message_of(lambda: request(ITEM, "final", **{"prompt": "one", "max_tokens": 8, **values}))
    assert message.startswith(f"item {ITEM}, request final: {said}")


@given(
    messages=st.none() | st.just(MESSAGES),
    prompt=st.none() | st.text(),
    token_ids=st.none() | st.lists(st.integers(0, 9)),
)
def test_exactly_one_of_messages_prompt_and_tokens_is_asked(
    messages: list[dict[str, str]] | None, prompt: str | None, token_ids: list[int] | None
) -> None:
    assume([messages, prompt, token_ids].count(None) != 2)
    with pytest.raises(InputError, match="allowed: exactly one"):
        request(ITEM, "final", messages=messages, prompt=prompt, token_ids=token_ids, max_tokens=1)
