"""Tokens per second of our whole program with the vllm engine against bare LLM.generate.

Both ask the same engine, with the same settings, for the same samples of the same prompts, in turns. Ours goes from a
table of requests to a table of completions, as scripts/generate.py does; the other is one call with all prompts in a
list. The engine's start is in neither. Without --model a small Qwen3 with random weights is made, one whose steps
take about as long on a CPU as those of a large model on a GPU. Prints a table, with the medians of the rounds, and last
of all the ratio of the rates. Needs the environment of the engine: `make bench-engine-overhead` runs it there.

    python benchmarks/engine_overhead.py --requests 128 --samples 4 --rounds 3
"""

from __future__ import annotations

import logging
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from corpusmith.accounting import Account
from corpusmith.engines.vllm_engine import VllmEngine
from corpusmith.generation import answer_requests
from corpusmith.identity import item_id
from corpusmith.program import argument_parser, run
from corpusmith.requests import request
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import COMPLETIONS, REQUESTS

WORDS = ("Mina", "Hajun", "bought", "found", "three", "apples", "and", "books", "at", "the", "market", "on", "Monday")
MODEL = "random"


def make_model(folder: Path) -> None:
    """A Qwen3 of the toy world's tokens, untrained."""
    import torch

    from corpusmith.toy.language_model import Shape, build_model, build_tokenizer

    torch.manual_seed(0)
    tokenizer = build_tokenizer(1024)
    shape = Shape(layers=4, width=256, heads=4, feed_forward=1024, max_length=1024)
    build_model(tokenizer, shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_requests(count: int, samples: int, max_tokens: int) -> list[dict[str, Any]]:
    """Rows of a table of requests, each a message of some twenty words."""
    chooser = random.Random(0)
    texts = [" ".join(chooser.choices(WORDS, k=20)) for _ in range(count)]
    return [
        request(
            item_id(text),
            "sampled",
            messages=[{"role": "user", "content": text}],
            temperature=1.0,
            max_tokens=max_tokens,
            n=samples,
        )
        for text in texts
    ]


def ours(engine: VllmEngine, requests: Path, folder: Path) -> int:
    """From table to table; returns the tokens of the answers."""
    completions, account = folder / "completions.parquet", Account("benchmark")
    answer_requests(requests, engine, MODEL, completions, account, 0.0)
    account.write(folder / "account.json")
    return account.completion_tokens


def theirs(llm: Any, prompts: list[str], parameters: list[Any]) -> int:
    """One call; returns the tokens of the answers."""
    outputs = llm.generate(prompts, parameters, use_tqdm=False)
    return sum(len(output.outputs[0].token_ids) for output in outputs)


def main() -> None:
    """Measures both, in turns."""
    parser = argument_parser(__doc__)
    parser.add_argument("--model", help="folder of a model with a chat template (default: one is made)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where it runs (default cpu)")
    parser.add_argument("--dtype", default="float32", help="number format (default float32)")
    parser.add_argument("--requests", type=int, default=128, help="how many prompts (default 128)")
    parser.add_argument("--samples", type=int, default=4, help="samples of each (default 4)")
    parser.add_argument("--max-tokens", type=int, default=64, help="most tokens of an answer (default 64)")
    parser.add_argument("--max-num-seqs", type=int, default=64, help="answers generated together (default 64)")
    parser.add_argument("--rounds", type=int, default=3, help="how often to measure each (default 3)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.model is None:
            make_model(folder / "model")
        rows = make_requests(arguments.requests, arguments.samples, arguments.max_tokens)
        write_table(folder / "requests.parquet", REQUESTS, rows)
        engine = VllmEngine(
            arguments.model or folder / "model",
            device=arguments.device,
            dtype=arguments.dtype,
            max_num_seqs=arguments.max_num_seqs,
            gpu_memory_utilization=0.8,
        )
        # What is said of progress is no part of what is measured here.
        logging.disable(logging.INFO)
        try:
            rates = measure(engine, rows, folder, arguments.rounds)
        finally:
            engine.close()
    print(f"{'':<16}{'tokens/s':>10}")
    for way, rate in rates.items():
        print(f"{way:<16}{rate:>10,.0f}")
    print(f"ratio {rates['corpusmith'] / rates['LLM.generate']:.3f}")


def measure(engine: VllmEngine, rows: list[dict[str, Any]], folder: Path, rounds: int) -> dict[str, float]:
    """Medians of the tokens per second; a first round only warms up."""
    from vllm import LLM, SamplingParams
    from vllm.v1.engine.llm_engine import LLMEngine

    inner = engine._engine
    with mock.patch.object(LLMEngine, "from_engine_args", return_value=inner):
        llm = LLM(model=inner.vllm_config.model_config.model, disable_log_stats=True)
    prompts = [engine.prepare(row).rendered for row in rows for _ in range(row["n"])]
    parameters = [
        SamplingParams(temperature=1.0, seed=seed, max_tokens=rows[0]["max_tokens"]) for seed in range(len(prompts))
    ]
    requests = folder / "requests.parquet"
    ways = {
        "corpusmith": lambda: ours(engine, requests, folder),
        "LLM.generate": lambda: theirs(llm, prompts, parameters),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, function in ways.items():
            inner.reset_prefix_cache()
            begin = time.perf_counter()
            tokens = function()
            rate = tokens / (time.perf_counter() - begin)
            if number:
                rates[way].append(rate)
    answered = sum(1 for row in read_rows(folder / "completions.parquet", COMPLETIONS) if row["error"] is None)
    assert answered == len(prompts)
    return {way: statistics.median(found) for way, found in rates.items()}


if __name__ == "__main__":
    run(main)
