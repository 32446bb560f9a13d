"""From a row of a requests table to the tokens that an engine gives its model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import AutoConfig, AutoTokenizer

from corpusmith.engines.protocol import Prompt
from corpusmith.identity import digest
from corpusmith.pretrained import load_part


class ModelRenderer:
    """Prompts of a model in a folder, of which only the tokenizer and the configuration are read.

    family: that of the engine; max_length: most tokens of prompt and answer, by default the model's.
    """

    def __init__(self, folder: str | Path, family: str, max_length: int | None, trust_remote_code: bool) -> None:
        self._tokenizer = load_part(AutoTokenizer, folder, "tokenizer", trust_remote_code=trust_remote_code)
        config = load_part(AutoConfig, folder, "configuration", trust_remote_code=trust_remote_code).get_text_config()
        self._vocabulary: int = config.vocab_size
        longest: int = getattr(config, "max_position_embeddings", 2048)
        self._max_length = longest if max_length is None else max_length
        self.family, self.template = family, digest(self._tokenizer.chat_template or "")

    def prepare(self, request: Mapping[str, Any]) -> Prompt:
        """Renders messages through the chat template; a raw prompt gets the tokenizer's special tokens."""
        return render_prompt(request, self._tokenizer, self._vocabulary, self._max_length)


def render_prompt(request: Mapping[str, Any], tokenizer: Any, vocabulary: int, max_length: int) -> Prompt:
    """Renders messages through the chat template; a raw prompt gets the tokenizer's special tokens.

    vocabulary: how many tokens the model knows; max_length: most tokens of prompt and answer together.
    """
    if request["token_ids"] is not None:
        token_ids = request["token_ids"]
        rendered = "token ids " + " ".join(map(str, token_ids))
    elif request["messages"] is not None:
        if not tokenizer.chat_template:
            return Prompt("", error="the model has no chat template: ask with a raw prompt")
        try:
            rendered = tokenizer.apply_chat_template(request["messages"], tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            return Prompt("", error=f"the chat template refuses the messages: {error}")
        token_ids = tokenizer.encode(rendered, add_special_tokens=False, verbose=False)
    else:
        rendered = request["prompt"] or ""
        token_ids = tokenizer.encode(rendered, verbose=False)
    # verbose: what is too long is said below.
    if not token_ids:
        return Prompt(rendered, error="the prompt is empty")
    if not 0 <= min(token_ids) <= max(token_ids) < vocabulary:
        return Prompt(rendered, error=f"a token id is outside of 0 to {vocabulary - 1}, which is what the model knows")
    if len(token_ids) >= max_length:
        too_long = f"the prompt has {len(token_ids)} tokens, the model takes {max_length}"
        return Prompt(rendered, tuple(token_ids), too_long)
    return Prompt(rendered, tuple(token_ids))
