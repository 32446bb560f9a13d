"""Reward models: how good an answer is, as the logit of a sequence-classification model of transformers.

Two forms are published. `pair` (OpenAssistant/reward-model-deberta-v3-large-v2): the tokenizer joins question and
answer. `chat` (Skywork-Reward): the answer is put behind the conversation as the assistant's message, by the
tokenizer's chat template. In both the score is the model's only logit as it is: higher is better.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jinja2 import TemplateError
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from corpusmith.batching import behind, moved, pack, read_back
from corpusmith.errors import InputError
from corpusmith.pairs import Pair, Scored
from corpusmith.pretrained import load_part
from corpusmith.program import log

Form = Literal["pair", "chat"]

# Tokenizers and models without a limit give a number beyond this one, or one below 1.
_NO_LIMIT = 10**9
# Stands for an answer to see what a template puts around it; for private use, so that no answer begins or ends with it.
_SOME_ANSWER = "\ue000"


class Batch(NamedTuple):
    """Texts of like length. places: theirs among all; inputs: the model's; filler: the token behind shorter texts."""

    places: list[int]
    truncated: list[bool]
    inputs: dict[str, torch.Tensor]
    filler: int


@dataclass(frozen=True)
class Prepared:
    """Pairs in batches, the longest first; and those that get no score."""

    batches: list[Batch]
    failed: list[Scored]


class _Text(NamedTuple):
    place: int
    tokens: list[int]
    types: list[int]
    truncated: bool


class _Unscorable(Exception):
    """Why a pair gets no score."""


