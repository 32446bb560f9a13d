"""MetricX-24 against a loop written straight from its published description, on a random mT5 of real shape.

https://github.com/google-research/metricx: the input is "source: S candidate: H", with a reference " reference: R"
behind it, cut at 1536 tokens with the end token, which is then dropped. The decoder reads token 0, and the score is the
logit of <extra_id_10>, entry 250089, at its first step.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import MT5Config, MT5ForConditionalGeneration, PreTrainedTokenizerFast

from corpusmith.metricx import MetricX
from corpusmith.pairs import Pair

pytestmark = pytest.mark.slow

ENTRY, LIMIT, VOCABULARY = 250_089, 1536, 250_112
# Ten scripts: first and last character of a run of letters.
SCRIPTS = [
    ("a", "z"), ("а", "я"), ("α", "ω"), ("א", "ת"), ("ا", "ي"), ("अ", "ह"), ("ก", "ฮ"), ("가", "힣"), ("一", "龥"),
    ("ぁ", "ん"),
]  # fmt: skip


def text(chooser: random.Random, length: int) -> str:
    first, last = chooser.choice(SCRIPTS)
    return (
        "".join(
            " " if chooser.random() < 0.15 else chr(chooser.randint(ord(first), ord(last))) for _ in range(length)
        ).strip()
        or first
    )


def pairs() -> list[Pair]:
    """Lengths from 1 to 2,000 characters, all orders of magnitude alike; some with a reference."""
    chooser = random.Random(24)
    found = []
    for place in range(40):
        total = math.exp(chooser.uniform(0, math.log(2000)))
        share = chooser.uniform(0.2, 0.8)
        reference = text(chooser, 1 + int(total / 4)) if place % 8 == 0 else None
        found.append(
            Pair(text(chooser, 1 + int(total * share)), text(chooser, 1 + int(total * (1 - share))), reference)
        )
    return found


def make_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """A token for each character, spread over mT5's table."""
    characters = sorted({chr(code) for first, last in SCRIPTS for code in range(ord(first), ord(last) + 1)} | set(": "))
    chooser = random.Random(0)
    places = chooser.sample(range(3, 250_000), len(characters))
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2} | dict(zip(characters, places, strict=True))
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder)
    return fast


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[MT5ForConditionalGeneration, Path]:
    """An mT5-small with random weights and a head of its own, in memory and in a folder."""
    torch.manual_seed(24)
    config = MT5Config(
        vocab_size=VOCABULARY, d_model=512, d_kv=64, d_ff=1024, num_layers=8, num_heads=6, dropout_rate=0.0,
        tie_word_embeddings=False,
    )  # fmt: skip
    model = MT5ForConditionalGeneration(config).eval()
    model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, 512) / 8)
    assert model.lm_head.weight is not model.shared.weight
    folder = tmp_path_factory.mktemp("golden")
    weights = {name: tensor for name, tensor in model.state_dict().items() if "embed_tokens" not in name}
    save_file(
        {name: value.detach().contiguous().clone() for name, value in weights.items()}, folder / "model.safetensors"
    )
    config.save_pretrained(folder)
    make_tokenizer(folder)
    return model, folder


@torch.inference_mode()
def published(model: MT5ForConditionalGeneration, folder: Path, asked: list[Pair]) -> list[float]:
    """One pair at a time, in float32, nothing but what the description says."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    found = []
    for pair in asked:
        line = "source: " + pair.source + " candidate: " + pair.hypothesis
        if pair.reference is not None:
            line += " reference: " + pair.reference
        tokens = tokenizer(line, truncation=True, max_length=LIMIT)["input_ids"]
        assert tokens[-1] == tokenizer.eos_token_id
        output = model(input_ids=torch.tensor([tokens[:-1]]), decoder_input_ids=torch.tensor([[0]]))
        found.append(output.logits[0, 0, ENTRY].item())
    return found


def test_scores_are_the_official_ones(model: tuple[MT5ForConditionalGeneration, Path]) -> None:
    asked = pairs()
    expected = torch.tensor(published(*model, asked), dtype=torch.float64)
    scorer = MetricX(model[1], model[1], tokens_per_batch=4096)
    found, truncated = scorer.logits(asked)
    assert 0 < sum(truncated) < len(asked) / 4
    # Unclamped, and spread: equal scores would prove nothing.
    assert expected.std() > 1
    assert (found - expected).abs().max() < 1e-3


@pytest.mark.thorough
def test_neither_batch_size_nor_order_nor_padding_side_changes_a_score(
    model: tuple[MT5ForConditionalGeneration, Path], tmp_path: Path
) -> None:
    asked = [pair for pair in pairs() if len(pair.source) + len(pair.hypothesis) < 300]
    found, _ = MetricX(model[1], model[1], tokens_per_batch=4096).logits(asked)
    alone, _ = MetricX(model[1], model[1], tokens_per_batch=1).logits(asked)
    assert (found - alone).abs().max() < 1e-4
    order = list(range(len(asked)))
    random.Random(1).shuffle(order)
    settings = json.loads((model[1] / "tokenizer_config.json").read_text())
    make_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"padding_side": "left"}))
    shuffled, _ = MetricX(model[1], tmp_path, tokens_per_batch=20_000).logits([asked[place] for place in order])
    assert (found[order] - shuffled).abs().max() < 1e-4


@pytest.mark.thorough
def test_the_best_of_128_candidates_is_the_same(model: tuple[MT5ForConditionalGeneration, Path]) -> None:
    chooser = random.Random(128)
    scorer = MetricX(model[1], model[1], tokens_per_batch=4096)
    source = text(chooser, 40)
    asked = [Pair(source, text(chooser, chooser.randint(5, 80))) for _ in range(128)]
    expected = torch.tensor(published(*model, asked), dtype=torch.float64)
    found, _ = scorer.logits(asked)
    best, second = expected.sort().values[:2]
    assert expected[found.argmin()] - best < 1e-4
    assert second - best < 1e-4 or found.argmin() == expected.argmin()
