"""The transformers engine: tiny models and machines without vLLM.

Batches are left-padded and of like length; each sample draws from a generator of its own. In float64
rounding is too small to show, so neither the batch size nor the order changes a sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from corpusmith.engines.constraints import Constraints, Matcher
from corpusmith.engines.protocol import Answer, Prompt, Question
from corpusmith.engines.rendering import render_prompt
from corpusmith.errors import InputError
from corpusmith.identity import digest
from corpusmith.pretrained import load_model, load_part

_BATCHES_IN_FLIGHT = 8


@dataclass
class _Row:
    """One answer on its way."""

    question: Question
    uniforms: np.ndarray
    matcher: Matcher | None = None
    tokens: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    text: str | None = None
    error: str | None = None

    def fail(self, error: str) -> None:
        self.finish_reason, self.text, self.error = "error", "", " ".join(error.split())


def family_of(dtype: str) -> str:
    """Engines that compute in another number format give other answers."""
    return f"transformers {dtype}"


class TransformersEngine:
    """A causal language model of transformers on one device.

    dtype: float64, float32, bfloat16 or float16; batch_size: answers that are generated together;
    max_length: most tokens of prompt and answer, by default the model's.
    Raises InputError where the folder holds no model.
    """

    retries = 0
    heard = math.inf

    def __init__(
        self,
        folder: str | Path,
        *,
        device: str,
        dtype: str,
        batch_size: int,
        max_length: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self._tokenizer = load_part(AutoTokenizer, folder, "tokenizer", trust_remote_code=trust_remote_code)
        self._model = load_model(AutoModelForCausalLM, folder, dtype, trust_remote_code=trust_remote_code)
        self._model.to(device).eval()
        self._device = torch.device(device)
        self._batch_size = batch_size
        longest = getattr(self._model.config, "max_position_embeddings", 2048)
        self._max_length: int = longest if max_length is None else max_length
        self._pad = self._tokenizer.pad_token_id
        if self._pad is None:
            self._pad = 0  # masked: any token will do
        self._ends = _end_tokens(self._model, self._tokenizer)
        self._vocabulary = self._model.get_output_embeddings().weight.shape[0]
        self._constraints: Constraints | None = None
        self._waiting: list[Question] = []
        self.capacity = batch_size * _BATCHES_IN_FLIGHT
        self.family = family_of(dtype)
        self.template = digest(self._tokenizer.chat_template or "")

    def prepare(self, request: Mapping[str, Any]) -> Prompt:
        """Renders messages through the chat template; a raw prompt gets the tokenizer's special tokens."""
        rows = self._model.get_input_embeddings().weight.shape[0]
        return render_prompt(request, self._tokenizer, rows, self._max_length)

    def submit(self, question: Question) -> None:
        """Takes a question."""
        self._waiting.append(question)

    def collect(self, timeout: float | None = None) -> Sequence[Answer]:
        """Answers one batch of questions of like length, however long that takes."""
        if not self._waiting:
            return []
        # Longest first, so that what does not fit into memory shows at once.
        self._waiting.sort(key=lambda question: (-len(question.prompt.token_ids), question.handle))
        batch, self._waiting = self._waiting[: self._batch_size], self._waiting[self._batch_size :]
        return self._answer(batch)

    def close(self) -> None:
        """Frees the model."""
        del self._model

    @torch.inference_mode()
    def _answer(self, questions: Sequence[Question]) -> list[Answer]:
        rows = [self._row(question) for question in questions]
        self._generate([row for row in rows if row.finish_reason is None])
        return [
            Answer(
                row.question.handle,
                row.text if row.text is not None else self._decode(row.tokens),
                row.finish_reason or "stop",
                len(row.question.prompt.token_ids),
                len(row.tokens),
                row.error,
            )
            for row in rows
        ]

    def _row(self, question: Question) -> _Row:
        # Philox is a counter-based generator: its stream depends on the seed alone.
        uniforms = np.random.Generator(np.random.Philox(question.seed)).random(self._room(question))
        row = _Row(question, uniforms)
        if question.choices is not None or question.json_schema is not None:
            if self._constraints is None:
                self._constraints = Constraints(self._tokenizer, self._vocabulary, self._ends)
            try:
                row.matcher = self._constraints.matcher(question.choices, question.json_schema)
            except InputError as error:
                row.fail(str(error))
        return row

    def _generate(self, rows: Sequence[_Row]) -> None:
        """Extends the rows token by token until each is finished."""
        if not rows:
            return
        logits, cache, mask, positions = self._read_prompts(rows)
        active = list(rows)
        while True:
            for row, of_row in zip(active, logits, strict=True):
                self._extend(row, of_row)
            going = [place for place, row in enumerate(active) if row.finish_reason is None]
            if not going:
                return
            if len(going) < len(active):
                chosen = torch.tensor(going, device=self._device)
                cache.batch_select_indices(chosen)
                mask, positions = mask[chosen], positions[chosen]
                active = [active[place] for place in going]
            mask = torch.cat([mask, mask.new_ones(len(active), 1)], dim=1)
            positions = positions + 1
            output = self._model(
                input_ids=torch.tensor([row.tokens[-1] for row in active], device=self._device)[:, None],
                attention_mask=mask,
                position_ids=positions[:, None],
                past_key_values=cache,
                use_cache=True,
            )
            logits = output.logits[:, -1].double().cpu().numpy()

    def _room(self, question: Question) -> int:
        return min(question.sampling.max_tokens, self._max_length - len(question.prompt.token_ids))

    def _read_prompts(self, rows: Sequence[_Row]) -> tuple[np.ndarray, DynamicCache, torch.Tensor, torch.Tensor]:
        """Runs each distinct prompt once; gives logits (rows, vocabulary), cache, mask and last positions by row."""
        prompts = list(dict.fromkeys(row.question.prompt.token_ids for row in rows))
        length = max(map(len, prompts))
        tokens = torch.full((len(prompts), length), self._pad)
        mask = torch.zeros_like(tokens)
        for place, prompt in enumerate(prompts):
            tokens[place, length - len(prompt) :] = torch.tensor(prompt)
            mask[place, length - len(prompt) :] = 1
        tokens, mask = tokens.to(self._device), mask.to(self._device)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        cache = DynamicCache()
        output = self._model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        where = {prompt: place for place, prompt in enumerate(prompts)}
        chosen = torch.tensor([where[row.question.prompt.token_ids] for row in rows], device=self._device)
        cache.batch_select_indices(chosen)
        logits = output.logits[:, -1][chosen].double().cpu().numpy()
        return logits, cache, mask[chosen], positions[chosen, -1]

    def _extend(self, row: _Row, logits: np.ndarray) -> None:
        """Adds one token to a row, or the reason why it has to end without an answer."""
        try:
            self._advance(row, self._draw(row, logits))
        except InputError as error:
            row.fail(str(error))

    def _draw(self, row: _Row, logits: np.ndarray) -> int:
        if not np.isfinite(logits.max()):
            raise InputError("the model's logits overflow; give it another dtype, such as bfloat16 or float32")
        if row.matcher is not None:
            logits = np.where(row.matcher.allowed(), logits, -np.inf)
        sampling = row.question.sampling
        if sampling.temperature == 0:
            return int(logits.argmax())
        scaled = logits / sampling.temperature
        probabilities = np.exp(scaled - scaled.max())
        if sampling.top_k or sampling.top_p < 1:
            probabilities = _cut(probabilities, sampling.top_k, sampling.top_p)
        cumulated = probabilities.cumsum()
        point = row.uniforms[len(row.tokens)] * cumulated[-1]
        return int(np.searchsorted(cumulated, point, side="right"))

    def _advance(self, row: _Row, token: int) -> None:
        row.tokens.append(token)
        if token in self._ends:
            row.finish_reason = "stop"
            return
        complete = row.matcher is not None and row.matcher.take(token)
        stops = row.question.sampling.stop
        if stops:
            text = self._decode(row.tokens)
            places = [place for place in (text.find(stop) for stop in stops) if place >= 0]
            if places:
                row.text, row.finish_reason = text[: min(places)], "stop"
                return
        if complete:
            row.finish_reason = "stop"
        elif len(row.tokens) >= len(row.uniforms):
            row.finish_reason = "length"

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _cut(probabilities: np.ndarray, top_k: int, top_p: float) -> np.ndarray:
    """The probabilities with all but the top_k set to 0, then all but the smallest set that holds top_p."""
    order = np.argsort(-probabilities, kind="stable")
    kept = probabilities[order]
    if top_k:
        kept[top_k:] = 0
    if top_p < 1:
        before = np.cumsum(kept) - kept
        kept[before >= top_p * kept.sum()] = 0
    result = np.zeros_like(probabilities)
    result[order] = kept
    return result


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    ends = getattr(model.generation_config, "eos_token_id", None)
    found = set(ends if isinstance(ends, list) else [] if ends is None else [ends])
    if tokenizer.eos_token_id is not None:
        found.add(tokenizer.eos_token_id)
    return sorted(found)
