"""Answers that must be one of some choices, or JSON of a schema: which tokens may come next."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import llguidance
import llguidance.hf
import numpy as np

from corpusmith.errors import InputError


class Constraints:
    """Compiles constraints for one tokenizer (a fast Hugging Face tokenizer). vocabulary: columns of the logits."""

    def __init__(self, tokenizer: Any, vocabulary: int, end_tokens: list[int]) -> None:
        self._tokens = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=end_tokens)
        self._vocabulary = vocabulary

    def matcher(self, choices: tuple[str, ...] | None, json_schema: str | None) -> Matcher | None:
        """A matcher at the start of an answer; None where everything is allowed."""
        if choices is None and json_schema is None:
            return None
        return Matcher(llguidance.LLMatcher(self._tokens, _grammar(choices, json_schema)), self._vocabulary)


class Matcher:
    """The state of one constrained answer."""

    def __init__(self, matcher: llguidance.LLMatcher, vocabulary: int) -> None:
        if matcher.is_error():
            raise InputError(f"this constraint cannot be compiled: {matcher.get_error()}")
        self._matcher, self._vocabulary = matcher, vocabulary

    def allowed(self) -> np.ndarray:
        """Which tokens may come next: booleans (vocabulary,)."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        return np.unpackbits(mask, bitorder="little")[: self._vocabulary].astype(bool)

    def take(self, token: int) -> bool:
        """Goes on by one token; True where the answer is complete and nothing may follow."""
        if not self._matcher.consume_token(token):
            raise RuntimeError(f"token {token} breaks its constraint: {self._matcher.get_error()}")
        return self._matcher.is_stopped()


@lru_cache(maxsize=256)
def _grammar(choices: tuple[str, ...] | None, json_schema: str | None) -> str:
    if choices is not None:
        alternatives = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
        return llguidance.LLMatcher.grammar_from_lark(f"start: {alternatives}")
    assert json_schema is not None
    return llguidance.LLMatcher.grammar_from_json_schema(json_schema)
