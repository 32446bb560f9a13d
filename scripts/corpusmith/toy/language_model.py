"""The toy base model: a small Qwen3 over characters, trained in a minute or two on a CPU."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from corpusmith import numerals
from corpusmith.program import log, track
from corpusmith.toy import maths, tasks, translation
from corpusmith.toy.training import reproducible, update

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
ROLES = ("system", "user", "assistant")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """Size of the model; the default has about 600,000 parameters."""

    layers: int = 3
    width: int = 128
    heads: int = 4
    feed_forward: int = 384
    max_length: int = 1024
    # With the usual 0.02 so narrow a model takes long to learn to copy, and on some seeds never does.
    initializer_range: float = 0.06


def alphabet() -> list[str]:
    """Every character the toy world writes: printable ASCII and the Hangul of its words and numerals."""
    hangul = set(numerals.DIGITS + "".join(numerals.SMALL_UNITS) + "".join(numerals.LARGE_UNITS))
    words = [*translation.NAMES.values(), *translation.VERBS.values(), *translation.PLACES.values()]
    words += [*translation.OPENERS.values(), *translation.JOINS.values(), "다예아니오맞틀"]
    words += [part for pair in translation.THINGS.values() for part in pair]
    hangul |= {character for word in words for character in word if ord(character) > 127}
    return ["\n", *string.printable[:95], maths.MULTIPLY, *sorted(hangul)]


def pieces() -> list[str]:
    """Words of the toy language that are one token each, with the space before them where there is one.

    Everything else is spelled out in characters, and what the toy world never writes in bytes, so that
    any text can be read and written.
    """
    english = [*translation.NAMES, *translation.THINGS, *translation.VERBS]
    english += [word for place in translation.PLACES for word in place.split()]
    english += [word for text in [*translation.OPENERS, *translation.JOINS] for word in text.split()]
    english += [*maths.NUMBER_WORDS, maths.BOX, maths.RIGHT, maths.WRONG, "Solve:", "Judge:"]
    english += [*maths.DEEDS, *maths.PHRASES]
    korean = [*translation.NAMES.values(), *translation.PLACES.values(), *translation.OPENERS.values()]
    korean += [part for pair in translation.THINGS.values() for part in pair]
    korean += translation.VERBS.values()
    words = dict.fromkeys(word.strip() for word in [*english, *korean, "Korean:"] if len(word.strip()) > 0)
    spaced = [" " + word for word in words]
    signs = [f" {sign} " for sign in (maths.ADD, maths.SUBTRACT, maths.MULTIPLY, "=")]
    return [*(word for word in words if len(word) > 1), *spaced, *signs]


def build_tokenizer(
    max_length: int, words: Sequence[str] | None = None, largest: int = maths.LIMIT
) -> PreTrainedTokenizerFast:
    """A tokenizer of characters and of the toy language's words, with Qwen's chat markers and template.

    Roles are one token each. words: those that are one token in place of the toy language's; largest: numbers from 10
    to this one are one token.
    """
    spelled = [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary = {token: number for number, token in enumerate([PAD, START, END, *spelled, *alphabet()])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (PAD, START, END)])
    tokenizer.add_tokens(
        [AddedToken(role, normalized=False) for role in [*ROLES, *(pieces() if words is None else words)]]
    )
    # Numbers that are reckoned with are one token each where they stand alone, and never part of a larger one.
    small = [str(number) for number in range(10, largest + 1)]
    tokenizer.add_tokens([AddedToken(number, normalized=False, single_word=True) for number in small])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        chat_template=CHAT_TEMPLATE,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, shape: Shape) -> Qwen3ForCausalLM:
    """The untrained model, its weights from torch's current seed."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.width // shape.heads,
        max_position_embeddings=shape.max_length,
        initializer_range=shape.initializer_range,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config)


def batches(
    tokenizer: PreTrainedTokenizerFast, task: tasks.Task, seed: int, batch_size: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Endless padded batches of one task: input_ids, attention_mask, labels (the answer only), all (batch, length)."""
    rng = random.Random(seed)
    while True:
        # Batches of like length waste little on padding.
        pool = [_encode(tokenizer, *task.draw(rng)) for _ in range(batch_size * 16)]
        pool.sort(key=lambda example: len(example[0]))
        order = list(range(0, len(pool), batch_size))
        rng.shuffle(order)
        for start in order:
            yield _pad(pool[start : start + batch_size], tokenizer.pad_token_id)


def _encode(tokenizer: PreTrainedTokenizerFast, message: str, answer: str) -> tuple[list[int], int]:
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True
    )
    prompt_tokens = tokenizer.encode(prompt, add_special_tokens=False)
    answer_tokens = tokenizer.encode(answer + END, add_special_tokens=False)
    return prompt_tokens + answer_tokens, len(prompt_tokens)


def _pad(examples: list[tuple[list[int], int]], pad: int) -> dict[str, torch.Tensor]:
    length = max(len(tokens) for tokens, _ in examples)
    tokens = torch.full((len(examples), length), pad)
    mask = torch.zeros_like(tokens)
    labels = torch.full_like(tokens, -100)
    for row, (example, prompt_length) in enumerate(examples):
        tokens[row, : len(example)] = torch.tensor(example)
        mask[row, : len(example)] = 1
        labels[row, prompt_length : len(example)] = tokens[row, prompt_length : len(example)]
    return {"input_ids": tokens, "attention_mask": mask, "labels": labels}


def train(
    steps: int, seed: int, *, batch_size: int = 28, rate: float = 2e-3, shape: Shape = Shape()
) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """Trains the model from nothing. On one thread and one machine the same seed gives the same weights."""
    with reproducible(seed):
        tokenizer = build_tokenizer(shape.max_length)
        model = build_model(tokenizer, shape)
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
        model.train()
        # A batch of each task in every step: steps of one task alone would undo each other.
        sizes = {task: max(1, round(batch_size * task.share)) for task in tasks.TASKS}
        streams = {task: batches(tokenizer, task, seed, size) for task, size in sizes.items()}
        for step in track(range(steps), "training the base model", steps, "steps"):
            parts = [next(stream) for task, stream in streams.items() if step >= task.start * steps]
            tokens = sum((part["labels"] != -100).sum() for part in parts)
            loss = sum(model(**part, num_items_in_batch=tokens).loss for part in parts)
            update(loss, model.parameters(), optimizer, schedule)
    log.info("loss %.4f at the end", loss.item())
    return model.eval(), tokenizer
