"""Pre-query templates: the ids before a user's first word, or an error that says what does not fit."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from corpusmith.errors import InputError
from corpusmith.pre_query import FAMILIES, pre_query_ids

LLAMA = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
CHATML = ["<|im_start|>", "<|im_end|>"]
GEMMA = ["<bos>", "<start_of_turn>", "<end_of_turn>"]


def tokenizer_of(special: list[str], begins_with: str | None = None) -> Tokenizer:
    """One token a byte, and special ones; it may put one in front of every text, as Llama's does."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    if begins_with is not None:
        first = (begins_with, tokenizer.token_to_id(begins_with))
        tokenizer.post_processor = TemplateProcessing(single=f"{begins_with} $A", special_tokens=[first])
    return tokenizer


def tokens(tokenizer: Tokenizer, ids: list[int]) -> str:
    return "".join(tokenizer.id_to_token(number) for number in ids).replace("Ġ", " ").replace("Ċ", "\n")


@pytest.mark.parametrize(
    ("family", "special", "begins_with"),
    [
        ("llama-3", LLAMA, "<|begin_of_text|>"),
        ("qwen2.5", CHATML, None),
        ("qwen3", CHATML, None),
        ("gemma", GEMMA, "<bos>"),
    ],
)
def test_a_template_is_its_tokens_and_begins_once(family: str, special: list[str], begins_with: str | None) -> None:
    tokenizer = tokenizer_of(special, begins_with)
    text = FAMILIES[family].text()
    ids = pre_query_ids(tokenizer, text)
    assert tokens(tokenizer, ids) == text
    known = {tokenizer.token_to_id(token) for token in special}
    assert sum(number in known for number in ids) == sum(text.count(token) for token in special)
    if begins_with is not None:
        assert ids.count(tokenizer.token_to_id(begins_with)) == 1
        # As text it would begin twice.
        assert tokenizer.encode(text).ids.count(tokenizer.token_to_id(begins_with)) == 2


def test_a_system_prompt_stands_before_the_users_turn() -> None:
    text = FAMILIES["llama-3"].text("You teach {maths}.")
    assert text == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou teach {maths}.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n"
    )
    assert FAMILIES["qwen2.5"].text("Short.") == "<|im_start|>system\nShort.<|im_end|>\n<|im_start|>user\n"
    with pytest.raises(InputError, match="has no system prompts"):
        FAMILIES["gemma"].text("You teach.")


@pytest.mark.parametrize(("family", "special"), [("llama-3", CHATML), ("qwen3", LLAMA), ("gemma", CHATML)])
def test_a_template_of_another_family_is_refused_by_the_token_that_is_missing(family: str, special: list[str]) -> None:
    with pytest.raises(InputError, match="has no special token '<"):
        pre_query_ids(tokenizer_of(special), FAMILIES[family].text())


def test_a_token_that_is_known_and_split_all_the_same_is_refused() -> None:
    tokenizer = tokenizer_of([])
    vocabulary = {**tokenizer.get_vocab(), "<|im_start|>": tokenizer.get_vocab_size()}
    odd = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    odd.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert odd.token_to_id("<|im_start|>") is not None
    with pytest.raises(InputError, match="has no special token '<\\|im_start\\|>'"):
        pre_query_ids(odd, FAMILIES["qwen3"].text())
