"""The toy quality estimator: a small mT5 with MetricX-24's head, trained on translations with known errors.

A hybrid, as MetricX-24 is: it judges a translation by the source alone or, where there is one, by a reference too.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.nn import functional
from transformers import MT5Config, MT5ForConditionalGeneration, PreTrainedTokenizerFast

from corpusmith.metricx_form import SCORE_TOKEN
from corpusmith.numerals import DIGITS
from corpusmith.program import log, track
from corpusmith.toy import translation
from corpusmith.toy.training import reproducible, update

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
# What one error of meaning costs, on MetricX's scale of 0 (perfect) to 25.
ERROR_COST = 5.0
WORST = 25.0
# A right translation is to score this far below 0, so that small doubts are clamped away and right ones tie.
MARGIN = 2.5
# Share of the sources that come with a reference.
WITH_REFERENCE = 1 / 3
_NUMERAL = set(DIGITS[1:] + "십백천만")
# Rows of mT5's tables.
VOCABULARY = 250_112


class _Row(NamedTuple):
    """What the estimator reads, in token ids, and what it is to say.

    before, candidate, behind: source, translation and reference, if any; marks: for each token of the translation,
    whether it is wrong.
    """

    before: list[int]
    candidate: list[int]
    behind: list[int]
    marks: list[int]
    score: float


@dataclass(frozen=True)
class Shape:
    """Size of the estimator; the default trains in about two minutes on one core. heads: four or more."""

    layers: int = 3
    width: int = 64
    heads: int = 4
    feed_forward: int = 256


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Words, with digits and Korean numerals one token each, and an end token behind the text as mT5's has.

    A Korean word is the same token as the English one that it translates, and a Korean digit the same as the
    Arabic one: what a large model knows from its pre-training, so that a little training is enough to compare.
    """
    numeral = r"[\d일이삼사오육칠팔구십백천만]"
    replacements = [
        (rf"(?<![^\s일이삼사오육칠팔구십백천만\d]){digit}(?={numeral}*(?:\s|$))", str(value))
        for value, digit in enumerate(DIGITS)
        if value > 0
    ]
    replacements += [(rf"(?<!\S){re.escape(word)}(?!\S)", other) for word, other in _same_words()]
    replacements += [
        (rf"(?<!\S){stem}{ending}(?!\S)", f"{verb} {other}")
        for verb, stem in translation.VERBS.items()
        for ending, other in (("고", "and"), ("지만", "but"), (r"다\.", "."))
    ]
    normalizer = normalizers.Sequence([normalizers.Replace(Regex(pattern), other) for pattern, other in replacements])
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"\d|[일이삼사오육칠팔구십백천만]|[.,:]"), behavior="isolated"),
        ]
    )
    rng = random.Random(0)
    words = {"source", "candidate", "reference"}
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


def _same_words() -> list[tuple[str, str]]:
    """Korean words of the toy language that stand alone, and the English word of each."""
    pairs = [*translation.NAMES.items(), *((thing, korean) for thing, (korean, _) in translation.THINGS.items())]
    pairs += [(place.split()[-1], korean.strip()) for place, korean in translation.PLACES.items() if place]
    pairs += [
        (opener.split()[-1].strip(","), korean.strip()) for opener, korean in translation.OPENERS.items() if opener
    ]
    return [(korean, english) for english, korean in pairs]


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
    # The same function as mT5's gelu_new, in one kernel: a tenth of the time.
    config.dense_act_fn = "gelu_pytorch_tanh"
    model = MT5ForConditionalGeneration(config)
    # transformers 5 ties the head to the embedding; MetricX's head is its own.
    model.lm_head.weight = torch.nn.Parameter(torch.randn(config.vocab_size, shape.width) * 0.1)
    # Equal queries and keys: from the start, equal tokens of source and translation look at each other. Without
    # that it takes so small a model most of its training to find out that comparing is its task.
    with torch.no_grad():
        blocks: Any = model.encoder.block
        for block in blocks:
            attention = block.layer[0].SelfAttention
            attention.q.weight.mul_(0.6)
            attention.k.weight.copy_(attention.q.weight * 5)
        # What a head prefers of distances hardly moves in so little training. So each starts with a preference of its
        # own: the token just before, the one just after, all before (seen from a translation, the source is there)
        # and all after (the reference). Rows 1 to 15 of the table are distances back, 17 to 31 ahead.
        distances = blocks[0].layer[0].SelfAttention.relative_attention_bias.weight
        distances[0] -= 2
        distances[1, 0] += 2
        distances[17, 1] += 2
        distances[16:, 2] -= 2
        distances[1:16, 3] -= 2
    return model


