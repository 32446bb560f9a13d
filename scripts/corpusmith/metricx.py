"""MetricX-24 (Juraska et al. 2024, google-research/metricx, Apache-2.0) on stock transformers.

An mT5 encoder-decoder reads `source: S candidate: H` (with ` reference: R` behind it where there is one); the
score is the logit of vocabulary entry 250089 at the decoder's first step, clamped to 0 … 25. It is an error
score: lower is better.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoTokenizer, MT5Model

from corpusmith.batching import behind, pack, read_back
from corpusmith.errors import InputError
from corpusmith.files import read_json
from corpusmith.metricx_form import HIGHEST, LOWEST, MAX_LENGTH, SCORE_TOKEN, as_input
from corpusmith.mt5 import FirstStep
from corpusmith.pairs import Pair, Scored
from corpusmith.pretrained import load_model, load_part
from corpusmith.program import log

_HEAD = "lm_head.weight"


class Batch(NamedTuple):
    """Texts of like length. places: theirs among all; tokens (texts, longest) and lengths (texts,) in int64."""

    places: list[int]
    tokens: torch.Tensor
    lengths: torch.Tensor


@dataclass(frozen=True)
class Prepared:
    """Pairs in batches, the longest first; and whether each pair was truncated."""

    batches: list[Batch]
    truncated: list[bool]


class MetricX:
    """A MetricX-24 checkpoint.

    folder: the checkpoint; tokenizer: the folder of its tokenizer (google/mt5-xl's; toy checkpoints bring
    their own); parts: devices that share the layers, the first ones of their kind; dtype: as torch names it;
    tokens_per_batch: most tokens, padding counted, in one batch; compiled: whether torch compiles the layers.
    Raises InputError where the folder holds no such checkpoint.
    """

    def __init__(
        self,
        folder: str | Path,
        tokenizer: str | Path,
        *,
        device: str = "cpu",
        parts: int = 1,
        dtype: str = "float32",
        tokens_per_batch: int = 16_384,
        max_length: int = MAX_LENGTH,
        compiled: bool = False,
    ) -> None:
        self._dtype = getattr(torch, dtype)
        devices = [torch.device(f"cuda:{part}" if device == "cuda" else device) for part in range(parts)]
        self._tokens_per_batch, self._max_length = tokens_per_batch, max_length
        # The head's one row is read from the checkpoint itself: transformers 5 marks every mT5 as tied,
        # and a tied head would be the embedding, and silently wrong.
        head = read_score_row(folder)
        config = load_part(AutoConfig, folder, "configuration")
        if config.model_type != "mt5":
            raise InputError(f"{folder}: a model of type {config.model_type}; MetricX-24 is an mT5")
        if head.shape != (config.d_model,):
            raise InputError(f"{folder}: the head is {head.shape[0]} wide, config.json says {config.d_model}")
        self._tokenizer = _load_tokenizer(tokenizer)
        model = load_model(MT5Model, folder, dtype)
        if self._tokenizer.eos_token_id is None or self._tokenizer.pad_token_id is None:
            raise InputError(f"{tokenizer}: MetricX's tokenizer has an end and a padding token, this one has not")
        # Sentinels, which no text contains, may lie beyond the table.
        used = [number for token, number in self._tokenizer.get_vocab().items() if not token.startswith("<extra_id_")]
        if max(used) >= model.config.vocab_size:
            raise InputError(
                f"{tokenizer}: a tokenizer of {max(used) + 1} tokens does not belong to {folder} with"
                f" {model.config.vocab_size}; MetricX-24 uses that of google/mt5-xl"
            )
        try:
            self._model = FirstStep(model, devices, compiled=compiled)
        except ValueError as error:
            raise InputError(f"{folder}: {error}: this is no MetricX-24 checkpoint") from error
        self._head = head.to(devices[-1], self._dtype)
        # One batch for each device that shares the layers, and one that is read back.
        self._ahead = parts

    def score(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        """For each pair its score, 0 (perfect) to 25, and whether it was truncated; in the order of the pairs."""
        logits, truncated = self.logits(pairs)
        return list(zip(logits.clamp(LOWEST, HIGHEST).tolist(), truncated, strict=True))

    def logits(self, pairs: Sequence[Pair]) -> tuple[torch.Tensor, list[bool]]:
        """The raw logits (pairs,) in float64 and whether each pair was truncated."""
        results, prepared = torch.empty(len(pairs), dtype=torch.float64), self.prepare(pairs)
        for places, logits in self._logits(prepared):
            results[places] = logits
        return results, prepared.truncated

    def prepare(self, pairs: Sequence[Pair]) -> Prepared:
        """The pairs as `score_batches` wants them: a CPU can do that while a GPU scores others."""
        encoded = self._tokenizer([as_input(pair) for pair in pairs], verbose=False)["input_ids"] if pairs else []
        if any(tokens[-1] != self._tokenizer.eos_token_id for tokens in encoded):
            raise InputError("the tokenizer puts no end token behind the text: it is not MetricX's")
        truncated = [len(tokens) > self._max_length for tokens in encoded]
        # Cut at the limit with the end token, which is dropped afterwards, as published.
        texts = [tokens[: min(len(tokens), self._max_length) - 1] for tokens in encoded]
        batches = pack([len(tokens) for tokens in texts], self._tokens_per_batch)
        return Prepared([_batch(places, [texts[place] for place in places]) for places in batches], truncated)

    def score_batches(self, prepared: Prepared) -> Iterator[list[Scored]]:
        """The same as `score` as it comes, batch by batch."""
        for places, logits in self._logits(prepared):
            scores = logits.clamp(LOWEST, HIGHEST).tolist()
            yield [Scored(place, score, prepared.truncated[place]) for place, score in zip(places, scores, strict=True)]

    def _logits(self, prepared: Prepared) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Places and logits in float64, batch by batch."""
        started = ((batch.places, self._start(batch)) for batch in prepared.batches)
        for places, logits in behind(started, self._ahead):
            yield places, read_back(logits, self._dtype)

    def _start(self, batch: Batch) -> torch.Tensor:
        with torch.inference_mode():
            return (self._model(batch.tokens, batch.lengths) @ self._head).double()


