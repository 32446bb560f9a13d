"""Rows of a requests table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def request(
    item: str,
    name: str,
    *,
    messages: Sequence[Mapping[str, str]] | None = None,
    prompt: str | None = None,
    token_ids: Sequence[int] | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    max_tokens: int,
    stop: Sequence[str] = (),
    choices: Sequence[str] | None = None,
    json_schema: str | None = None,
    first_sample: int = 0,
    n: int = 1,
    source: str | None = None,
    reference: str | None = None,
) -> dict[str, Any]:
    """One request of an item. Raises ValueError unless exactly one of messages, prompt and token_ids is given."""
    if sum(value is not None for value in (messages, prompt, token_ids)) != 1:
        raise ValueError("a request has messages, a prompt or token_ids")
    if temperature == 0 and n > 1:
        raise ValueError("greedy answers are all equal: n is 1 at temperature 0")
    return {
        "item_id": item,
        "request": name,
        "messages": messages,
        "prompt": prompt,
        "token_ids": token_ids,
        "temperature": float(temperature),
        "top_p": float(top_p),
        "top_k": top_k,
        "max_tokens": max_tokens,
        "stop": list(stop),
        "choices": choices,
        "json_schema": json_schema,
        "first_sample": first_sample,
        "n": n,
        "source": source,
        "reference": reference,
    }
