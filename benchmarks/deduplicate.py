"""Deduplication: our program against the loop that users write around rensa, in time, and both against the truth.

The texts are made: each of some 50 words, of 120 templates' worth of words and with numbers, one in ten a copy of an
earlier one, one in ten off by a few words, one in ten off by a number alone. Ours is scripts/deduplicate.py as a whole,
from table to tables; the other reads the same column, cuts words at white space, and drops what RMinHashDeduplicator
says is a duplicate, as rensa's README shows. Prints a table; then, for the first rows, how many of the near pairs that
a comparison of all pairs finds are found, and how many rows each drops that are near no other; last of all the ratio
of the times, theirs to ours.

    python benchmarks/deduplicate.py --rows 100000 --sample 3000
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from corpusmith.errors import InputError
from corpusmith.identity import item_id
from corpusmith.near_duplicates import PERMUTATIONS
from corpusmith.program import argument_parser, run
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import SOLUTIONS

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
THRESHOLD = 0.8
NGRAM = 5
WAYS = ("rensa's loop", "corpusmith")


def make_texts(count: int) -> Iterator[str]:
    """Texts of some 50 words, some of them near earlier ones."""
    chooser = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["".join(chooser.choices(letters, k=chooser.randint(2, 9))) for _ in range(20_000)]
    earlier: list[str] = []
    for _ in range(count):
        kind = chooser.random()
        if earlier and kind < 0.3:
            words = chooser.choice(earlier).split()
            if 0.1 <= kind < 0.2:
                for _ in range(chooser.randint(1, 2)):
                    words[chooser.randrange(10, len(words))] = chooser.choice(vocabulary)
            elif kind >= 0.2:
                words[chooser.randrange(10)] = str(chooser.randint(2, 9999))
        else:
            words = chooser.choices(vocabulary, k=chooser.randint(40, 60))
            words[chooser.randrange(10)] = str(chooser.randint(2, 9999))
        text = " ".join(words)
        if len(earlier) < 10_000:
            earlier.append(text)
        yield text


def row(number: int, text: str) -> dict[str, Any]:
    """A row of a table of solutions."""
    ids = {"item_id": item_id(text, str(number)), "problem_id": item_id(text)}
    return ids | {"problem": text, "answer_origin": "none", "dataset": "made"}


def shingles(text: str) -> list[str]:
    """Runs of words, cut at white space."""
    words = text.split()
    return [" ".join(words[place : place + NGRAM]) for place in range(max(1, len(words) - NGRAM + 1))]


def theirs(path: Path, kept: Path) -> None:
    """The loop around rensa, from table to table."""
    from rensa import RMinHash, RMinHashDeduplicator

    bands = 16
    deduplicator = RMinHashDeduplicator(THRESHOLD, PERMUTATIONS, use_lsh=True, num_bands=bands)

    def unique() -> Iterator[dict[str, Any]]:
        for number, one in enumerate(read_rows(path, SOLUTIONS)):
            signature = RMinHash(num_perm=PERMUTATIONS, seed=42)
            signature.update(shingles(one["problem"]))
            if deduplicator.add(str(number), signature):
                yield one

    write_table(kept, SOLUTIONS, unique())


def timed(command: Sequence[Any]) -> tuple[float, float]:
    """Seconds and most memory in MiB of a program. Its memory counts from that of this one on, which is small."""
    begin = time.perf_counter()
    program = subprocess.Popen([sys.executable, *map(str, command)], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(program.pid, 0)
    if status:
        raise InputError(f"{command[0]} failed")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def near_pairs(texts: Sequence[str]) -> dict[int, set[int]]:
    """For each text the earlier ones that it is near, by a comparison of all pairs; without those of other numbers."""
    sets = [frozenset(shingles(text)) for text in texts]
    figures = [[word for word in text.split() if word.isdigit()] for text in texts]
    found: dict[int, set[int]] = {}
    for one in range(len(texts)):
        for other in range(one):
            if figures[one] == figures[other]:
                shared = len(sets[one] & sets[other])
                if shared / (len(sets[one]) + len(sets[other]) - shared) >= THRESHOLD:
                    found.setdefault(one, set()).add(other)
    return found


def main() -> None:
    """Measures both."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="how many texts (default %(default)s)")
    parser.add_argument("--sample", type=int, default=3000, help="of how many all pairs are held (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="how often; the fastest counts (default %(default)s)")
    parser.add_argument("--make", nargs=2, help="only the texts: table to write, how many")
    parser.add_argument("--theirs", nargs=2, type=Path, help="only the other loop: table, table to write")
    arguments = parser.parse_args()
    if arguments.make:
        path, count = arguments.make
        write_table(path, SOLUTIONS, (row(number, text) for number, text in enumerate(make_texts(int(count)))))
        return
    if arguments.theirs:
        theirs(*arguments.theirs)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for table, count in (("rows", arguments.rows), ("sample", arguments.sample)):
            timed([__file__, "--make", folder / table, count])
        found = {}
        for table in ("sample", "rows"):
            for way in WAYS:
                kept = folder / f"{table}-{way}"
                if way == "corpusmith":
                    flags = ("--recipe", "maths", "--column", "problem", "--near", THRESHOLD, "--ngram", NGRAM)
                    outputs = ("--kept", kept, "--rejected", folder / "rejected", "--account", folder / "account")
                    command = [SCRIPTS / "deduplicate.py", "--rows", folder / table, *flags, *outputs]
                else:
                    command = [__file__, "--theirs", folder / table, kept]
                found[table, way] = min(timed(command) for _ in range(arguments.rounds))
        print(f"{'':<16}{'seconds':>9}{'rows kept':>11}{'MiB':>7}")
        for way in WAYS:
            seconds, memory = found["rows", way]
            kept_rows = sum(1 for _ in read_rows(folder / f"rows-{way}", SOLUTIONS, ["item_id"]))
            print(f"{way:<16}{seconds:>9.1f}{kept_rows:>11,}{memory:>7,.0f}")
        texts = [one["problem"] for one in read_rows(folder / "sample", SOLUTIONS, ["problem"])]
        pairs = near_pairs(texts)
        for way in WAYS:
            ids = {one["item_id"] for one in read_rows(folder / f"sample-{way}", SOLUTIONS, ["item_id"])}
            stay = [item_id(text, str(number)) in ids for number, text in enumerate(texts)]
            missed = sum(stay[one] and any(stay[other] for other in others) for one, others in pairs.items())
            wrong = sum(not stay[one] and one not in pairs for one in range(len(texts)))
            recall = 1 - missed / len(pairs)
            print(f"{way}: finds {recall:.2%} of {len(pairs):,} near rows of {len(texts):,}, drops {wrong:,} wrongly")
        print(f"ratio {found['rows', WAYS[0]][0] / found['rows', WAYS[1]][0]:.2f}")


if __name__ == "__main__":
    run(main)
