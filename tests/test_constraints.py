"""Constraints let through the choices, or the schema's JSON, and nothing else."""

from __future__ import annotations

import json
import random

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from corpusmith.engines.constraints import Constraints, Matcher
from corpusmith.errors import InputError
from corpusmith.toy.language_model import build_tokenizer
from toy_models import letter_tokenizer

LETTER_TOKENIZER = letter_tokenizer()
# Characters, words and, for all that it does not know, bytes.
BYTE_TOKENIZER = build_tokenizer(256)
UNUSED_COLUMNS = 7


def constraints(tokenizer: PreTrainedTokenizerFast) -> Constraints:
    """As an engine makes them for a model whose logits have more columns than the tokenizer has tokens."""
    return Constraints(tokenizer, len(tokenizer) + UNUSED_COLUMNS, [tokenizer.eos_token_id])


LETTERS, BYTES = constraints(LETTER_TOKENIZER), constraints(BYTE_TOKENIZER)


def all_answers(choices: tuple[str, ...]) -> list[list[int]]:
    """Every sequence of tokens that is allowed, the end token left out."""
    found = []
    waiting: list[list[int]] = [[]]
    while waiting:
        tokens = waiting.pop()
        matcher = LETTERS.matcher(choices, None)
        assert matcher is not None
        stopped = [matcher.take(token) for token in tokens]
        assert not any(stopped[:-1])
        if stopped and stopped[-1]:
            found.append(tokens)
            continue
        for token in matcher.allowed().nonzero()[0].tolist():
            if token == LETTER_TOKENIZER.eos_token_id:
                found.append(tokens)
            else:
                waiting.append([*tokens, token])
    return found


def random_answer(matcher: Matcher | None, tokenizer: PreTrainedTokenizerFast, seed: int, most: int = 2000) -> str:
    """An answer of tokens drawn at random from those allowed."""
    assert matcher is not None
    rng = random.Random(seed)
    tokens: list[int] = []
    while len(tokens) < most:
        token = rng.choice(matcher.allowed().nonzero()[0].tolist())
        if token == tokenizer.eos_token_id:
            return tokenizer.decode(tokens)
        tokens.append(token)
        if matcher.take(token):
            return tokenizer.decode(tokens)
    raise AssertionError(f"no end after {most} tokens")


def accepts(matcher: Matcher | None, tokens: list[int], end: int) -> bool:
    """Whether these tokens, and the end behind them, are an answer."""
    assert matcher is not None
    for place, token in enumerate(tokens):
        if not matcher.allowed()[token]:
            return False
        if matcher.take(token):
            return place == len(tokens) - 1
    return bool(matcher.allowed()[end])


@pytest.mark.parametrize(
    "choices",
    [("ab", "abc"), ("a",), ("abcd", "bcd", "cd"), ("ab", "ab"), ("a", "ab", "abc", "abcd"), ("", "a"), ("abcdabcd",)],
)
def test_what_is_allowed_spells_the_choices_and_nothing_else(choices: tuple[str, ...]) -> None:
    allowed = [LETTER_TOKENIZER.convert_ids_to_tokens(tokens) for tokens in all_answers(choices)]
    assert {"".join(spelling) for spelling in allowed} == set(choices)
    # However many ways there are, the tokenizer's own, here letter by letter, is one of them.
    assert all(list(choice) in allowed for choice in choices)


SIGNS = st.sampled_from(
    ["yes", "no", '"', "\\", "\n", "\t", "'", "/", "|", "\x01", "\x7f", "{", "é", "예", "😀", " ", "[0-9]+"]
)
TEXTS = st.lists(SIGNS, min_size=1, max_size=4).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5
)


@settings(max_examples=60)
@example(choices=["\x7f", "\x00", "\u2028😀"], seed=0)
@given(choices=st.lists(TEXTS, min_size=1, max_size=4), seed=st.integers(0, 2**32))
def test_any_text_can_be_a_choice_and_a_random_answer_is_one_of_them(choices: list[str], seed: int) -> None:
    for choice in choices:
        tokens = BYTE_TOKENIZER.encode(choice, add_special_tokens=False)
        assert accepts(BYTES.matcher(tuple(choices), None), tokens, BYTE_TOKENIZER.eos_token_id), choice
    assert random_answer(BYTES.matcher(tuple(choices), None), BYTE_TOKENIZER, seed) in choices


def test_a_choice_that_begins_another_can_end_there_or_go_on() -> None:
    answers = {random_answer(LETTERS.matcher(("a", "ab"), None), LETTER_TOKENIZER, seed) for seed in range(20)}
    assert answers == {"a", "ab"}


def test_without_a_constraint_there_is_no_matcher() -> None:
    assert LETTERS.matcher(None, None) is None


