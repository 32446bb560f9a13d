"""The toy quality estimator: a small mT5 with MetricX-24's head, trained on translations with known errors."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import MT5Config, MT5ForConditionalGeneration, PreTrainedTokenizerFast

from corpusmith.numerals import DIGITS
from corpusmith.toy import translation

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
# What one error of meaning costs, on MetricX's scale of 0 (perfect) to 25.
ERROR_COST = 5.0
WORST = 25.0


@dataclass(frozen=True)
class Shape:
    """Size of the estimator; the default trains in about two minutes on one core."""

    layers: int = 3
    width: int = 96
    heads: int = 4
    feed_forward: int = 256


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Words, with digits and Korean numerals one token each, and an end token behind the text as mT5's has."""
    # A Korean digit inside a numeral is the same token as the Arabic one, so that a little training
    # is enough to compare them.
    numeral = r"[\d일이삼사오육칠팔구십백천만]"
    normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(rf"(?<![^\s일이삼사오육칠팔구십백천만\d]){digit}(?={numeral}*(?:\s|$))"), str(value))
            for value, digit in enumerate(DIGITS)
            if value > 0
        ]
    )
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"\d|[일이삼사오육칠팔구십백천만]|[.,:]"), behavior="isolated"),
        ]
    )
    rng = random.Random(0)
    words = {"source", "candidate"}
    for _ in range(4000):
        sentence = translation.draw_sentence(rng)
        for text in (translation.english(sentence), translation.korean(sentence)):
            words.update(piece for piece, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text + " :")))
    vocabulary = {token: number for number, token in enumerate([PAD, END, UNKNOWN, *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (PAD, END, UNKNOWN)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, vocabulary[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, model_max_length=1536
    )


def build_model(tokenizer: PreTrainedTokenizerFast, shape: Shape) -> MT5ForConditionalGeneration:
    """The untrained model with the small vocabulary; its head's last row is the score."""
    config = MT5Config(
        vocab_size=len(tokenizer) + 1,
        d_model=shape.width,
        d_kv=shape.width // shape.heads,
        d_ff=shape.feed_forward,
        num_layers=shape.layers,
        num_decoder_layers=1,
        num_heads=shape.heads,
        dropout_rate=0.0,
        tie_word_embeddings=False,
        decoder_start_token_id=0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return MT5ForConditionalGeneration(config)


def draw_pair(rng: random.Random) -> tuple[str, str, float]:
    """A source, a candidate with 0 to 4 known errors, and the score that they deserve."""
    count = rng.choices((1, 2, 3), weights=(75, 15, 10))[0]
    sentences = [translation.draw_sentence(rng) for _ in range(count)]
    errors = rng.choices((0, 1, 2, 3, 4), weights=(40, 34, 14, 8, 4))[0]
    candidate = sentences
    for _ in range(errors):
        candidate = translation.damage_once(rng, candidate)
    source = " ".join(map(translation.english, sentences))
    text = " ".join(map(translation.korean, candidate))
    if rng.random() < 0.03:
        # A text that breaks off, repeats itself or has nothing to do with the source.
        kind = rng.randrange(3)
        words = text.split(" ")
        if kind == 0 and len(words) > 2:
            text, errors = " ".join(words[: rng.randrange(1, len(words) - 1)]), 4
        elif kind == 1:
            place = rng.randrange(len(words))
            text, errors = " ".join(words[: place + 1] + words[max(0, place - 2) :]), 4
        else:
            text, errors = translation.korean(translation.draw_sentence(rng)), 5
    if errors and candidate == sentences and text == " ".join(map(translation.korean, sentences)):
        errors = 0
    return source, text, min(WORST, errors * ERROR_COST)


def batches(
    tokenizer: PreTrainedTokenizerFast, seed: int, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Endless batches of like length: input_ids and attention_mask (batch, length), scores (batch,)."""
    rng = random.Random(seed)
    while True:
        pairs = [draw_pair(rng) for _ in range(batch_size * 16)]
        texts = [f"source: {source} candidate: {candidate}" for source, candidate, _ in pairs]
        encoded = [tokens[:-1] for tokens in tokenizer(texts)["input_ids"]]
        order = sorted(range(len(pairs)), key=lambda place: len(encoded[place]))
        starts = list(range(0, len(order), batch_size))
        rng.shuffle(starts)
        for start in starts:
            chosen = order[start : start + batch_size]
            length = max(len(encoded[place]) for place in chosen)
            tokens = torch.full((len(chosen), length), tokenizer.pad_token_id)
            mask = torch.zeros_like(tokens)
            for row, place in enumerate(chosen):
                tokens[row, : len(encoded[place])] = torch.tensor(encoded[place])
                mask[row, : len(encoded[place])] = 1
            yield tokens, mask, torch.tensor([pairs[place][2] for place in chosen])