class RewardModel:
    """A reward model in a folder, its tokenizer beside it or in another one.

    form: `pair` has the question as a pair's source, `chat` the conversation so far, as a JSON list of messages with
    role and content that ends in the user's turn. dtype: as torch names it; tokens_per_batch: most tokens, padding
    counted, in one batch; max_length: most tokens of question and answer, by default what model and tokenizer allow;
    what is too long loses the end of its answer, and nothing else. trust_remote_code: whether code of the folder runs.
    Raises InputError where the folder holds no such model.
    """

    def __init__(
        self,
        folder: str | Path,
        tokenizer: str | Path | None = None,
        *,
        form: Form,
        device: str = "cpu",
        dtype: str = "float32",
        tokens_per_batch: int = 16_384,
        max_length: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self._form, self._device, self._dtype = form, torch.device(device), getattr(torch, dtype)
        self._tokens_per_batch = tokens_per_batch
        self._tokenizer = _load_tokenizer(tokenizer or folder, form, trust_remote_code)
        model = _load_classifier(folder, self._dtype, trust_remote_code)
        self._model = model.to(self._device).eval()
        self._vocabulary: int = model.get_input_embeddings().num_embeddings
        largest = max(self._tokenizer.get_vocab().values())
        if largest >= self._vocabulary:
            raise InputError(
                f"{folder}: the tokenizer has {largest + 1} tokens, the model {self._vocabulary}: they do not belong"
                " together"
            )
        self._max_length = _longest(folder, model.config.get_text_config(), self._tokenizer, max_length)
        # The model's configuration, and where it is one of several parts, that of its text.
        self._configs = [model.config, model.config.get_text_config()]
        padding = getattr(self._configs[-1], "pad_token_id", None)
        self._padding: int | None = padding if padding is not None and 0 <= padding < self._vocabulary else None
        takes = inspect.signature(model.forward).parameters
        self._takes_types = "token_type_ids" in takes and "token_type_ids" in self._tokenizer.model_input_names
        # A cache of keys and values would be for tokens to come.
        self._options = {"use_cache": False} if "use_cache" in takes else {}

    def score(self, pairs: Sequence[Pair]) -> list[Scored]:
        """What there is to say of each pair, in the order of the pairs."""
        return sorted(chain.from_iterable(self.score_batches(self.prepare(pairs))), key=lambda scored: scored.place)

    def prepare(self, pairs: Sequence[Pair]) -> Prepared:
        """The pairs as `score_batches` wants them: a CPU can do that while a GPU scores others."""
        rendered: dict[int, str | tuple[str, str]] = {}
        texts: list[_Text] = []
        failed: list[Scored] = []
        for place, pair in enumerate(pairs):
            try:
                rendered[place] = self._render(pair)
            except _Unscorable as error:
                failed.append(Scored(place, math.nan, False, str(error)))
        for place, encoding in zip(rendered, self._tokenize(list(rendered.values())), strict=True):
            try:
                texts.append(self._fit(place, pairs[place], encoding))
            except _Unscorable as error:
                failed.append(Scored(place, math.nan, False, str(error)))
        batches = pack([len(text.tokens) for text in texts], self._tokens_per_batch)
        return Prepared([self._batch([texts[number] for number in batch]) for batch in batches], failed)

    def score_batches(self, prepared: Prepared) -> Iterator[list[Scored]]:
        """The same as `score` as it comes, batch by batch; first what gets no score."""
        if prepared.failed:
            yield prepared.failed
        started = ((batch, self._start(batch)) for batch in prepared.batches)
        for batch, logits in behind(started, 1):
            yield list(map(Scored, batch.places, read_back(logits, self._dtype).tolist(), batch.truncated))

    def _start(self, batch: Batch) -> torch.Tensor:
        for config in self._configs:
            config.pad_token_id = batch.filler
        with torch.inference_mode():
            inputs = {name: moved(tensor, self._device) for name, tensor in batch.inputs.items()}
            return self._model(**inputs, **self._options).logits[:, 0].double()

    def _batch(self, texts: list[_Text]) -> Batch:
        filler = self._filler(texts)
        # With the padding behind the text, what comes before it is as it would be alone.
        shape = len(texts), len(texts[0].tokens)
        tokens = torch.full(shape, filler)
        inside = torch.zeros(shape, dtype=torch.long)
        types = torch.zeros(shape, dtype=torch.long)
        for row, text in enumerate(texts):
            tokens[row, : len(text.tokens)] = torch.tensor(text.tokens)
            inside[row, : len(text.tokens)] = 1
            types[row, : len(text.types)] = torch.tensor(text.types)
        inputs = {"input_ids": tokens, "attention_mask": inside}
        if self._takes_types:
            inputs["token_type_ids"] = types
        return Batch([text.place for text in texts], [text.truncated for text in texts], inputs, filler)

    def _filler(self, texts: list[_Text]) -> int:
        """The token to put behind texts.

        Decoders take the last token that is not the configured padding, whatever the mask says, and without one the
        last of all, in a batch of one. To find the same token in a batch: the configured padding is used where there
        is one, also where it ends texts; else a token that ends none, and it is named as the padding.
        """
        if self._padding is not None:
            return self._padding
        # Texts end in but a few ways; a batch with all tokens of a vocabulary at its ends is none of language.
        ends = {text.tokens[-1] for text in texts}
        return next(number for number in range(self._vocabulary) if number not in ends)

    def _tokenize(self, texts: list[str | tuple[str, str]]) -> list[Any]:
        """The encodings of texts, whole."""
        if not texts:
            return []
        # A template has put special tokens, such as the one that begins a text, where they belong.
        return self._tokenizer(texts, add_special_tokens=self._form == "pair", verbose=False).encodings

    def _render(self, pair: Pair) -> str | tuple[str, str]:
        """What the tokenizer reads of a pair."""
        if self._form == "chat":
            return self._converse(pair.source, pair.hypothesis)
        # To a tokenizer that is called with a single pair, an empty answer is none.
        return (pair.source, pair.hypothesis) if pair.hypothesis else pair.source

    def _converse(self, source: str, answer: str) -> str:
        """The conversation with the answer, as one text."""
        try:
            conversation = json.loads(source)
        except ValueError as error:
            raise _Unscorable(f"the question is no conversation in JSON: {error}") from error
        if not isinstance(conversation, list) or not all(isinstance(message, dict) for message in conversation):
            raise _Unscorable("the question is no conversation: it must be a list of messages with role and content")
        messages = [*conversation, {"role": "assistant", "content": answer}]
        try:
            return self._tokenizer.apply_chat_template(messages, tokenize=False)
        except (TemplateError, TypeError) as error:
            # Templates join contents as text: one that is none is a TypeError.
            raise _Unscorable(f"the chat template refuses the conversation: {error}") from error

    def _fit(self, place: int, pair: Pair, encoding: Any) -> _Text:
        """The text without the end of the answer, where that is too long."""
        tokens, types = encoding.ids, encoding.type_ids
        if not tokens:
            raise _Unscorable("question and answer have no tokens")
        excess = len(tokens) - self._max_length
        if excess > 0:
            start, end = self._place_of_answer(pair, encoding)
            question = len(tokens) - (end - start)
            if question >= self._max_length:
                raise _Unscorable(f"the question alone has {question} of {self._max_length} tokens")
            del tokens[end - excess : end], types[end - excess : end]
        return _Text(place, tokens, types, excess > 0)

    def _place_of_answer(self, pair: Pair, encoding: Any) -> tuple[int, int]:
        """The answer's tokens: its first one, and the one behind its last."""
        if self._form == "pair":
            belongs = encoding.sequence_ids
            start = belongs.index(1) if 1 in belongs else 0
            return start, start + belongs.count(1)
        # What a template makes of another answer is equal up to this one and behind it, also where it trims answers.
        rendered, other = (self._converse(pair.source, answer) for answer in (pair.hypothesis, _SOME_ANSWER))
        last = len(rendered) - _equal_beginning(rendered[::-1], other[::-1])
        # A template may also show the answer elsewhere before: it is what comes last.
        first = max(_equal_beginning(rendered, other), last - len(pair.hypothesis))
        # By their ends: tokenizers count no spaces as a token's own at its beginning.
        ends = [end for _, end in encoding.offsets]
        start = next((place for place, end in enumerate(ends) if end > first), len(ends))
        return start, next((place for place in range(start, len(ends)) if ends[place] > last), len(ends))


def _equal_beginning(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _load_tokenizer(folder: str | Path, form: Form, trust_remote_code: bool) -> Any:
    tokenizer = load_part(AutoTokenizer, folder, "tokenizer", trust_remote_code=trust_remote_code)
    # Where there is no vocabulary, transformers makes one of its own, of nothing but special tokens.
    names = {"tokenizer.json", *tokenizer.vocab_files_names.values()}
    if not any((Path(folder) / name).exists() for name in names):
        raise InputError(f"{folder}: no tokenizer here ({', '.join(sorted(names))})")
    if not tokenizer.is_fast:
        raise InputError(
            f"{folder}: the tokenizer does not tell where in a text its tokens lie, which is needed to cut answers;"
            " put a tokenizer.json there"
        )
    if form == "chat" and not tokenizer.chat_template:
        raise InputError(
            f"{folder}: the tokenizer has no chat template; put one there as chat_template.jinja, or use form: pair"
        )
    return tokenizer


def _load_classifier(folder: str | Path, dtype: torch.dtype, trust_remote_code: bool) -> Any:
    """A model with one label, of which no weight is missing."""
    model, report = load_part(
        AutoModelForSequenceClassification,
        folder,
        "classification model",
        dtype=dtype,
        output_loading_info=True,
        trust_remote_code=trust_remote_code,
    )
    missing = sorted(report["missing_keys"])
    head = [name for name in missing if not name.startswith(f"{model.base_model_prefix}.")]
    # transformers would go on with random numbers in their place.
    if head:
        raise InputError(
            f"{folder}: the weights lack the classification head ({', '.join(head)}): this is no reward model"
        )
    if missing:
        raise InputError(f"{folder}: the weights lack {len(missing)} tensors of the model, such as {missing[0]}")
    if model.config.num_labels != 1:
        raise InputError(
            f"{folder}: a classifier with {model.config.num_labels} labels; a reward model has one, its score"
        )
    return model


def _longest(folder: str | Path, config: Any, tokenizer: Any, max_length: int | None) -> int:
    """Most tokens of a text. max_length: what the user wants, if anything."""
    positions = getattr(config, "max_position_embeddings", None) or _NO_LIMIT
    if positions < 1 or not getattr(config, "position_biased_input", True):
        # DeBERTa without positions of its own at the input knows distances only, and takes all the far ones as equal.
        positions = _NO_LIMIT
    if max_length is None:
        limit = min(positions, int(tokenizer.model_max_length), _NO_LIMIT)
        log.info("%s takes %s", folder, "texts of any length" if limit == _NO_LIMIT else f"up to {limit:,} tokens")
        return limit
    if not 1 <= max_length <= positions:
        raise InputError(f"{folder}: max_length is {max_length}, but the model takes 1 to {positions} tokens")
    return max_length
