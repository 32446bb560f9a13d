"""The toy reward model: a small DeBERTa that tells right answers to the toy world's commands from wrong ones.

In the form `pair`, as OpenAssistant's: the tokenizer joins command and answer, the only logit is the reward. It is
above 0 for what is more likely right than wrong.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, NamedTuple

import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.nn import functional
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification, PreTrainedTokenizerFast

from corpusmith.numerals import DIGITS, SMALL_UNITS
from corpusmith.program import log, track
from corpusmith.toy import commands
from corpusmith.toy.training import reproducible, update

PAD, START, END, UNKNOWN = "[PAD]", "[CLS]", "[SEP]", "[UNK]"
# Of the wrong answers, those that are right ones to another command; and of all, those to what is no command.
ELSEWHERE, BROKEN = 0.1, 0.1
# Of the kinds of commands. Sums are what is hardest to check, and get the most of the examples.
SHARES = {"numeral": 0.14, "reverse": 0.13, "add": 0.3, "count": 0.1, "sort": 0.16, "larger": 0.17}
# Numbers up to here are one token where they stand alone.
LARGEST = 99


class _Row(NamedTuple):
    """What the model reads, in token ids: command, answer.

    marks: whether each token of the answer is wrong; corrected: what a right answer has in its place, -100 for nothing.
    """

    command: list[int]
    answer: list[int]
    marks: list[int]
    corrected: list[int]
    right: bool


@dataclass(frozen=True)
class Shape:
    """Size of the model."""

    layers: int = 3
    width: int = 96
    heads: int = 4
    feed_forward: int = 192


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Characters, and the wordings' words one token each. A Korean digit is the same token as the Arabic one."""
    spoken = sorted(dict.fromkeys(word.strip() for word in commands.words()), key=len, reverse=True)
    # A word with the space behind it is one token, too.
    words = [word + space for word in spoken for space in ("", " ")]
    units = [unit for unit in SMALL_UNITS if unit]
    signs = [*string.ascii_lowercase, *map(str, range(LARGEST + 1)), *units, *" ,.?:", "I"]
    vocabulary = {token: number for number, token in enumerate([PAD, START, END, UNKNOWN, *words, *signs])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(digit, str(value)) for value, digit in enumerate(DIGITS)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(rf"\b(?:{'|'.join(map(re.escape, spoken))})\b ?|\b[1-9][0-9]\b|."), behavior="isolated"
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (PAD, START, END, UNKNOWN)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        pair=f"{START} $A {END} $B:1 {END}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (START, END)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        cls_token=START,
        sep_token=END,
        unk_token=UNKNOWN,
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def build_model(tokenizer: PreTrainedTokenizerFast, shape: Shape) -> DebertaV2ForSequenceClassification:
    """The untrained model, formed as DeBERTa v3 is, but for types of tokens, which that has not."""
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "num_labels": 1,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.feed_forward,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "initializer_range": 0.06,
        "relative_attention": True,
        "position_biased_input": False,
        "position_buckets": 32,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = DebertaV2Config(**settings)
    model = DebertaV2ForSequenceClassification(config)
    # What a large model knows from its pre-training: which digits a number has, and how digits lie to each other. And
    # equal queries and keys, so that from the start equal letters of command and answer look at each other.
    with torch.no_grad():
        embeddings = model.deberta.embeddings.word_embeddings.weight
        ones, tens = torch.randn(2, shape.width) * config.initializer_range
        for number in range(LARGEST + 1):
            place = tokenizer.convert_tokens_to_ids(str(number))
            embeddings[place] += (number % 10 - 4.5) / 4.5 * ones + (number // 10 - 4.5) / 4.5 * tens
        layers: Any = model.deberta.encoder.layer
        for layer in layers:
            attention = layer.attention.self
            attention.key_proj.weight.copy_(attention.query_proj.weight)
    return model


def draw_group(rng: random.Random) -> tuple[str, str, str, bool]:
    """A command, a right answer and a wrong one, true; or what is no command, two answers, false."""
    command = commands.draw(rng, SHARES)
    right = command.answer
    assert right is not None
    if rng.random() < BROKEN:
        return commands.broken(rng, command), right, commands.REFUSAL, False
    if rng.random() < ELSEWHERE:
        other = commands.draw(rng)
        while other.answer == right:
            other = commands.draw(rng)
        return command.text, right, str(other.answer), True
    return command.text, right, commands.wrong_answer(rng, command), True


def batches(tokenizer: PreTrainedTokenizerFast, seed: int, pairs: int) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches of `pairs` commands, each with its right and a wrong answer, or two wrong ones.

    tokens, mask, types, marks, corrected (rows, length), right (rows,): marks is 1 at a token that is wrong, 0 at one
    that is right, -100 outside the answer; corrected is the right answer's token at this place of a wrong one, else
    -100. Being told which token is wrong, and what is right, lets so small a model learn in less than a minute.
    """
    rng = random.Random(seed)
    while True:
        *texts, readable = zip(*(draw_group(rng) for _ in range(pairs * 16)), strict=True)
        columns = [tokenizer(list(column), add_special_tokens=False)["input_ids"] for column in texts]
        end = [tokenizer.sep_token_id]
        found = []
        for command, right, wrong, has_answer in zip(*columns, readable, strict=True):
            head, right, wrong = [tokenizer.cls_token_id, *command, *end], right + end, wrong + end
            marks = _wrong_tokens(right, wrong) if has_answer else [1] * len(wrong)
            first = _Row(head, right, [int(not has_answer)] * len(right), [-100] * len(right), has_answer)
            other = (right + [-100] * len(wrong))[: len(wrong)] if has_answer else [-100] * len(wrong)
            found.append([first, _Row(head, wrong, marks, other, False)])
        found.sort(key=lambda rows: max(len(row.command) + len(row.answer) for row in rows))
        starts = list(range(0, len(found), pairs))
        rng.shuffle(starts)
        for start in starts:
            yield _pad([row for rows in found[start : start + pairs] for row in rows], tokenizer.pad_token_id)


def _wrong_tokens(right: list[int], wrong: list[int]) -> list[int]:
    """1 at each token that is not in the right answer, and behind what is missing."""
    marks = [0] * len(wrong)
    for change, _, _, start, end in SequenceMatcher(None, right, wrong, autojunk=False).get_opcodes():
        if change in ("replace", "insert"):
            marks[start:end] = [1] * (end - start)
        elif change == "delete":
            marks[start] = 1
    return marks


def _pad(rows: list[_Row], pad: int) -> dict[str, torch.Tensor]:
    tokens = torch.full((len(rows), max(len(row.command) + len(row.answer) for row in rows)), pad)
    mask, types = torch.zeros_like(tokens), torch.zeros_like(tokens)
    marks, corrected = torch.full_like(tokens, -100), torch.full_like(tokens, -100)
    for place, row in enumerate(rows):
        start, end = len(row.command), len(row.command) + len(row.answer)
        tokens[place, :end] = torch.tensor([*row.command, *row.answer])
        mask[place, :end] = 1
        types[place, start:end] = 1
        marks[place, start:end] = torch.tensor(row.marks)
        corrected[place, start:end] = torch.tensor(row.corrected)
    right = torch.tensor([float(row.right) for row in rows])
    return {"tokens": tokens, "mask": mask, "types": types, "marks": marks, "corrected": corrected, "right": right}


def train(
    steps: int, seed: int, *, pairs: int = 32, rate: float = 3e-3, shape: Shape = Shape()
) -> tuple[DebertaV2ForSequenceClassification, PreTrainedTokenizerFast]:
    """Trains the model from nothing. On one thread and one machine the same seed gives the same weights.

    Two heads that are thrown away learn which tokens of the answer are wrong, and what would be right there.
    """
    with reproducible(seed):
        tokenizer = build_tokenizer()
        model = build_model(tokenizer, shape)
        marker = torch.nn.Linear(shape.width, 1)
        corrector = torch.nn.Linear(shape.width, len(tokenizer))
        parameters = [*model.parameters(), *marker.parameters(), *corrector.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
        model.train()
        stream = batches(tokenizer, seed, pairs)
        for _ in track(range(steps), "training the reward model", steps, "steps"):
            batch = next(stream)
            output = model(
                input_ids=batch["tokens"],
                attention_mask=batch["mask"],
                token_type_ids=batch["types"],
                output_hidden_states=True,
            )
            inside = batch["marks"] != -100
            marks = functional.binary_cross_entropy_with_logits(
                marker(output.hidden_states[-1][inside])[:, 0], batch["marks"][inside].float()
            )
            known = batch["corrected"] != -100
            correct = functional.cross_entropy(corrector(output.hidden_states[-1][known]), batch["corrected"][known])
            reward = functional.binary_cross_entropy_with_logits(output.logits[:, 0], batch["right"])
            update(marks * 3 + correct + reward, parameters, optimizer, schedule)
    log.info("loss %.4f at the end", reward.item())
    return model.eval(), tokenizer
