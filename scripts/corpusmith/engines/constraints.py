"""Answers that must be one of some choices, or JSON of a schema: which tokens may come next."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import llguidance
import llguidance.hf
import numpy as np

from corpusmith.engines.protocol import JSON_ON_ONE_LINE
from corpusmith.errors import InputError

_UNUSABLE = "this constraint cannot be compiled"
# A vocabulary that lacks a character of the constraint is one way to get here.
_STUCK = "no token of the vocabulary continues this answer within its constraint"


class Constraints:
    """Compiles constraints for one tokenizer (a fast Hugging Face tokenizer). vocabulary: columns of the logits."""

    def __init__(self, tokenizer: Any, vocabulary: int, end_tokens: list[int]) -> None:
        self._tokens = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=end_tokens)
        self._vocabulary = vocabulary

    def matcher(self, choices: tuple[str, ...] | None, json_schema: str | None) -> Matcher | None:
        """A matcher at the start of an answer; None where everything is allowed.

        Raises InputError where the constraint is no constraint.
        """
        if choices is None and json_schema is None:
            return None
        try:
            grammar = _grammar(choices, json_schema)
        except ValueError as error:
            raise InputError(f"{_UNUSABLE}: {error}") from error
        return Matcher(llguidance.LLMatcher(self._tokens, grammar), self._vocabulary)


class Matcher:
    """The state of one constrained answer."""

    def __init__(self, matcher: llguidance.LLMatcher, vocabulary: int) -> None:
        self._matcher, self._vocabulary = matcher, vocabulary
        if matcher.is_error():
            raise InputError(f"{_UNUSABLE}: {self._reason()}")

    def allowed(self) -> np.ndarray:
        """Which tokens may come next: booleans (vocabulary,). Raises InputError where none may."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            raise InputError(f"{_STUCK}: {self._reason()}")
        return np.unpackbits(mask, bitorder="little")[: self._vocabulary].astype(bool)

    def take(self, token: int) -> bool:
        """Goes on by one token; True where the answer is complete and nothing may follow.

        Raises InputError where the token is not allowed.
        """
        if not self._matcher.consume_token(token):
            raise InputError(f"{_STUCK}: {self._reason()}")
        return self._matcher.is_stopped()

    def _reason(self) -> str:
        # The whole message shows the parser's inner state, over many lines.
        return " ".join(self._matcher.get_error().partition("<state>")[0].split())


@lru_cache(maxsize=256)
def _grammar(choices: tuple[str, ...] | None, json_schema: str | None) -> str:
    if choices is not None:
        alternatives = " | ".join(json.dumps(choice) for choice in choices)
        return llguidance.LLMatcher.grammar_from_lark(f"start: {alternatives}")
    assert json_schema is not None
    return llguidance.LLMatcher.grammar_from_json_schema(json_schema, defaults=JSON_ON_ONE_LINE)
