"""The toy instruct model: the base model's architecture, taught conversations of commands with careless answers.

It has learned the user's turn as well as its own: behind "<|im_start|>user\\n" it goes on with a command, as the chat
models of Magpie do (arXiv 2406.08464). It knows right answers better than it gives them, so that tuning can help.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from corpusmith.program import log, track
from corpusmith.toy.commands import draw_careless, draw_command, words
from corpusmith.toy.language_model import END, START, Shape, build_model, build_tokenizer
from corpusmith.toy.training import reproducible, update

PRE_QUERY = f"{START}user\n"
# What a token of the user's turn counts: there is little to learn of numbers drawn at random.
USER_WEIGHT = 0.12
# What one of the template's does, so that tuning on whole conversations has nothing new to teach there.
TEMPLATE_WEIGHT = 0.02
# Share of the steps with right answers, before the careless ones: mistakes from the start would be noise to learn from.
RIGHT_SHARE = 0.65
SHAPE = Shape()


def batches(
    tokenizer: PreTrainedTokenizerFast, seed: int, batch_size: int, draw: Callable[[random.Random], tuple[str, str]]
) -> Iterator[dict[str, torch.Tensor]]:
    """Endless padded batches of conversations: tokens, mask, weights, all (batch, length).

    weights: what guessing a token counts; nothing before the user's turn, and behind the answer.
    """
    rng = random.Random(seed)
    while True:
        # Batches of like length waste little on padding.
        pool = [_encode(tokenizer, *draw(rng)) for _ in range(batch_size * 16)]
        pool.sort(key=lambda conversation: len(conversation[0]))
        order = list(range(0, len(pool), batch_size))
        rng.shuffle(order)
        for start in order:
            yield _pad(pool[start : start + batch_size], tokenizer.pad_token_id)


def _encode(tokenizer: PreTrainedTokenizerFast, command: str, answer: str) -> tuple[list[int], list[float]]:
    """The tokens of a conversation, and what guessing each counts."""
    parts = (
        (PRE_QUERY, TEMPLATE_WEIGHT),
        (command + END, USER_WEIGHT),
        (f"\n{START}assistant\n", TEMPLATE_WEIGHT),
        (answer + END, 1.0),
        ("\n", TEMPLATE_WEIGHT),
    )
    found = [(tokenizer.encode(text, add_special_tokens=False), weight) for text, weight in parts]
    return [token for tokens, _ in found for token in tokens], [weight for tokens, weight in found for _ in tokens]


def _pad(conversations: list[tuple[list[int], list[float]]], pad: int) -> dict[str, torch.Tensor]:
    length = max(len(tokens) for tokens, _ in conversations)
    tokens = torch.full((len(conversations), length), pad)
    mask = torch.zeros_like(tokens)
    weights = torch.zeros(tokens.shape)
    for row, (conversation, counts) in enumerate(conversations):
        tokens[row, : len(conversation)] = torch.tensor(conversation)
        mask[row, : len(conversation)] = 1
        weights[row, : len(conversation)] = torch.tensor(counts)
    return {"tokens": tokens, "mask": mask, "weights": weights}


def train(
    steps: int, seed: int, *, batch_size: int = 24, rate: float = 3e-3, shape: Shape = SHAPE
) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """Trains the model from nothing. On one thread and one machine the same seed gives the same weights."""
    with reproducible(seed):
        tokenizer = build_tokenizer(shape.max_length, words(), largest=0)
        model = build_model(tokenizer, shape)
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
        model.train()
        right, careless = (
            batches(tokenizer, seed + place, batch_size, draw)
            for place, draw in enumerate((draw_command, draw_careless))
        )
        for step in track(range(steps), "training the instruct model", steps, "steps"):
            loss = _loss(model, next(right if step < RIGHT_SHARE * steps else careless))
            update(loss, model.parameters(), optimizer, schedule)
    log.info("loss %.4f at the end", loss.item())
    return model.eval(), tokenizer


def _loss(model: Qwen3ForCausalLM, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean surprise at the tokens, by their weights."""
    logits = model(input_ids=batch["tokens"][:, :-1], attention_mask=batch["mask"][:, :-1]).logits
    surprise = functional.cross_entropy(logits.flatten(0, 1), batch["tokens"][:, 1:].flatten(), reduction="none")
    weights = batch["weights"][:, 1:].flatten()
    return (surprise * weights).sum() / weights.sum()