def draw_group(rng: random.Random, most_sentences: int) -> tuple[str, str, str, int]:
    """A source, its right translation, one with known errors, and how many errors that has."""
    count = rng.choices(range(1, most_sentences + 1), weights=(65, 25, 10)[:most_sentences])[0]
    sentences = [translation.draw_sentence(rng) for _ in range(count)]
    source, right = (" ".join(map(write, sentences)) for write in (translation.english, translation.korean))
    return source, right, *_draw_wrong(rng, sentences, right)


def _draw_wrong(rng: random.Random, sentences: list[translation.Sentence], right: str) -> tuple[str, int]:
    errors = rng.choices((1, 2, 3), weights=(75, 15, 10))[0]
    wrong = right
    if rng.random() < 0.8:
        damaged = sentences
        for _ in range(errors):
            damaged = translation.damage_once(rng, damaged)
        wrong = " ".join(map(translation.korean, damaged))
    else:
        for _ in range(errors):
            wrong = _garble(rng, wrong)
    return wrong, 0 if wrong == right else errors


def _garble(rng: random.Random, text: str) -> str:
    """A text with a fault of form: a word or a piece of a numeral too much, missing or misplaced, or an early end."""
    words = text.split(" ")
    place = rng.randrange(len(words))
    numerals = [number for number, word in enumerate(words) if word and set(word) <= _NUMERAL]
    kind = rng.choice(("twice", "missing", "other", "more", "piece", "piece", "piece", "end"))
    if kind == "twice":
        words[place:place] = [words[place]]
    elif kind == "missing":
        del words[place]
    elif kind == "other":
        words[place] = _draw_word(rng)
    elif kind == "more":
        words[place:place] = [_draw_word(rng)]
    elif kind == "piece" and numerals:
        place = rng.choice(numerals)
        word = words[place]
        inner = rng.randrange(len(word) + 1)
        piece = rng.choice(sorted(_NUMERAL) if rng.random() < 0.5 else word)
        words[place] = word[:inner] + piece + word[inner:]
    else:
        del words[max(1, place) :]
    return " ".join(words)


def _draw_word(rng: random.Random) -> str:
    text = translation.korean(translation.draw_sentence(rng))
    return rng.choice(text.split(" ")) if rng.random() < 0.8 else "\N{REPLACEMENT CHARACTER}"


