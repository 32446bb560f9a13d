"""Contamination: held against a plain search for every run of words; and the benchmark files it is read from."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmith.benchmark_files import read_benchmark
from corpusmith.contamination import Benchmarks, Match
from corpusmith.documents import Source
from corpusmith.errors import InputError
from corpusmith.words import words

QUESTION = "Mina buys 3 apples a day. How many apples does she buy in a week?"
RUN = "mina buys 3 apples a day how many apples does she"


def index(texts: Sequence[str], ngram: int = 10, min_words: int = 5) -> Benchmarks:
    benchmarks = Benchmarks(ngram, min_words)
    for row, text in enumerate(texts, 1):
        benchmarks.add(0, row, "question", text)
    return benchmarks


def found(benchmark: Sequence[str], texts: Sequence[str], ngram: int = 10, min_words: int = 5) -> list[Match]:
    return list(index(benchmark, ngram, min_words).matches(texts))


def plain_pairs(benchmark: Sequence[str], texts: Sequence[str], ngram: int, min_words: int) -> set[tuple[int, int]]:
    """Text and row (from 1) of all that share a run, by looking for one list of words in another."""
    pairs = set()
    for number, text in enumerate(texts):
        inside = words(text)
        for row, other in enumerate(benchmark, 1):
            wanted = words(other)
            size = min(ngram, len(wanted))
            runs = [wanted[place : place + size] for place in range(len(wanted) - size + 1)]
            if len(wanted) >= min_words and any(
                inside[place : place + size] in runs for place in range(len(inside) - size + 1)
            ):
                pairs.add((number, row))
    return pairs


# --- matches ---


def test_a_run_of_words_matches_as_far_as_it_goes_on_whatever_case_and_punctuation() -> None:
    text = "Each morning MINA buys 3 apples -- a day; how many apples, does she have on Sunday?"
    assert found([QUESTION], [text]) == [Match(0, 0, 1, "question", RUN)]
    assert len(RUN.split()) == 11
    assert found([QUESTION], [text], ngram=11) != []
    assert found([QUESTION], [text], ngram=12) == []


@pytest.mark.parametrize("number", ["5", "30", "3.5", "1/3", "3,000", "-3", "three"])
def test_another_number_in_the_run_is_no_match(number: str) -> None:
    text = f"Mina buys {number} apples a day. How many apples does she have?"
    assert found([QUESTION], [text]) == []
    assert found([QUESTION], [text.replace(number, "3")]) != []


def test_a_run_does_not_go_on_from_one_text_to_the_next() -> None:
    halves = ["Mina buys 3 apples a day.", "How many apples does she buy in a week?"]
    assert found([QUESTION], halves) == []
    assert found(halves, ["zero", QUESTION], ngram=10, min_words=10) == []


def test_a_benchmark_text_of_few_words_matches_where_all_of_it_stands() -> None:
    short = "What is the square of 12?"
    texts = ["Please tell me: what is the square of 12?", "What is the square of 13?", "the square of 12"]
    assert found([short], texts) == [Match(0, 0, 1, "question", "what is the square of 12")]
    assert found([short], texts, min_words=7) == []
    # One of ten words is neither longer nor shorter than a run.
    ten = " ".join("abcdefghij")
    assert [match.shared for match in found([ten], [f"x {ten} y"])] == [ten]


def test_each_benchmark_row_is_named_once_by_the_first_run() -> None:
    benchmarks = Benchmarks(3, 3)
    benchmarks.add(0, 1, "question", "a b c x d e f")
    benchmarks.add(0, 1, "answer", "d e f g")
    benchmarks.add(1, 1, "question", "c d e")
    assert not benchmarks.add(1, 2, "question", "c d")
    assert list(benchmarks.matches(["z z", "d e f g a b c d e", "c d", ""])) == [
        Match(1, 0, 1, "question", "d e f"),
        Match(1, 1, 1, "question", "c d e"),
    ]
    # What is added later is found, too.
    benchmarks.add(2, 9, "", "z z z")
    assert list(benchmarks.matches(["z z z z"])) == [Match(0, 2, 9, "", "z z z")]


def test_in_chinese_runs_are_of_characters() -> None:
    benchmark = ["小明每天买三个苹果，一周买多少？"]
    assert [match.shared for match in found(benchmark, ["小明每天买三个苹果一共"])] == ["小 明 每 天 买 三 个 苹 果 一"]
    assert found(benchmark, ["小明每天买五个苹果一共"]) == []


def test_equal_hashes_of_different_words_are_no_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corpusmith.contamination._mixed", lambda values: values * 0)
    assert {(match.text, match.row) for match in found(["a b c", "d e f"], ["b a c d e f", "c b a"], 3, 3)} == {(0, 2)}


@settings(max_examples=200)
@given(
    st.lists(st.text("ab3 ", max_size=20), max_size=8),
    st.lists(st.text("ab34 ", max_size=20), max_size=8),
    st.integers(1, 5),
    st.data(),
)
def test_matches_are_those_of_a_plain_search_however_the_texts_are_cut(
    benchmark: list[str], texts: list[str], ngram: int, data: st.DataObject
) -> None:
    spaced = [[" ".join(text) for text in some] for some in (benchmark, texts)]
    min_words = data.draw(st.integers(1, 6))
    at_once = found(*spaced, ngram, min_words)
    assert {(match.text, match.row) for match in at_once} == plain_pairs(*spaced, ngram, min_words)
    assert len({(match.text, match.row) for match in at_once}) == len(at_once)
    for match in at_once:
        for text in (spaced[0][match.row - 1], spaced[1][match.text]):
            assert f" {match.shared} " in f" {' '.join(words(text))} "
    benchmarks = index(spaced[0], ngram, min_words)
    one_by_one = [
        match._replace(text=place) for place, one in enumerate(spaced[1]) for match in benchmarks.matches([one])
    ]
    assert one_by_one == at_once


def test_real_problems_match_themselves_and_of_another_half_what_a_plain_search_finds(shared_data: Path) -> None:
    problems = [
        json.loads(line)["problem"]
        for line in (shared_data / "math" / "seed_problems.jsonl").read_text("utf-8").splitlines()
    ]
    assert {match.text for match in found(problems, problems)} == set(range(500))
    mixed = random.Random(3).sample(problems, 500)
    for ngram in (4, 6):
        matches = found(mixed[:250], mixed[250:], ngram)
        runs: dict[tuple[str, ...], set[int]] = {}
        for row, text in enumerate(mixed[:250], 1):
            cut = words(text)
            for place in range(len(cut) - ngram + 1):
                runs.setdefault(tuple(cut[place : place + ngram]), set()).add(row)
        expected = {
            (number, row)
            for number, text in enumerate(mixed[250:])
            for cut in [words(text)]
            for place in range(len(cut) - ngram + 1)
            for row in runs.get(tuple(cut[place : place + ngram]), ())
        }
        assert len(expected) > 3
        assert {(match.text, match.row) for match in matches} == expected


@pytest.mark.parametrize(("ngram", "min_words"), [(0, 1), (5, 0), (-1, -1)])
def test_runs_that_no_text_can_have_are_refused(ngram: int, min_words: int) -> None:
    with pytest.raises(InputError, match="both are at least 1"):
        Benchmarks(ngram, min_words)


# --- benchmark files ---

ROWS: list[dict[str, Any]] = [
    {"question": 'Wie viele, "Äpfel"?\nZwei', "level": "5", "n": 5},
    {"question": "Other", "level": "", "n": 6},
]


def source(path: Path, data: str | bytes) -> Source:
    raw = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(raw) if path.name.endswith(".gz") else raw)
    return Source(path.name, path)


@pytest.mark.parametrize("name", ["b.json", "b.jsonl", "b.jsonl.gz", "b.csv", "b.parquet", "wrapped.json"])
def test_rows_and_their_texts_are_the_same_in_every_format(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "b.parquet":
        pq.write_table(pa.Table.from_pylist([row | {"picture": b"\xff"} for row in ROWS]), path)
    elif name == "b.csv":
        lines = ['"Wie viele, ""Äpfel""?\nZwei",5', "Other,"]
        source(path, "\ufeffquestion,level\n" + "\n".join(lines) + "\n")
    elif name.endswith(".json"):
        source(path, json.dumps({"version": "1", "data": ROWS} if name == "wrapped.json" else ROWS))
    else:
        source(path, "\n".join(map(json.dumps, ROWS)))
    given = Source(name, path)
    both = [(row, [("question", ROWS[row - 1]["question"]), ("level", ROWS[row - 1]["level"])]) for row in (1, 2)]
    assert list(read_benchmark(given)) == both
    assert list(read_benchmark(given, ["none", "question"])) == [(row, texts[:1]) for row, texts in both]
    with pytest.raises(InputError, match=rf"{name}: no row has a field problem or none; found: .*level.*question"):
        list(read_benchmark(given, ["problem", "none"]))


def test_plain_text_has_a_row_a_line_and_lists_and_objects_have_all_their_texts(tmp_path: Path) -> None:
    for name in ("b.txt", "b.txt.gz"):
        assert list(read_benchmark(source(tmp_path / name, "one\n\n two \r\n"), ["question"])) == [
            (1, [("", "one")]),
            (3, [("", "two")]),
        ]
    row = {"choices": {"text": ["a", "b"], "label": ["c"]}, "turns": [{"content": "d"}, 5, None], "none": None}
    texts = [*[("choices", text) for text in "abc"], ("turns", "d")]
    assert list(read_benchmark(source(tmp_path / "b.jsonl", json.dumps(row) + '\n"alone"'))) == [
        (1, texts),
        (2, [("", "alone")]),
    ]


@pytest.mark.parametrize(
    ("name", "data", "place"),
    [
        ("b.jsonl", '{"a": "b"}\n\n{"a": \n', r"b.jsonl: line 3: is no JSON"),
        ("b.jsonl", '{"a": "b"}\n[1]\n', r"b.jsonl: line 2: is neither an object nor a text: \[1\]"),
        ("b.jsonl", b'{"a": "\xff"}', r"b.jsonl: line 1: is not UTF-8"),
        ("b.jsonl", "", r"b.jsonl: the file holds no lines"),
        ("b.json", '[{"a": "b"}, 3]', r"b.json: row 2: is neither"),
        ("b.json", '{"a": "b"}', r"b.json: is no list of rows"),
        ("b.json", '[{"a": ', r"b.json: is no JSON"),
        ("b.json", b"[\xff]", r"b.json: byte 1: is not UTF-8"),
        ("b.csv", "a,b\n1,2\n3\n", r"b.csv: row 2 has more or fewer fields"),
        ("b.csv", "a,b\n1,2\n3,4,5\n", r"b.csv: row 2 has more or fewer fields"),
        ("b.csv", 'a,b\n1,"2', r"b.csv: row 1: cannot be read"),
        ("b.csv", b"a,b\n1,\xff\n", r"b.csv: row 1: cannot be read"),
        ("b.parquet", "PAR1", r"b.parquet: row 1: cannot be read"),
        ("b.txt", b"a\n\xff\n", r"b.txt: line 2: is not UTF-8"),
        ("b.xlsx", "", r"b.xlsx: a benchmark is one of \.json, "),
    ],
)
def test_a_bad_line_is_an_error_that_names_its_place(tmp_path: Path, name: str, data: str | bytes, place: str) -> None:
    with pytest.raises(InputError, match=place):
        list(read_benchmark(source(tmp_path / name, data)))


def test_a_missing_benchmark_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"b.txt: no such file"):
        list(read_benchmark(Source("b.txt", tmp_path / "b.txt")))
