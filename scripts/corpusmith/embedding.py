"""Embeddings of texts by any encoder or decoder of transformers: the mean over a text's tokens, of length 1.

    ["Add 12 and 30.", "Add 12 to 30.", "Name a river."]   ->   float32 (3, width)
    the scalar product of two rows is their cosine: 0.98 of the first two, 0.4 of the first and the third

The model computes in the dtype that is asked for; the mean and the length are taken in float32. Of a model with encoder
and decoder the encoder is used.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from corpusmith.batching import behind, moved, pack
from corpusmith.errors import InputError
from corpusmith.pretrained import load_part

# Tokenizers without a limit give a number beyond this one.
_NO_LIMIT = 10**9
# What models put on top of their last layer is not used here, and checkpoints of language models lack it.
_UNUSED = "pooler."


class Embedded(NamedTuple):
    """Embeddings of texts. vectors: float32 (texts, width), zeros for a text without tokens; truncated: how many."""

    vectors: NDArray[np.float32]
    truncated: int


class _Batch(NamedTuple):
    places: list[int]
    tokens: torch.Tensor
    inside: torch.Tensor


class EmbeddingModel:
    """A model in a folder with its tokenizer.

    dtype: as torch names it; tokens_per_batch: most tokens, padding counted, in one batch; max_length: most tokens of a
    text, fewer where model or tokenizer take fewer; what is longer loses its end. prefix: what stands before each text,
    such as "query: " for the E5 models. trust_remote_code: whether code of the folder runs. Raises InputError where the
    folder holds no such model.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        tokens_per_batch: int = 16_384,
        max_length: int = 512,
        prefix: str = "",
        trust_remote_code: bool = False,
    ) -> None:
        self._folder, self._prefix = folder, prefix
        self._device, self._dtype = torch.device(device), getattr(torch, dtype)
        self._tokens_per_batch = tokens_per_batch
        self._tokenizer = load_part(AutoTokenizer, folder, "tokenizer", trust_remote_code=trust_remote_code)
        self._tokenizer.truncation_side = "right"
        model = _load(folder, self._dtype, trust_remote_code)
        self._model = model.to(self._device).eval()
        vocabulary, largest = model.get_input_embeddings().num_embeddings, max(self._tokenizer.get_vocab().values())
        if largest >= vocabulary:
            raise InputError(
                f"{folder}: the tokenizer has {largest + 1} tokens, the model {vocabulary}: they do not belong together"
            )
        self._max_length = _longest(folder, model, self._tokenizer, max_length)
        # Behind a text, where no other token sees it; some models tell by it where positions end.
        padding = getattr(model.config, "pad_token_id", None)
        padding = self._tokenizer.pad_token_id if padding is None else padding
        self._filler = padding if padding is not None and 0 <= padding < vocabulary else 0
        # A cache of keys and values would be for tokens to come.
        self._options = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
        self.width: int = model.config.get_text_config().hidden_size

    def embed(self, texts: Sequence[str]) -> Embedded:
        """The embeddings of texts, in their order. Raises InputError where numbers overflow in the dtype."""
        vectors = np.zeros((len(texts), self.width), np.float32)
        tokens, truncated = self._tokenize([self._prefix + text for text in texts])
        started = ((batch, self._start(batch)) for batch in self._batches(tokens))
        for batch, means in behind(started, 1):
            found = means.cpu()
            if not found.isfinite().all():
                raise InputError(
                    f"{self._folder}: its numbers overflow in {self._dtype}; give it another dtype, such as bfloat16 or"
                    " float32"
                )
            vectors[batch.places] = found.numpy()
        return Embedded(vectors, truncated)

    def _tokenize(self, texts: list[str]) -> tuple[list[list[int]], int]:
        """The tokens of each text, and how many texts lost their end."""
        if not texts:
            return [], 0
        tokens = self._tokenizer(texts, verbose=False)["input_ids"]
        long = [place for place, text in enumerate(tokens) if len(text) > self._max_length]
        if long:
            # Cut by the tokenizer, which knows what tokens stand behind a text.
            cut = self._tokenizer([texts[place] for place in long], truncation=True, max_length=self._max_length)
            for place, found in zip(long, cut["input_ids"], strict=True):
                tokens[place] = found
        return tokens, len(long)

    def _batches(self, tokens: list[list[int]]) -> Iterator[_Batch]:
        present = [place for place, found in enumerate(tokens) if found]
        for numbers in pack([len(tokens[place]) for place in present], self._tokens_per_batch):
            places = [present[number] for number in numbers]
            shape = len(places), len(tokens[places[0]])
            batch, inside = torch.full(shape, self._filler), torch.zeros(shape, dtype=torch.long)
            for row, place in enumerate(places):
                batch[row, : len(tokens[place])] = torch.tensor(tokens[place])
                inside[row, : len(tokens[place])] = 1
            yield _Batch(places, batch, inside)

    def _start(self, batch: _Batch) -> torch.Tensor:
        with torch.inference_mode():
            inside = moved(batch.inside, self._device)
            found = self._model(input_ids=moved(batch.tokens, self._device), attention_mask=inside, **self._options)
            # Padding may hold anything, and 0 times infinity is not 0.
            hidden = found.last_hidden_state.float().masked_fill(inside[:, :, None] == 0, 0.0)
            means = hidden.sum(1) / inside.sum(1, keepdim=True)
            return torch.nn.functional.normalize(means, dim=1)


def _load(folder: str | Path, dtype: torch.dtype, trust_remote_code: bool) -> Any:
    model, report = load_part(
        AutoModel, folder, "model", dtype=dtype, output_loading_info=True, trust_remote_code=trust_remote_code
    )
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(_UNUSED))
    if missing:
        # transformers would go on with random numbers in their place.
        raise InputError(f"{folder}: the weights lack {len(missing)} tensors of the model, such as {missing[0]}")
    return model.get_encoder() if model.config.is_encoder_decoder else model


def _longest(folder: str | Path, model: Any, tokenizer: Any, max_length: int) -> int:
    """Most tokens of a text."""
    special = tokenizer.num_special_tokens_to_add()
    if max_length <= special:
        raise InputError(f"{folder}: a text has at most {max_length} tokens, but {special} are the tokenizer's own")
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or _NO_LIMIT
    for name, module in model.named_modules():
        # RoBERTa and those like it count positions from behind that of the padding.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions = module.num_embeddings - module.padding_idx - 1
    return min(max_length, positions, int(tokenizer.model_max_length))