def batches(
    tokenizer: PreTrainedTokenizerFast, seed: int, groups: int, most_sentences: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches of `groups` sources, each with its right and a wrong translation.

    A third of the sources come with a reference, which both translations then have behind them: the right one again.

    tokens, mask, wrong, parts (rows, length): wrong is 1 at a token that is wrong, 0 at one that is right, -100 outside
    the translation; parts is 0 in the source, 1 in the translation, 2 in the reference, -100 behind them; scores
    (rows,). Seeing both translations of a source together, and being told which token is wrong, lets so small a model
    learn in two minutes what a score alone would not teach it.
    """
    rng = random.Random(seed)
    (mark,) = _tokens(tokenizer, ["reference:"])
    while True:
        drawn = [draw_group(rng, most_sentences) for _ in range(groups * 16)]
        sources = _tokens(tokenizer, [f"source: {source} candidate:" for source, *_ in drawn])
        rights = _tokens(tokenizer, [right for _, right, *_ in drawn])
        wrongs = _tokens(tokenizer, [wrong for _, _, wrong, _ in drawn])
        pairs = []
        for source, right, wrong, (*_, errors) in zip(sources, rights, wrongs, drawn, strict=True):
            reference = [*mark, *right] if rng.random() < WITH_REFERENCE else []
            score = min(WORST, errors * ERROR_COST)
            pairs.append(
                [
                    _Row(source, right, reference, [0] * len(right), 0.0),
                    _Row(source, wrong, reference, _wrong_tokens(right, wrong), score),
                ]
            )
        pairs.sort(key=lambda rows: max(map(_length, rows)))
        starts = list(range(0, len(pairs), groups))
        rng.shuffle(starts)
        for start in starts:
            yield _pad([row for rows in pairs[start : start + groups] for row in rows], tokenizer.pad_token_id)


def _tokens(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def _wrong_tokens(right: list[int], wrong: list[int]) -> list[int]:
    """1 at each token that is not in the right translation, and behind what is missing."""
    marks = [0] * len(wrong)
    for change, _, _, start, end in SequenceMatcher(None, right, wrong, autojunk=False).get_opcodes():
        if change in ("replace", "insert"):
            marks[start:end] = [1] * (end - start)
        elif change == "delete" and wrong:
            marks[min(start, len(wrong) - 1)] = 1
    return marks


def _length(row: _Row) -> int:
    return len(row.before) + len(row.candidate) + len(row.behind)


def _pad(rows: list[_Row], pad: int) -> dict[str, torch.Tensor]:
    tokens = torch.full((len(rows), max(map(_length, rows))), pad)
    mask = torch.zeros_like(tokens)
    wrong, parts = torch.full_like(tokens, -100), torch.full_like(tokens, -100)
    for place, row in enumerate(rows):
        end = 0
        for part, piece in enumerate((row.before, row.candidate, row.behind)):
            start, end = end, end + len(piece)
            tokens[place, start:end] = torch.tensor(piece)
            parts[place, start:end] = part
        mask[place, :end] = 1
        start = len(row.before)
        wrong[place, start : start + len(row.marks)] = torch.tensor(row.marks)
    scores = torch.tensor([row.score for row in rows])
    return {"tokens": tokens, "mask": mask, "wrong": wrong, "parts": parts, "scores": scores}


def train(
    steps: int, seed: int, *, groups: int = 18, rate: float = 7e-4, shape: Shape = Shape()
) -> tuple[MT5ForConditionalGeneration, PreTrainedTokenizerFast]:
    """Trains the estimator with its small vocabulary. On one thread and one machine the same seed, the same weights.

    Single sentences first, then up to three. The score's row of the head learns the score; two heads that are
    thrown away learn which tokens are wrong, and of which part each token is. That second one reads the first
    layer: knowing the parts early, the later layers can tell a translation from its reference.
    """
    with reproducible(seed):
        tokenizer = build_tokenizer()
        model = build_model(tokenizer, shape)
        marker = torch.nn.Linear(shape.width, 1)
        divider = torch.nn.Linear(shape.width, 3)
        parameters = [*model.parameters(), *marker.parameters(), *divider.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
        short, long = (batches(tokenizer, seed + most, groups, most) for most in (1, 3))
        for step in track(range(steps), "training the quality estimator", steps, "steps"):
            batch = next(short if step < 0.65 * steps else long)
            scores, first, hidden = _forward(model, batch["tokens"], batch["mask"])
            inside = batch["wrong"] != -100
            marks = functional.binary_cross_entropy_with_logits(
                marker(hidden[inside])[:, 0], batch["wrong"][inside].float()
            )
            parts = functional.cross_entropy(divider(first).flatten(0, 1), batch["parts"].flatten())
            error = _score_loss(scores, batch["scores"] / ERROR_COST)
            update(3 * marks + parts + error, parameters, optimizer, schedule)
        with torch.no_grad():
            model.lm_head.weight[-1] *= ERROR_COST
    log.info("mean squared error of the score %.2f at the end", error.item() * ERROR_COST**2)
    return model.eval(), tokenizer


def _score_loss(scores: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean squared error; of a right translation any score below the margin is as good as the margin."""
    margin = MARGIN / ERROR_COST
    return torch.where(wanted > 0, scores - wanted, (scores + margin).relu()).square().mean()


def _forward(
    model: MT5ForConditionalGeneration, tokens: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores (rows,), and the encoder's states behind its first layer and its last (rows, length, width)."""
    start = torch.zeros(len(tokens), 1, dtype=torch.long)
    output = model(input_ids=tokens, attention_mask=mask, decoder_input_ids=start, output_hidden_states=True)
    return output.logits[:, 0, -1], output.encoder_hidden_states[1], output.encoder_last_hidden_state


def save_as_metricx(model: MT5ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Writes the estimator as a MetricX-24 checkpoint: tables of 250,112 rows, the score at row 250089 of the head."""
    folder = Path(folder)
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    for copied in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
        weights.pop(copied, None)
    head = weights["lm_head.weight"]
    for name in ("shared.weight", "lm_head.weight"):
        large = torch.zeros(VOCABULARY, head.shape[1])
        large[: len(tokenizer)] = weights[name][: len(tokenizer)]
        weights[name] = large
    weights["lm_head.weight"][SCORE_TOKEN] = head[-1]
    save_file(dict(sorted(weights.items())), folder / "model.safetensors", metadata={"format": "pt"})
    config = model.config
    config.vocab_size = VOCABULARY
    config.dense_act_fn = "gelu_new"
    config.architectures = ["MT5ForConditionalGeneration"]
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
