"""MetricX-24 in batches against the plain model at batch 1, on a random mT5 with MetricX's head and tokenizer."""

from __future__ import annotations

import gc
import itertools
import json
import random
import re
import shutil
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceProcessor
from transformers import AutoTokenizer, MT5ForConditionalGeneration, MT5Model

from corpusmith.batching import pack
from corpusmith.errors import InputError
from corpusmith.metricx import MetricX, read_score_row
from corpusmith.metricx_form import as_input
from corpusmith.mt5 import FirstStep
from corpusmith.pairs import Pair
from corpusmith.toy.quality_estimator import build_tokenizer
from toy_models import SCORE_ENTRY, VOCABULARY, WORDS, mt5_model, mt5_tokenizer, save_mt5

END = 1


class Reference:
    """The metric as the authors' repository describes it, one pair at a time, with sentencepiece's own tokenizer."""

    def __init__(self, model: MT5ForConditionalGeneration, tokenizer: SentencePieceProcessor) -> None:
        self._model, self._tokenizer = model, tokenizer

    def all_tokens(self, pair: Pair) -> list[int]:
        text = "source: " + pair.source + " candidate: " + pair.hypothesis
        if pair.reference is not None:
            text += " reference: " + pair.reference
        return [*self._tokenizer.encode(text), END]

    def tokens(self, pair: Pair) -> list[int]:
        tokens = self.all_tokens(pair)
        if len(tokens) > 1536:
            tokens = [*tokens[:1535], END]
        return tokens[:-1]

    @torch.inference_mode()
    def logit(self, pair: Pair) -> float:
        output = self._model(
            input_ids=torch.tensor([self.tokens(pair)]),
            attention_mask=torch.ones(1, len(self.tokens(pair)), dtype=torch.long),
            decoder_input_ids=torch.tensor([[0]]),
        )
        return output.logits[0, 0, SCORE_ENTRY].item()

    def logits(self, pairs: Sequence[Pair]) -> torch.Tensor:
        return torch.tensor([self.logit(pair) for pair in pairs], dtype=torch.float64)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model() -> MT5ForConditionalGeneration:
    found = mt5_model()
    assert found.lm_head.weight.data_ptr() != found.shared.weight.data_ptr()
    return found


@pytest.fixture(scope="module")
def checkpoint(model: MT5ForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_mt5(model, tmp_path_factory.mktemp("metricx"))
    mt5_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def reference(model: MT5ForConditionalGeneration, checkpoint: Path) -> Reference:
    return Reference(model, SentencePieceProcessor(model_file=str(checkpoint / "spiece.model")))


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path) -> Any:
    return AutoTokenizer.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def scorer(checkpoint: Path) -> MetricX:
    return MetricX(checkpoint, checkpoint, tokens_per_batch=600)


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choices(WORDS, k=count))


def pairs_of_all_lengths(seed: int = 0, count: int = 60) -> list[Pair]:
    """Pairs from 2 to some 800 words, a third of them with a reference, in no order of length."""
    rng = random.Random(seed)
    lengths = [1, 2, 3, 5, 8, 20, 60, 150, 400]
    return [
        Pair(
            words(rng, rng.choice(lengths)),
            words(rng, rng.choice(lengths)),
            words(rng, rng.choice(lengths)) if rng.random() < 1 / 3 else None,
        )
        for _ in range(count)
    ]


# --- the official numbers ---


@pytest.mark.parametrize("tokens_per_batch", [1, 600, 20_000])
def test_scores_in_batches_are_those_of_the_model_at_batch_1(
    checkpoint: Path, reference: Reference, tokens_per_batch: int
) -> None:
    pairs = pairs_of_all_lengths()
    expected = reference.logits(pairs)
    assert expected.std() > 1
    assert expected.min() < 0 < 5 < expected.max()
    found, _ = MetricX(checkpoint, checkpoint, tokens_per_batch=tokens_per_batch).logits(pairs)
    assert (found - expected).abs().max() < 1e-3


