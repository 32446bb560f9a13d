"""Documents per second of our sampling of sources against a loop over datasets' streaming, one thread each.

Both read the same generated documents in MADLAD's form, split them into sentences with the same library, pack blobs,
count tokens with the same tokenizer and keep a sample per kind and length bucket. The other is what one would write by
hand: datasets.load_dataset("json", streaming=True) and a reservoir per bucket; it neither checks rows, nor finds
duplicates, nor keeps offsets. Prints a table, with the medians of the rounds, and last of all the ratio of the rates.

    python benchmarks/sample_sources.py --documents 4000 --rounds 3
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
from sentencex import get_sentence_boundaries
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from corpusmith.documents import (
    DEFAULT_MAX_CHARACTERS,
    Source,
    max_line_bytes,
    read_lines,
)
from corpusmith.program import argument_parser, run
from corpusmith.sampling import ScanSettings, cut_units, fill, open_sample, quotas, scan
from corpusmith.segments import Buckets, SegmentSettings
from corpusmith.table_files import open_table
from corpusmith.tables import BAD_ROWS, SEGMENTS

EDGES = (0, 10, 20, 40, 80, 120, 200, 400, 800)
BUCKETS = Buckets(EDGES)
BLOB_TOKENS = 512
POOL = 1_000
SYLLABLES = ("ka", "ter", "lo", "min", "sa", "ver", "ton", "ri", "be", "dan", "mo", "ste", "li", "gar", "pu", "el")


def make_documents(count: int, seed: int) -> Iterator[str]:
    """Texts of 5 to 40 sentences of 1 to 40 words, the line breaks as MADLAD-400 stores them."""
    chooser = random.Random(seed)
    words = ["".join(chooser.choices(SYLLABLES, k=chooser.randint(1, 4))) for _ in range(20_000)]
    for _ in range(count):
        sentences = []
        for _ in range(chooser.randint(5, 40)):
            length = min(40, 1 + int(chooser.expovariate(1 / 14)))
            sentences.append(" ".join(chooser.choices(words, k=length)).capitalize() + chooser.choice(".....?!"))
            sentences.append("\\n" if chooser.random() < 0.3 else " ")
        yield "".join(sentences)


def train_tokenizer(path: Path) -> None:
    """A byte-level BPE of 8,000 tokens, trained on some of the same language."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=8_000, show_progress=False)
    tokenizer.train_from_iterator(make_documents(300, 0), trainer)
    tokenizer.save(str(path))


def ours(corpus: Path, tokenizer: Path, folder: Path) -> int:
    """Our sampling, from file to table; returns the documents."""
    wanted = quotas(POOL, 0.5, BLOB_TOKENS, BUCKETS)
    settings = ScanSettings(
        tokenizer, "text", DEFAULT_MAX_CHARACTERS, SegmentSettings("en", BUCKETS, 0, 0.5, BLOB_TOKENS)
    )
    lines = read_lines([Source(corpus.name, corpus)], max_line_bytes(DEFAULT_MAX_CHARACTERS))
    with (
        open_table(folder / "segments.parquet", SEGMENTS) as segments,
        open_table(folder / "bad-rows.parquet", BAD_ROWS) as bad_rows,
        open_sample(wanted, 0, folder) as sample,
    ):
        scanned = fill(
            sample,
            scan(cut_units(lines, sys.maxsize), settings, 1),
            bad_rows,
            stop_when_full=False,
            max_scan_docs=sys.maxsize,
            max_bad_share=0.01,
        )
        segments.write_all(sample.rows())
    return scanned.read.kept.count


def theirs(corpus: Path, tokenizer_file: Path, folder: Path) -> int:
    """The loop that one would write by hand, from file to JSON lines; returns the documents."""
    wanted = quotas(POOL, 0.5, BLOB_TOKENS, BUCKETS)
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    chooser = random.Random(0)
    seen: dict[tuple[str, str], int] = defaultdict(int)
    reservoirs: dict[tuple[str, str], list[str]] = defaultdict(list)

    def count(texts: list[str]) -> list[int]:
        return [len(encoding) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]

    def offer(kind: str, text: str, tokens: int) -> None:
        bucket = BUCKETS.of(tokens)
        if bucket is None:
            return
        stratum = kind, bucket
        seen[stratum] += 1
        reservoir = reservoirs[stratum]
        if len(reservoir) < wanted[stratum]:
            reservoir.append(text)
        elif (place := chooser.randrange(seen[stratum])) < wanted[stratum]:
            reservoir[place] = text

    documents = 0
    for row in datasets.load_dataset("json", data_files=str(corpus), split="train", streaming=True):
        documents += 1
        sentences = [
            boundary["text"].strip()
            for line in row["text"].replace("\\n", "\n").split("\n")
            for boundary in get_sentence_boundaries("en", line)
        ]
        lengths = count(sentences)
        if chooser.random() < 0.5:
            for sentence, tokens in zip(sentences, lengths, strict=True):
                offer("sentence", sentence, tokens)
            continue
        first = 0
        while first + 1 < len(sentences):
            target = chooser.randint(1, BLOB_TOKENS)
            last, total = first + 2, lengths[first] + lengths[first + 1]
            while last < len(sentences) and total + lengths[last] <= target:
                total += lengths[last]
                last += 1
            blob = " ".join(sentences[first:last])
            (tokens,) = count([blob])
            if tokens <= BLOB_TOKENS:
                offer("blob", blob, tokens)
            first = last
    with open(folder / "segments.jsonl", "w", encoding="utf-8") as file:
        for (kind, bucket), reservoir in reservoirs.items():
            file.writelines(json.dumps({"text": text, "kind": kind, "bucket": bucket}) + "\n" for text in reservoir)
    return documents


def main() -> None:
    """Measures both, in turns."""
    parser = argument_parser(__doc__)
    parser.add_argument("--documents", type=int, default=4_000, help="how many documents to make (default 4,000)")
    parser.add_argument("--rounds", type=int, default=3, help="how often to measure each (default 3)")
    arguments = parser.parse_args()
    # One thread each: with threads, either would count tokens on all cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # What is said of unfilled buckets and progress is no part of what is measured here.
    logging.disable(logging.INFO)
    datasets.disable_progress_bars()
    seconds: dict[str, list[float]] = {"corpusmith": [], "datasets and a loop": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus, tokenizer = folder / "corpus.jsonl.gz", folder / "tokenizer.json"
        with gzip.open(corpus, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in make_documents(arguments.documents, 1))
        train_tokenizer(tokenizer)
        ways: dict[str, Callable[[Path, Path, Path], int]] = {"corpusmith": ours, "datasets and a loop": theirs}
        for _ in range(arguments.rounds):
            for way, function in ways.items():
                begin = time.perf_counter()
                documents = function(corpus, tokenizer, folder)
                seconds[way].append(time.perf_counter() - begin)
                assert documents == arguments.documents
    rates = {way: arguments.documents / statistics.median(taken) for way, taken in seconds.items()}
    print(f"{'one thread':<22}{'documents/s':>12}{'seconds':>10}")
    for way, taken in seconds.items():
        print(f"{way:<22}{rates[way]:>12,.0f}{statistics.median(taken):>10.2f}")
    print(f"ratio {rates['corpusmith'] / rates['datasets and a loop']:.2f}")


if __name__ == "__main__":
    run(main)
