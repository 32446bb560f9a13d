"""Pairs per second of our MetricX-24 scorer against a loop of one pair at a time, as the published code runs.

Both score the same pairs with the same weights, in turns. The loop is stock transformers: tokenise, cut, drop the end
token, run the whole model, take one logit of 250,112. Weights are random, of the shape of an mT5 of the size asked for;
texts are random words, in lengths that vary as those of sentences do. Needs torch and transformers 5 alone, so that it
can be tried on any GPU machine. Prints a table with the medians of the rounds, the share of what the device can do that
the encoder reaches, the largest difference of two scores, and last of all the ratio of the rates. What was tried, and
what each change gave, is in docs/scoring.md.

    python benchmarks/metricx.py --size small --pairs 300 --dtype float32
    python benchmarks/metricx.py --dtype bfloat16 --compile
    python benchmarks/metricx.py --size large --pairs 8000 --loop-pairs 200 --device cuda --dtype bfloat16
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import MT5Config, MT5ForConditionalGeneration, PreTrainedTokenizerFast

from corpusmith.batching import pack
from corpusmith.metricx import MetricX
from corpusmith.metricx_form import MAX_LENGTH, SCORE_TOKEN, as_input
from corpusmith.pairs import Pair
from corpusmith.program import argument_parser, run

# The shapes of mT5: width, feed-forward, layers, heads. MetricX-24 is there as large, xl and xxl.
SIZES = {
    "small": (512, 1024, 8, 6),
    "base": (768, 2048, 12, 12),
    "large": (1024, 2816, 24, 16),
    "xl": (2048, 5120, 24, 32),
    "xxl": (4096, 10240, 24, 64),
}
HEAD_WIDTH, VOCABULARY = 64, 250_112
WORDS = 5000
OURS, LOOP = "corpusmith", "one at a time"


def make_checkpoint(folder: Path, size: str) -> MT5ForConditionalGeneration:
    """An untrained mT5 with a head of its own, whose scores spread, in float32; written to the folder, too."""
    width, feed_forward, layers, heads = SIZES[size]
    config = MT5Config(
        vocab_size=VOCABULARY,
        d_model=width,
        d_kv=HEAD_WIDTH,
        d_ff=feed_forward,
        num_layers=layers,
        num_heads=heads,
        dropout_rate=0.0,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = MT5ForConditionalGeneration(config).eval()
    model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, width) * 3 / width**0.5)
    weights = {name: tensor for name, tensor in model.state_dict().items() if "embed_tokens" not in name}
    save_file(
        {name: tensor.detach().contiguous().clone() for name, tensor in weights.items()}, folder / "model.safetensors"
    )
    config.save_pretrained(folder)
    return model


def make_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """A token for each word, and an end token behind the text as mT5's has."""
    vocabulary = {token: place for place, token in enumerate(["<pad>", "</s>", "<unk>", *map(str, range(WORDS))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder)
    return fast


def make_pairs(count: int, mean_tokens: int) -> list[Pair]:
    """Random words; lengths are drawn from a log-normal distribution, whose mean is as given."""
    chooser = random.Random(0)
    spread = 0.7

    def text() -> str:
        words = chooser.lognormvariate(0, spread) * mean_tokens / 2 / 2.718281828 ** (spread**2 / 2)
        return " ".join(str(chooser.randrange(WORDS)) for _ in range(max(1, round(words))))

    return [Pair(text(), text()) for _ in range(count)]


class Loop:
    """One pair at a time, on stock transformers."""

    def __init__(self, model: MT5ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, device: str) -> None:
        self.model, self._tokenizer, self._device = model, tokenizer, device

    @torch.inference_mode()
    def score(self, pairs: list[Pair]) -> list[float]:
        """The scores of the pairs."""
        scores = []
        for pair in pairs:
            tokens = self._tokenizer(as_input(pair), truncation=True, max_length=MAX_LENGTH)["input_ids"][:-1]
            output = self.model(
                input_ids=torch.tensor([tokens], device=self._device),
                decoder_input_ids=torch.zeros(1, 1, dtype=torch.long, device=self._device),
            )
            scores.append(output.logits[0, 0, SCORE_TOKEN].clamp(0, 25).item())
        return scores


class Batches:
    """Batches, on stock transformers: one row of the head, no cache, padding masked."""

    def __init__(self, model: MT5ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, device: str) -> None:
        self._model, self._tokenizer, self._device = model, tokenizer, device

    @torch.inference_mode()
    def score(self, pairs: list[Pair], batches: Callable[[list[int]], list[list[int]]]) -> list[float]:
        """The scores of the pairs. batches: places of the pairs that go together, from their lengths."""
        texts = [tokens[:-1] for tokens in self._tokenizer([as_input(pair) for pair in pairs])["input_ids"]]
        scores = [0.0] * len(pairs)
        for places in batches([len(text) for text in texts]):
            padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(texts[place]) for place in places], batch_first=True)
            lengths = torch.tensor([len(texts[place]) for place in places])
            inside = (torch.arange(padded.shape[1])[None, :] < lengths[:, None]).long().to(self._device)
            encoded = self._model.encoder(input_ids=padded.to(self._device), attention_mask=inside)
            state = self._model.decoder(
                input_ids=torch.zeros(len(places), 1, dtype=torch.long, device=self._device),
                encoder_hidden_states=encoded.last_hidden_state,
                encoder_attention_mask=inside,
                use_cache=False,
            ).last_hidden_state[:, 0]
            logits = (state @ self._model.lm_head.weight[SCORE_TOKEN]).clamp(0, 25).tolist()
            for place, score in zip(places, logits, strict=True):
                scores[place] = score
        return scores