def test_a_score_is_the_logit_held_to_0_and_25(tmp_path: Path, reference: Reference) -> None:
    wide = mt5_model(spread=40.0)
    mt5_tokenizer(save_mt5(wide, tmp_path))
    pairs = pairs_of_all_lengths(1)
    expected = Reference(wide, SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))).logits(pairs).tolist()
    scores = [score for score, _ in MetricX(tmp_path, tmp_path).score(pairs)]
    assert scores == pytest.approx([min(25.0, max(0.0, logit)) for logit in expected], abs=5e-3)
    assert {0.0, 25.0} < set(scores)


def test_the_score_of_a_pair_depends_on_neither_order_nor_company(checkpoint: Path) -> None:
    pairs = pairs_of_all_lengths(2, 24)
    scorer = MetricX(checkpoint, checkpoint, dtype="float64", tokens_per_batch=900)
    alone = torch.cat([scorer.logits([pair])[0] for pair in pairs])
    assert alone.std() > 1
    for seed in range(3):
        order = random.Random(seed).sample(range(len(pairs)), len(pairs) - 4 * seed)
        together, _ = scorer.logits([pairs[place] for place in order])
        assert (together - alone[order]).abs().max() < 1e-9


@pytest.mark.parametrize("parts", [2, 3])
def test_layers_spread_over_devices_give_the_same_scores(checkpoint: Path, parts: int) -> None:
    pairs = pairs_of_all_lengths(3, 24)
    whole = MetricX(checkpoint, checkpoint, dtype="float64", tokens_per_batch=900)
    spread = MetricX(checkpoint, checkpoint, parts=parts, dtype="float64", tokens_per_batch=900)
    assert torch.equal(spread.logits(pairs)[0], whole.logits(pairs)[0])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a CPU by g++")
def test_compiled_layers_give_the_same_scores(checkpoint: Path) -> None:
    pairs = pairs_of_all_lengths(4, 24)
    plain, compiled = (
        MetricX(checkpoint, checkpoint, dtype="float64", tokens_per_batch=900, compiled=compiled)
        for compiled in (False, True)
    )
    assert (compiled.logits(pairs)[0] - plain.logits(pairs)[0]).abs().max() < 1e-9


def test_what_is_part_of_a_larger_matrix_is_not_kept_beside_it() -> None:
    model = MT5Model(mt5_model().config).eval()
    joined = [
        weakref.ref(weight)
        for name, weight in model.named_parameters()
        if name.endswith(("wi_0.weight", "wi_1.weight")) or re.search(r"encoder.*SelfAttention\.[qkv]\.", name)
    ]
    assert len(joined) == 2 * 5 + 2 * 2
    step = FirstStep(model)
    gc.collect()
    assert [weight() for weight in joined] == [None] * len(joined)
    assert not step(torch.tensor([[5, 6]]), torch.tensor([2])).requires_grad


def test_source_candidate_and_reference_all_count(scorer: MetricX) -> None:
    pair = Pair("the red train", "빨간 기차", "der rote Zug")
    others = [
        Pair("the green train", pair.hypothesis, pair.reference),
        Pair(pair.source, "초록 기차", pair.reference),
        Pair(pair.source, pair.hypothesis, "und der rote Zug"),
        Pair(pair.source, pair.hypothesis),
        Pair(pair.hypothesis, pair.source, pair.reference),
    ]
    logits, _ = scorer.logits([pair, *others])
    assert (logits[1:] - logits[0]).abs().min() > 0.01


def test_nothing_to_score_gives_no_scores(scorer: MetricX) -> None:
    assert scorer.score([]) == []


def test_a_score_that_overflows_is_an_error_and_no_score(tmp_path: Path) -> None:
    broken = mt5_model()
    with torch.no_grad():
        broken.encoder.block[0].layer[0].SelfAttention.o.weight[0, 0] = float("nan")
    mt5_tokenizer(save_mt5(broken, tmp_path))
    with pytest.raises(InputError, match="overflow in torch"):
        MetricX(tmp_path, tmp_path).score([Pair("the train", "기차")])


# --- what the model reads ---