def test_the_mask_has_a_column_for_each_of_the_logits() -> None:
    matcher = LETTERS.matcher(("a",), None)
    assert matcher is not None
    assert matcher.allowed().shape == (len(LETTER_TOKENIZER) + UNUSED_COLUMNS,)
    assert not matcher.allowed()[len(LETTER_TOKENIZER) :].any()


@pytest.mark.parametrize("choice", ["x", "ax", 'a"b', "abcé"])
def test_a_choice_that_the_vocabulary_cannot_spell_is_an_input_error_of_one_line(choice: str) -> None:
    with pytest.raises(InputError) as caught:
        random_answer(LETTERS.matcher((choice,), None), LETTER_TOKENIZER, 0)
    assert "\n" not in str(caught.value)
    assert "no token of the vocabulary" in str(caught.value)


def test_taking_a_token_that_is_not_allowed_is_an_input_error() -> None:
    matcher = LETTERS.matcher(("abc",), None)
    assert matcher is not None
    with pytest.raises(InputError, match="no token of the vocabulary"):
        matcher.take(LETTER_TOKENIZER.convert_tokens_to_ids("b"))


OBJECT = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "size": {"type": "integer", "minimum": -3, "maximum": 120},
        "kind": {"enum": ["small", 'großes "Ding"', 3]},
        "flag": {"type": "boolean"},
    },
    "required": ["name", "size", "kind"],
    "additionalProperties": False,
}
SCHEMAS = {
    "object": (OBJECT, {"name": "Mina", "size": 12, "kind": "small"}, {"name": "Mina", "size": 121, "kind": "small"}),
    "list": (
        {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
        [True, False, True],
        [True],
    ),
    "nested": (
        {
            "type": "object",
            "properties": {"steps": {"type": "array", "items": OBJECT, "maxItems": 2}, "verdict": {"const": "예"}},
            "required": ["steps", "verdict"],
            "additionalProperties": False,
        },
        {"steps": [{"name": "a", "size": 0, "kind": 3, "flag": True}], "verdict": "예"},
        {"steps": [], "verdict": "아니오"},
    ),
    "either": ({"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 0, "maximum": 9}]}, 7, 10),
    "pattern": ({"type": "string", "pattern": "^[ab]{2,3}$"}, "aba", "abc"),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_random_answers_within_a_schema_parse_and_validate(name: str) -> None:
    schema, _, _ = SCHEMAS[name]
    values = []
    for seed in range(30):
        text = random_answer(BYTES.matcher(None, json.dumps(schema)), BYTE_TOKENIZER, seed)
        values.append(json.loads(text))
        jsonschema.validate(values[-1], schema)
    assert len({json.dumps(value) for value in values}) > 1


@pytest.mark.parametrize("name", SCHEMAS)
def test_json_of_the_schema_is_accepted_and_other_json_is_not(name: str) -> None:
    schema, good, bad = SCHEMAS[name]
    jsonschema.validate(good, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, schema)
    for value, expected in ((good, True), (bad, False)):
        tokens = BYTE_TOKENIZER.encode(json.dumps(value, ensure_ascii=False), add_special_tokens=False)
        matcher = BYTES.matcher(None, json.dumps(schema))
        assert accepts(matcher, tokens, BYTE_TOKENIZER.eos_token_id) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "a", "size": 1}', True),
        ('{"name":"a","size":1}', True),
        ('{"name":  "a", "size": 1}', False),
        ('{ "name": "a", "size": 1}', False),
        ('{\n  "name": "a",\n  "size": 1\n}', False),
    ],
)
def test_json_is_on_one_line_so_that_no_model_gets_lost_in_white_space(text: str, expected: bool) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
        "required": ["name", "size"],
        "additionalProperties": False,
    }
    jsonschema.validate(json.loads(text), schema)
    matcher = BYTES.matcher(None, json.dumps(schema))
    assert accepts(matcher, BYTE_TOKENIZER.encode(text), BYTE_TOKENIZER.eos_token_id) is expected


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ('{"type": "object"', "EOF"),
        ("", "EOF"),
        ("[]", "object"),
        ('{"type": "frob"}', "frob"),
        ('{"type": "string", "pattern": "("}', "unclosed group"),
        ('{"$ref": "#/nowhere"}', "nowhere"),
        ('{"not": {"type": "string"}}', "not"),
        ('{"type": "integer", "minimum": 5, "maximum": 3}', "minimum"),
    ],
)
def test_a_schema_that_cannot_be_compiled_is_an_input_error_of_one_line(schema: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        BYTES.matcher(None, schema)
    message = str(caught.value)
    assert message.startswith("this constraint cannot be compiled: ")
    assert says in message
    assert "\n" not in message