def as_they_come(lengths: list[int], at_once: int = 24) -> list[list[int]]:
    """So many at once, in no order of length."""
    places = list(range(len(lengths)))
    return [places[start : start + at_once] for start in range(0, len(places), at_once)]


def encoder_operations(size: str, lengths: list[int]) -> float:
    """Floating-point operations of the encoder for texts of these lengths, two for each product and sum."""
    width, feed_forward, layers, heads = SIZES[size]
    inner = heads * HEAD_WIDTH
    of_weights = 2 * (4 * width * inner + 3 * width * feed_forward)
    return layers * sum(length * (of_weights + 4 * length * inner) for length in lengths)


def product_rate(device: str, number_format: torch.dtype) -> float:
    """Operations a second of one large matrix product here: what nothing made of matrix products exceeds."""
    size = 8192 if device == "cuda" else 2048
    one, other = (torch.randn(size, size, device=device, dtype=number_format) for _ in range(2))
    best = 0.0
    for _ in range(8):
        _wait(device)
        begin = time.perf_counter()
        for _ in range(4):
            one @ other
        _wait(device)
        best = max(best, 4 * 2 * size**3 / (time.perf_counter() - begin))
    return best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Measures both, in turns."""
    parser = argument_parser(__doc__)
    parser.add_argument("--size", choices=SIZES, default="small", help="shape of the model (default small)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where it runs (default cpu)")
    parser.add_argument("--dtype", default="float32", help="number format (default float32)")
    parser.add_argument("--loop-dtype", help="number format of the loop (default: the same)")
    parser.add_argument("--pairs", type=int, default=300, help="how many pairs ours scores (default 300)")
    parser.add_argument("--loop-pairs", type=int, help="how many of them the loop scores (default: all)")
    parser.add_argument("--mean-tokens", type=int, default=87, help="mean length of a pair (default 87)")
    parser.add_argument("--tokens-per-batch", type=int, help="most tokens in a batch (default 2048; 16384 on a GPU)")
    parser.add_argument("--compile", action="store_true", help="let torch compile the layers, in the first round")
    parser.add_argument("--steps", action="store_true", help="measure stock transformers in batches, too")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads on a CPU (default all)")
    parser.add_argument("--rounds", type=int, default=3, help="how often to measure each (default 3)")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    pairs = make_pairs(flags.pairs, flags.mean_tokens)
    few = pairs[: flags.loop_pairs]
    tokens_per_batch = flags.tokens_per_batch or (16_384 if flags.device == "cuda" else 2048)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, tokenizer = make_checkpoint(folder, flags.size), make_tokenizer(folder)
        number_format = getattr(torch, flags.dtype)
        loop_format = getattr(torch, flags.loop_dtype or flags.dtype)
        loop = Loop(model.to(flags.device, loop_format), tokenizer, flags.device)
        ours = MetricX(
            folder,
            folder,
            device=flags.device,
            dtype=flags.dtype,
            tokens_per_batch=tokens_per_batch,
            compiled=flags.compile,
        )
        lengths = [len(tokens) - 1 for tokens in tokenizer([as_input(pair) for pair in pairs])["input_ids"]]
        stock = Batches(loop.model, tokenizer, flags.device)
        ways: dict[str, tuple[Callable[[list[Pair]], list[float]], list[Pair]]] = {
            OURS: (lambda pairs: [score for score, _ in ours.score(pairs)], pairs),
            LOOP: (loop.score, few),
        }
        if flags.steps:
            ways["stock, 24 at once"] = (lambda pairs: stock.score(pairs, as_they_come), pairs)
            ways["stock, sorted"] = (
                lambda pairs: stock.score(pairs, lambda lengths: pack(lengths, tokens_per_batch)),
                pairs,
            )
        rates: dict[str, list[float]] = {way: [] for way in ways}
        found_scores: dict[str, list[float]] = {}
        for number in range(flags.rounds + 1):
            for way, (score, asked) in ways.items():
                begin = time.perf_counter()
                found_scores[way] = score(asked)
                # A first round only warms up, and compiles.
                if number > 0:
                    rates[way].append(len(asked) / (time.perf_counter() - begin))
        possible = product_rate(flags.device, number_format)
    singly = found_scores[LOOP]
    difference = max(abs(one - other) for one, other in zip(found_scores[OURS], singly, strict=False))
    print(f"{'':<20}{'pairs/s':>10}")
    found = {way: statistics.median(values) for way, values in rates.items()}
    for way, rate in found.items():
        print(f"{way:<20}{rate:>10,.1f}")
    reached = encoder_operations(flags.size, lengths) / len(pairs) * found[OURS]
    print(
        f"the encoder's products: {reached / 1e12:.3g} TFLOP/s, {reached / possible:.0%} of the {possible / 1e12:.3g}"
        " TFLOP/s that one large product reaches here"
    )
    print(f"largest difference of two scores {difference:.2g}, of scores from {min(singly):.2f} to {max(singly):.2f}")
    print(f"ratio {found[OURS] / found[LOOP]:.2f}")


if __name__ == "__main__":
    run(main)
