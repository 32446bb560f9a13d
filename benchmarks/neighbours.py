"""Neighbours: all rows held against one another, and in cells, in time and in what is found.

The texts are sentences of the docstrings of this Python and its packages, one in eleven a copy of another with one word
changed. As embeddings each has the sum of random vectors of its words, weighed by how rare they are. Prints for each
similarity how many rows go when all are held against one another, and for cells how many of as many, in seconds of CPU.

    python benchmarks/neighbours.py --rows 100000
"""

from __future__ import annotations

import random
import re
import sys
import sysconfig
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from corpusmith import neighbours
from corpusmith.program import argument_parser, run

_WORDS = range(6, 41)
_PROBES = (4, 16, 64)


def sentences() -> Iterator[str]:
    """Sentences of docstrings, file by file."""
    folders = {sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")}
    for path in sorted({path for folder in folders for path in Path(folder).rglob("*.py")}):
        text = path.read_text(encoding="utf-8", errors="ignore")
        for docstring in re.findall(r'"""(.*?)"""', text, flags=re.DOTALL):
            for sentence in re.split(r"(?<=[.:!?])\s+", docstring):
                words = sentence.split()
                if len(words) in _WORDS:
                    yield " ".join(words)


def make_texts(count: int) -> list[str]:
    """Sentences, some of them near others."""
    chooser = random.Random(0)
    texts = sorted(set(sentences()))
    chooser.shuffle(texts)
    texts = texts[: count - count // 11]
    for _ in range(count // 11):
        words = chooser.choice(texts).split()
        words[chooser.randrange(len(words))] = chooser.choice(texts).split()[0]
        texts.append(" ".join(words))
    chooser.shuffle(texts)
    return texts


def embed(texts: list[str], width: int) -> NDArray[np.float32]:
    """An embedding of each text, of length 1."""
    words = [text.lower().split() for text in texts]
    frequencies = Counter(word for text in words for word in set(text))
    known: dict[str, NDArray[np.float64]] = {}
    vectors = np.zeros((len(texts), width), np.float32)
    for row, text in enumerate(words):
        for word in text:
            if word not in known:
                weight = np.log(len(texts) / frequencies[word])
                known[word] = weight * np.random.default_rng(zlib.crc32(word.encode())).standard_normal(width)
            vectors[row] += known[word]
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def timed(vectors: NDArray[np.float32], similarity: float, exact_up_to: int) -> tuple[int, float]:
    """How many rows go, and the seconds of CPU that it takes."""
    start = time.process_time()
    gone = neighbours.find_neighbours(vectors, np.arange(len(vectors)), similarity, exact_up_to)
    return len(gone), time.process_time() - start


def main() -> None:
    """Measures and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="most texts (default: 100000)")
    parser.add_argument("--width", type=int, default=256, help="numbers of an embedding (default: 256)")
    flags = parser.parse_args()
    vectors = embed(make_texts(flags.rows), flags.width)
    print(f"{len(vectors):,} texts, vectors of {flags.width}")
    for similarity in (0.975, 0.9):
        exact, seconds = timed(vectors, similarity, len(vectors))
        print(f"similarity {similarity}: all against all {exact:,} rows go, {seconds:.1f} s")
        for probes in _PROBES:
            neighbours.PROBES = probes
            found, seconds = timed(vectors, similarity, 0)
            print(f"  {probes:3d} cells each: {found:,} rows, {found / max(1, exact):.4f} of them, {seconds:.1f} s")


if __name__ == "__main__":
    run(main)