@settings(max_examples=40)
@given(
    source=st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join),
    hypothesis=st.lists(st.sampled_from([*WORDS, "①", "  ", "\n", "ﬁne", "candidate:"]), max_size=12).map(" ".join),
)
def test_transformers_reads_text_as_sentencepiece_does(
    tokenizer: Any, reference: Reference, source: str, hypothesis: str
) -> None:
    pair = Pair(source, hypothesis)
    assert tokenizer(as_input(pair))["input_ids"] == reference.all_tokens(pair)


@pytest.mark.parametrize("over", [-2, -1, 0, 1, 2, 300])
def test_a_long_pair_is_cut_at_1536_tokens_with_the_end_and_says_so(
    scorer: MetricX, reference: Reference, over: int
) -> None:
    # "the" is one token; so is the end.
    count = 1536 + over - len(reference.all_tokens(Pair("", "")))
    pair = Pair("the " * (count // 2), "the " * (count - count // 2))
    assert len(reference.all_tokens(pair)) == 1536 + over
    logits, truncated = scorer.logits([pair, Pair("the red train", "빨간 기차")])
    assert truncated == [over > 0, False]
    assert logits[0].item() == pytest.approx(reference.logit(pair), abs=1e-3)


def test_what_stands_behind_the_cut_does_not_count_and_what_stands_before_it_does(scorer: MetricX) -> None:
    long = "the " * 1600
    pairs = [Pair("a train", long), Pair("a train", long + "red"), Pair("a red train", long)]
    logits, truncated = scorer.logits(pairs)
    assert truncated == [True, True, True]
    assert logits[0] == pytest.approx(logits[1].item(), abs=1e-5)
    assert abs(logits[0] - logits[2]) > 1e-3


def test_another_length_limit_cuts_there(checkpoint: Path) -> None:
    scorer = MetricX(checkpoint, checkpoint, max_length=12)
    short, long = Pair("the train", "기차"), Pair("the red train", "빨간 기차 는 마을 근처 모든 역")
    assert [truncated for _, truncated in scorer.score([short, long])] == [False, True]


def test_a_toy_checkpoint_may_bring_a_tokenizer_of_words(model: MT5ForConditionalGeneration, tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(save_mt5(model, tmp_path))
    pairs = [
        Pair("Mina bought 3 books.", "미나는 책 삼 권을 샀다."),
        Pair("Mina bought 3 books.", "책."),
        Pair("a", "b"),
    ]
    found, _ = MetricX(tmp_path, tmp_path).logits(pairs)
    for pair, logit in zip(pairs, found.tolist(), strict=True):
        tokens = tokenizer(f"source: {pair.source} candidate: {pair.hypothesis}")["input_ids"]
        assert tokens.pop() == tokenizer.eos_token_id
        with torch.inference_mode():
            output = model(input_ids=torch.tensor([tokens]), decoder_input_ids=torch.tensor([[0]]))
        assert logit == pytest.approx(output.logits[0, 0, SCORE_ENTRY].item(), abs=1e-3)


# --- batches ---


@given(lengths=st.lists(st.integers(1, 50), max_size=60), tokens=st.integers(1, 200))
def test_batches_hold_every_place_once_and_no_more_tokens_than_allowed(lengths: list[int], tokens: int) -> None:
    batches = pack(lengths, tokens)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[place] for place in batch)
        assert len(batch) == 1 or longest * len(batch) <= tokens
    # Of like length: no batch has a text longer than the shortest one of the batch before.
    ends = [(max(lengths[place] for place in batch), min(lengths[place] for place in batch)) for batch in batches]
    assert all(after[0] <= before[1] for before, after in itertools.pairwise(ends))
    # And no batch could have taken the first of the next one as well.
    for batch in batches[:-1]:
        assert max(lengths[place] for place in batch) * (len(batch) + 1) > tokens


# --- checkpoints ---


def edit_config(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return edit


def keep_bytes(name: str, share: float) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return cut


def remove(*names: str) -> Callable[[Path], None]:
    def unlink(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return unlink


def drop_tensor(name: str) -> Callable[[Path], None]:
    def drop(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        del weights[name]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return drop


def small_vocabulary(folder: Path) -> None:
    save_mt5(mt5_model(vocabulary=SCORE_ENTRY), folder)


def large_tokenizer(folder: Path) -> None:
    edit_config(vocab_size=50)(folder)
    weights = load_file(folder / "model.safetensors")
    weights["shared.weight"] = weights["shared.weight"][:50].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def write(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content) and None


def to_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def to_half_a_pickle(folder: Path) -> None:
    to_pickle(folder)
    keep_bytes("pytorch_model.bin", 0.5)(folder)


def to_shards(folder: Path) -> None:
    """As the large checkpoints are: some tensors in one file, some in another, and an index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = {name: f"model-0000{1 + (name == 'lm_head.weight')}-of-00002.safetensors" for name in weights}
    for file in set(files.values()):
        part = {name: tensor for name, tensor in weights.items() if files[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    index = {"metadata": {"total_size": 0}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def to_shards_without_the_head(folder: Path) -> None:
    to_shards(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


@pytest.mark.parametrize("change", [to_pickle, to_shards])
def test_every_form_in_which_checkpoints_come_gives_the_same_scores(
    checkpoint: Path, scorer: MetricX, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    change(folder)
    pairs = pairs_of_all_lengths(3, 6)
    found = MetricX(folder, folder, tokens_per_batch=600).logits(pairs)[0]
    # On some CPUs the last bits of a product depend on where a file lays the weights in memory.
    torch.testing.assert_close(found, scorer.logits(pairs)[0], rtol=0, atol=1e-5)


def test_only_the_score_row_of_the_head_is_kept(checkpoint: Path, model: MT5ForConditionalGeneration) -> None:
    row = read_score_row(checkpoint)
    assert torch.equal(row, model.lm_head.weight[SCORE_ENTRY])
    assert row.untyped_storage().nbytes() == 4 * model.config.d_model
    assert model.lm_head.weight.shape[0] == VOCABULARY


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (shutil.rmtree, "no checkpoint here"),
        (remove("model.safetensors"), "no checkpoint here"),
        (small_vocabulary, "a vocabulary of 250089 entries"),
        (drop_tensor("lm_head.weight"), "no lm_head.weight"),
        (drop_tensor("encoder.block.1.layer.0.SelfAttention.q.weight"), "lack 1 tensors"),
        (edit_config(num_layers=3), "lack 9 tensors"),
        (edit_config(model_type="umt5"), "a model of type umt5"),
        (edit_config(model_type="llama"), "a model of type llama"),
        (edit_config(model_type="frob"), "frob"),
        (edit_config(d_model=24), "the head is 16 wide, config.json says 24"),
        (remove("config.json"), "no configuration"),
        (write("config.json", "{"), "no configuration"),
        (keep_bytes("model.safetensors", 0.9), "is no whole file of weights"),
        (keep_bytes("model.safetensors", 1e-7), "is no whole file of weights"),
        (keep_bytes("model.safetensors", 0), "is no whole file of weights"),
        (to_half_a_pickle, "is no whole file of weights"),
        (to_shards_without_the_head, "is no whole file of weights"),
        (write("model.safetensors.index.json", "{"), "no JSON"),
        (write("model.safetensors.index.json", "{}"), "no index of weights"),
        (write("model.safetensors.index.json", '{"weight_map": {}}'), "no lm_head.weight"),
        (remove("spiece.model"), "no tokenizer here"),
        (keep_bytes("spiece.model", 0.001), "no tokenizer"),
        (large_tokenizer, "does not belong to"),
    ],
)
def test_what_is_no_checkpoint_of_metricx_is_one_line_that_names_its_folder(
    checkpoint: Path, tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    damage(folder)
    with pytest.raises(InputError) as caught:
        MetricX(folder, folder)
    message = str(caught.value)
    assert message.startswith(str(folder))
    assert says in message
    assert "\n" not in message


def test_a_tokenizer_without_end_or_padding_token_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "no end")
    with pytest.raises(InputError, match="no end: MetricX's tokenizer has an end"):
        MetricX(checkpoint, tmp_path / "no end")


def test_a_tokenizer_that_does_not_end_its_texts_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = build_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no end token behind the text"):
        MetricX(checkpoint, tmp_path).score([Pair("a", "b")])
