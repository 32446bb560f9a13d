"""Pre-query templates: what a chat model sees before a user has said anything, as token ids (Magpie, arXiv 2406.08464).

    Qwen3:  <|im_start|>user⏎     → the model goes on with what a user might ask

Ids and not text: engines put a begin-of-text token in front of text, and then there are two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tokenizers import Tokenizer

from corpusmith.errors import InputError

# What looks like a special token has to be one.
_LIKE_SPECIAL = r"<\|[a-z_]+\|>|<bos>|<start_of_turn>|<end_of_turn>"


@dataclass(frozen=True)
class PreQuery:
    """The template of a family of models up to a user's first word. plain: without a system prompt; with_system: with
    one, for which {system} stands, None where the family has none."""

    plain: str
    with_system: str | None = None

    def text(self, system: str | None = None) -> str:
        """What comes before a user's first word. Raises InputError where there can be no system prompt."""
        if system is None:
            return self.plain
        if self.with_system is None:
            raise InputError("this family of models has no system prompts; leave out the topics that name one")
        return self.with_system.replace("{system}", system)


_LLAMA_USER = "<|start_header_id|>user<|end_header_id|>\n\n"
_LLAMA_SYSTEM = "<|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>"
_CHATML_SYSTEM = "<|im_start|>system\n{system}<|im_end|>\n"
_CHATML_USER = "<|im_start|>user\n"
_QWEN_DEFAULT = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
# As the chat templates of these models render a conversation that begins with a user's turn.
FAMILIES = {
    "llama-3": PreQuery(f"<|begin_of_text|>{_LLAMA_USER}", f"<|begin_of_text|>{_LLAMA_SYSTEM}{_LLAMA_USER}"),
    "qwen2.5": PreQuery(
        _CHATML_SYSTEM.replace("{system}", _QWEN_DEFAULT) + _CHATML_USER, _CHATML_SYSTEM + _CHATML_USER
    ),
    "qwen3": PreQuery(_CHATML_USER, _CHATML_SYSTEM + _CHATML_USER),
    "gemma": PreQuery("<bos><start_of_turn>user\n"),
}


def pre_query_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The token ids of a template, each of its special tokens as the one id that it is.

    Raises InputError where the tokenizer does not know one, or splits it: the template is of another family.
    """
    ids: list[int] = []
    place = 0
    known = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    # The longest first: one may begin with another.
    special = "|".join([*map(re.escape, sorted(known, key=len, reverse=True)), _LIKE_SPECIAL])
    for match in re.finditer(special, text):
        ids += _plain(tokenizer, text[place : match.start()])
        token = tokenizer.token_to_id(match[0])
        if token is None or tokenizer.encode(match[0], add_special_tokens=False).ids != [token]:
            raise InputError(
                f"the tokenizer has no special token {match[0]!r}: the template is of another family of models; known:"
                f" {', '.join(FAMILIES)}"
            )
        ids.append(token)
        place = match.end()
    return [*ids, *_plain(tokenizer, text[place:])]


def _plain(tokenizer: Tokenizer, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids if text else []
    return found