def _batch(places: list[int], texts: list[list[int]]) -> Batch:
    lengths = torch.tensor([len(tokens) for tokens in texts])
    tokens = torch.zeros(len(texts), int(lengths.max()), dtype=torch.long)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = torch.tensor(text)
    return Batch(places, tokens, lengths)


def _load_tokenizer(folder: str | Path) -> Any:
    # Where there is no vocabulary, transformers makes one of its own, of a hundred special tokens.
    if not any(path.name == "tokenizer.json" or path.suffix == ".model" for path in Path(folder).glob("*")):
        raise InputError(f"{folder}: no tokenizer here (spiece.model or tokenizer.json)")
    return load_part(AutoTokenizer, folder, "tokenizer")


def read_score_row(folder: str | Path) -> torch.Tensor:
    """The head's row of the score token, (width,), read from the checkpoint's files.

    Raises InputError where there is no head of its own or where its vocabulary is not MetricX's.
    """
    file = _file_of_head(Path(folder))
    try:
        return _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
    except (SafetensorError, OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        first_line = str(error).partition("\n")[0]
        raise InputError(f"{file}: is no whole file of weights ({first_line}); make or fetch it again") from error


def _read_safetensors(file: Path) -> torch.Tensor:
    with safe_open(file, framework="pt") as tensors:
        if _HEAD not in tensors.keys():  # noqa: SIM118 - not a mapping
            raise InputError(_no_head(file))
        head: Any = tensors.get_slice(_HEAD)
        _check_vocabulary(file, head.get_shape()[0])
        return head[SCORE_TOKEN : SCORE_TOKEN + 1][0].clone()


def _read_pickle(file: Path) -> torch.Tensor:
    weights = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    if _HEAD not in weights:
        raise InputError(_no_head(file))
    _check_vocabulary(file, weights[_HEAD].shape[0])
    return weights[_HEAD][SCORE_TOKEN].clone()


def _file_of_head(folder: Path) -> Path:
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (folder / index).exists():
            try:
                files = read_json(folder / index)["weight_map"]
            except (KeyError, TypeError) as error:
                raise InputError(f"{folder / index}: is no index of weights; make or fetch it again") from error
            if _HEAD not in files:
                raise InputError(_no_head(folder / index))
            return folder / files[_HEAD]
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).exists():
            return folder / name
    raise InputError(f"{folder}: no checkpoint here (model.safetensors or pytorch_model.bin)")


def _no_head(file: Path) -> str:
    return f"{file}: no {_HEAD}: MetricX-24 has a head of its own, beside the embedding; this is none"


def _check_vocabulary(file: Path, size: int) -> None:
    if size <= SCORE_TOKEN:
        raise InputError(
            f"{file}: a vocabulary of {size} entries; MetricX-24 keeps its score at entry {SCORE_TOKEN} of 250,112:"
            " this is no MetricX-24 checkpoint"
        )
    log.info("the score is entry %s of %s in %s", SCORE_TOKEN, f"{size:,}", file.name)
