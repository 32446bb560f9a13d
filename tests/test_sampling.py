"""The sample of segments, held against a plain-Python reference; and how the program fails."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import logging
import random
import re
import runpy
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from corpusmith.accounting import read_account
from corpusmith.documents import Document, RawLine, line_break_form
from corpusmith.errors import InputError
from corpusmith.identity import fraction, item_id, rank
from corpusmith.sampling import cut_units, quotas
from corpusmith.segments import Buckets, SegmentSettings, load_tokenizer, segment_document
from corpusmith.splitting import split_sentences
from corpusmith.table_files import read_rows
from corpusmith.tables import BAD_ROWS, SEGMENTS

PROGRAM = Path(__file__).resolve().parent.parent / "scripts" / "sample_sources.py"
EDGES = (0, 5, 10, 20, 40, 80)
BLOB_TOKENS = 60
MEGABYTE = 2**20


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer whose tokens a regular expression counts too: runs of word characters, and of other marks."""
    folder = tmp_path_factory.mktemp("tokenizer")
    words = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.enable_truncation(7)
    words.enable_padding(length=9)
    words.save(str(folder / "tokenizer.json"))
    return folder


def tokens_of(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]+", text))


def sentence(chooser: random.Random) -> str:
    longest = chooser.choice((2, 2, 10, 60))
    words = [chooser.choice(("tram", "depot", "line", "bus", "old", "new")) for _ in range(chooser.randint(1, longest))]
    return " ".join(words).capitalize() + chooser.choice((".", "!", "?"))


def texts(count: int, seed: int = 0) -> list[str]:
    """Documents of 1 to 25 sentences, with duplicates, and with line breaks of both forms."""
    chooser = random.Random(seed)
    common = [sentence(chooser) for _ in range(20)]
    made: list[str] = []
    for _ in range(count):
        if made and chooser.random() < 0.05:
            made.append(chooser.choice(made))
            continue
        spell = chooser.choice(("\n", "\r\n", "\\n", "\\r\\n"))
        parts = [
            chooser.choice(common) if chooser.random() < 0.2 else sentence(chooser)
            for _ in range(chooser.randint(1, 25))
        ]
        made.append("".join(part + chooser.choice((" ", " ", spell)) for part in parts))
    return made


def write(path: Path, documents: Iterable[str]) -> Path:
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        for text in documents:
            file.write(json.dumps({"text": text}) + "\n")
    return path


def command(tokenizer: Path, out: Path, files: Sequence[Path | str], *more: str) -> list[str]:
    outputs = {
        name: str(out / f"{name}.{kind}")
        for name, kind in {
            "segments": "parquet",
            "bad-rows": "parquet",
            "read-account": "json",
            "sample-account": "json",
            "summary": "json",
        }.items()
    }
    flags = {
        "--language": "en",
        "--tokenizer": str(tokenizer),
        "--tokenizer-name": "words",
        "--pool": "200",
        "--seed": "7",
        "--blob-tokens": str(BLOB_TOKENS),
    } | {f"--{name}": path for name, path in outputs.items()}
    edges = [str(edge) for edge in EDGES]
    pairs = itertools.chain.from_iterable(flags.items())
    return [sys.executable, str(PROGRAM), "--glob", *map(str, files), "--edges", *edges, *pairs, *more]


class Ran(NamedTuple):
    """How a program ended, and what it said."""

    returncode: int
    stderr: str


def sample_apart(tokenizer: Path, out: Path, files: Sequence[Path | str], *more: str) -> Ran:
    """Runs the program as a process."""
    out.mkdir(exist_ok=True)
    done = subprocess.run(command(tokenizer, out, files, *more), capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stderr)


def sample(tokenizer: Path, out: Path, files: Sequence[Path | str], *more: str) -> Ran:
    """Runs the program in this process, which spares the time to start one."""
    out.mkdir(exist_ok=True)
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger("corpusmith").addHandler(handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", command(tokenizer, out, files, *more)[1:])
            runpy.run_path(str(PROGRAM), run_name="__main__")
    except SystemExit as end:
        print(end.code, file=said)
        return Ran(1, said.getvalue())
    finally:
        logging.getLogger("corpusmith").removeHandler(handler)
    return Ran(0, said.getvalue())


def rows_of(out: Path) -> list[dict[str, Any]]:
    return list(read_rows(out / "segments.parquet", SEGMENTS))


def json_of(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# The reference: all candidates in a list, sorted, cut.


def reference_candidates(stored: str, seed: int, blob_share: float = 0.5) -> list[dict[str, Any]]:
    """Every candidate of a document, its sentences found by the full stops of the generated text."""
    separators = r"\s*(?:\\r\\n|\\n)\s*|\s+" if "\n" not in stored else r"\s+"
    edges, start = [], 0
    for match in re.finditer(rf"(?<=[.!?])(?:{separators})", stored):
        edges.append((start, match.start()))
        start = match.end()
    if stored[start:].strip():
        edges.append((start, len(stored)))
    key = item_id(stored)
    found = []
    if len(edges) > 1 and fraction(f"blobs {seed}", key) < blob_share:
        first = 0
        while first < len(edges) - 1:
            most = 1 + int(fraction(f"blob length {seed}", f"{key} {first}") * BLOB_TOKENS)
            lengths = [tokens_of(stored[a:b]) for a, b in edges[first:]]
            fitting = [count for count in range(2, len(lengths) + 1) if sum(lengths[:count]) <= most]
            count = max(fitting, default=2)
            if sum(lengths[:count]) <= BLOB_TOKENS:
                found.append(("blob", edges[first][0], edges[first + count - 1][1]))
                first += count
            else:
                first += 1
    else:
        found = [("sentence", a, b) for a, b in edges]
    candidates = []
    for kind, a, b in found:
        text = stored[a:b].replace("\\r\\n", "\n").replace("\\n", "\n").replace("\r\n", "\n")
        tokens = tokens_of(text)
        names = [f"{low}-{high}" for low, high in itertools.pairwise(EDGES) if low <= tokens < high]
        candidates.append(
            {
                "item_id": item_id(text),
                "text": text,
                "kind": kind,
                "tokens": tokens,
                "bucket": names[0] if names else None,
                "start": a,
                "end": b,
            }
        )
    return candidates


def reference_sample(
    files: Sequence[tuple[str, Sequence[str]]], wanted: dict[tuple[str, str], int], seed: int, most: int | None = None
) -> tuple[list[dict[str, Any]], int]:
    """The sample of the first `most` documents in the order of scanning, and how many candidates there were."""
    lines = [(name, number, text) for name, stored in files for number, text in enumerate(stored, 1)][:most]
    everything = [
        candidate | {"file": name, "line": number}
        for name, number, text in lines
        for candidate in reference_candidates(text, seed)
    ]
    strata: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for place, candidate in enumerate(everything):
        if candidate["bucket"]:
            strata[candidate["kind"], candidate["bucket"]].setdefault(candidate["item_id"], place)
    drawn = []
    for stratum, distinct in strata.items():
        drawn += [distinct[item] for item in sorted(distinct, key=lambda item: rank(seed, item))[: wanted[stratum]]]
    return [everything[place] for place in sorted(drawn)], len(everything)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, list[str]]]:
    folder = tmp_path_factory.mktemp("corpus")
    stored = [texts(300, 1), texts(500, 2), texts(7, 3)]
    return [(write(folder / f"en_{n}.jsonl.gz", made), made) for n, made in enumerate(stored)]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_sample_is_that_of_the_reference(
    tmp_path: Path, tokenizer: Path, corpus: list[tuple[Path, list[str]]], seed: int
) -> None:
    done = sample(tokenizer, tmp_path / "out", [path for path, _ in corpus], "--no-stop-when-full", "--seed", str(seed))
    assert done.returncode == 0, done.stderr
    wanted = quotas(200, 0.5, BLOB_TOKENS, Buckets(EDGES))
    expected, whole = reference_sample([(path.name, stored) for path, stored in corpus], wanted, seed)
    assert rows_of(tmp_path / "out") == expected
    assert len(expected) == 200
    account = read_account(tmp_path / "out" / "sample-account.json")
    assert account.taken.count == whole
    assert account.kept.count == 200
    outside = account.reasons["outside_buckets"]
    assert outside == whole - sum(
        candidate["bucket"] is not None
        for _, stored in corpus
        for text in stored
        for candidate in reference_candidates(text, seed)
    )
    assert account.reasons["duplicate"] > 0
    forms = json_of(tmp_path / "out" / "summary.json")["line_breaks"]
    stored = [text for _, made in corpus for text in made]
    assert forms["real"]["documents"] == sum("\n" in text for text in stored)
    assert forms["literal"]["documents"] == sum("\\n" in text for text in stored)
    assert sum(form["documents"] for form in forms.values()) == len(stored) == 807


def test_another_seed_draws_another_sample(tmp_path: Path, tokenizer: Path, corpus: list) -> None:
    drawn = []
    for seed in ("1", "2"):
        assert sample(tokenizer, tmp_path / seed, [corpus[0][0]], "--seed", seed, "--pool", "20").returncode == 0
        drawn.append({row["item_id"] for row in rows_of(tmp_path / seed)})
    assert len(drawn[0] & drawn[1]) < 10


def test_reading_stops_with_the_unit_that_fills_the_quotas_for_any_number_of_workers(
    tmp_path: Path, tokenizer: Path, corpus: list[tuple[Path, list[str]]]
) -> None:
    for workers, run in (("1", sample), ("2", sample_apart), ("3", sample_apart)):
        done = run(tokenizer, tmp_path / workers, [path for path, _ in corpus], "--workers", workers)
        assert done.returncode == 0, done.stderr
    names = sorted(file.name for file in (tmp_path / "1").iterdir())
    assert names == ["bad-rows.parquet", "read-account.json", "sample-account.json", "segments.parquet", "summary.json"]
    for name in names:
        first = (tmp_path / "1" / name).read_bytes()
        assert [(tmp_path / workers / name).read_bytes() == first for workers in ("2", "3")] == [True, True]
    wanted = quotas(200, 0.5, BLOB_TOKENS, Buckets(EDGES))
    files = [(path.name, stored) for path, stored in corpus]
    for most in (256, 512, 768, 807):
        expected, _ = reference_sample(files, wanted, 7, most)
        if len(expected) == 200:
            break
    assert most < 768
    assert rows_of(tmp_path / "1") == expected
    assert json_of(tmp_path / "1" / "read-account.json")["in"] == most
    assert json_of(tmp_path / "1" / "summary.json")["stopped_at"]["because"] == "quotas_full"


def test_no_more_documents_are_read_than_are_allowed(tmp_path: Path, tokenizer: Path, corpus: list) -> None:
    paths = [path for path, _ in corpus]
    done = sample(tokenizer, tmp_path / "out", paths, "--no-stop-when-full", "--max-scan-docs", "310")
    assert done.returncode == 0, done.stderr
    summary = json_of(tmp_path / "out" / "summary.json")
    assert summary["stopped_at"] == {"file": "en_1.jsonl.gz", "line": 10, "because": "max_scan_docs"}
    assert {row["file"] for row in rows_of(tmp_path / "out")} == {"en_0.jsonl.gz", "en_1.jsonl.gz"}


def test_what_lies_behind_the_stopping_point_does_not_matter(tmp_path: Path, tokenizer: Path, corpus: list) -> None:
    broken = tmp_path / "z.jsonl.gz"
    broken.write_bytes(gzip.compress(b'{"text": "One."}\n' * 1000)[:-9])
    paths = [path for path, _ in corpus] + [broken]
    for workers, run in (("1", sample), ("2", sample_apart)):
        done = run(tokenizer, tmp_path / workers, paths, "--workers", workers, "--pool", "10")
        assert done.returncode == 0, done.stderr
        done = run(tokenizer, tmp_path / workers, paths, "--workers", workers, "--no-stop-when-full")
        assert done.returncode == 1
        assert re.search(r"error: .*/z\.jsonl\.gz: line \d+: the compressed data ends too early", done.stderr)


def test_duplicates_are_drawn_once(tmp_path: Path, tokenizer: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", ["The tram is old. It stops here."] * 5 + ["The tram is new."])
    done = sample(tokenizer, tmp_path / "out", [path], "--blob-share", "0", "--pool", "50")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out")
    assert [(row["text"], row["line"], row["start"], row["end"]) for row in rows] == [
        ("The tram is old.", 1, 0, 16),
        ("It stops here.", 1, 17, 31),
        ("The tram is new.", 6, 0, 16),
    ]
    account = json_of(tmp_path / "out" / "sample-account.json")
    assert (account["in"], account["kept"], account["dropped"]) == (11, 3, {"duplicate": 8})
    unfilled = json_of(tmp_path / "out" / "summary.json")["unfilled"]
    # "The tram is old." and the like have five tokens, "It stops here." has four.
    assert unfilled[:2] == [
        {"kind": "sentence", "bucket": "0-5", "wanted": 10, "got": 1},
        {"kind": "sentence", "bucket": "5-10", "wanted": 10, "got": 2},
    ]
    assert "not enough sentences of 0-5 tokens: wanted 10, got 1" in done.stderr


def test_quotas_by_hand() -> None:
    buckets = Buckets((0, 10, 20, 40))
    # 10 in halves are 5 and 5; thirds of 5 are 1.67 each, rounded up for the first four of six by order.
    assert quotas(10, 0.5, 512, buckets) == {
        ("sentence", "0-10"): 2,
        ("sentence", "10-20"): 2,
        ("sentence", "20-40"): 2,
        ("blob", "0-10"): 2,
        ("blob", "10-20"): 1,
        ("blob", "20-40"): 1,
    }
    # No blob of up to 15 tokens is in 20-40.
    assert list(quotas(100, 0.3, 15, buckets).values()) == [24, 23, 23, 15, 15, 0]
    assert list(quotas(100, 0.2, 512, buckets, [1, 0, 3]).values()) == [20, 0, 60, 5, 0, 15]
    for shares in ([1, 2], [0, 0, 0], [1, -1, 1]):
        with pytest.raises(InputError, match="one for each of 0-10, 10-20, 20-40"):
            quotas(10, 0.5, 512, buckets, shares)
    with pytest.raises(InputError, match="can hold a blob"):
        quotas(10, 0.5, 512, buckets=Buckets((600, 700)))


@given(
    st.integers(1, 10**6),
    st.floats(0, 1),
    st.lists(st.integers(0, 400), min_size=2, max_size=8, unique=True).map(sorted),
)
def test_quotas_add_up(pool: int, blob_share: float, edges: list[int]) -> None:
    wanted = quotas(pool, blob_share, 512, Buckets(tuple(edges)))
    assert sum(wanted.values()) == pool
    blobs = [count for (kind, _), count in wanted.items() if kind == "blob"]
    assert max(blobs) - min(blobs) <= 1
    assert abs(sum(blobs) - pool * blob_share) < len(wanted)


def test_edges_must_climb() -> None:
    for edges in ((5,), (0, 10, 10), (10, 5), (-1, 5)):
        with pytest.raises(InputError, match="must be two or more whole numbers from 0 that climb"):
            Buckets(edges)
    assert [Buckets(EDGES).of(tokens) for tokens in (0, 4, 5, 79, 80)] == ["0-5", "0-5", "5-10", "40-80", None]


def test_units_end_where_lines_are_long() -> None:
    long = RawLine("a", 1, b"x" * 3 * MEGABYTE, True)
    assert [len(unit) for unit in cut_units(iter([long] * 7), 100)] == [3, 3, 1]
    short = RawLine("a", 1, b"x", True)
    assert [len(unit) for unit in cut_units(iter([short] * 600), 520)] == [256, 256, 8]


PARTS = st.sampled_from(
    ["One. ", "Two three! ", "\\n", "\n", "\\r\\n", "\r\n", "C:\\\\new ", "Dr. X ", "\u2028", "word ", "\\"]
)


@settings(max_examples=200)
@given(st.lists(PARTS, min_size=1, max_size=60).map("".join), st.integers(0, 3), st.sampled_from([0.0, 1.0]))
def test_segments_of_any_text(tokenizer: Path, text: str, seed: int, blob_share: float) -> None:
    counter = load_tokenizer(tokenizer)
    form = line_break_form(text)
    wanted = SegmentSettings("en", Buckets((0, 1000)), seed, blob_share, 12)
    found = segment_document(Document(text, form), counter, wanted).segments
    assert len({segment.kind for segment in found}) <= 1
    end_before = 0
    for segment in found:
        # Worked out anew from the stored text, break by break.
        stored = text[segment.start : segment.end]
        if form == "literal":
            stored = re.sub(r"(?<!\\)(?:\\r)?\\n", "\n", stored)
        assert segment.text == stored.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n")
        assert segment.text == segment.text.strip() != ""
        assert segment.item_id == item_id(segment.text)
        assert segment.tokens == tokens_of(segment.text) == len(counter.encode(segment.text))
        assert segment.start >= end_before
        end_before = segment.end
        if segment.kind == "blob":
            assert segment.tokens <= 12
            assert len(split_sentences(segment.text, "en")) >= 2
        else:
            assert "\n" not in segment.text


def test_blobs_fill_all_buckets(tokenizer: Path) -> None:
    counter = load_tokenizer(tokenizer)
    buckets = Buckets((0, 100, 200, 300, 400, 513))
    text = " ".join(["The tram is old."] * 20_000)
    found = segment_document(Document(text, "none"), counter, SegmentSettings("en", buckets, 5, 1.0, 512)).segments
    shares = [sum(blob.bucket == name for blob in found) / len(found) for name in buckets.names]
    # Targets are uniform over 1 to 512.
    assert shares == pytest.approx([100 / 512] * 4 + [112 / 512], abs=0.06)


def test_real_documents(tmp_path: Path, tokenizer: Path, shared_data: Path) -> None:
    paths = sorted((shared_data / "translation").glob("en_clean_*.jsonl.gz"))
    done = sample(tokenizer, tmp_path / "out", paths, "--pool", "400", "--blob-tokens", "79")
    assert done.returncode == 0, done.stderr
    stored = {
        path.name: [json.loads(line)["text"] for line in gzip.decompress(path.read_bytes()).splitlines()]
        for path in paths
    }
    rows = rows_of(tmp_path / "out")
    assert {row["kind"] for row in rows} == {"sentence", "blob"}
    assert {row["bucket"] for row in rows} == set(Buckets(EDGES).names)
    assert len({row["item_id"] for row in rows}) == len(rows) > 200
    for row in rows:
        slice_ = stored[row["file"]][row["line"] - 1][row["start"] : row["end"]]
        assert slice_.replace("\\n", "\n") == row["text"]
        assert row["tokens"] == tokens_of(row["text"])
    assert any("\n" in row["text"] for row in rows if row["kind"] == "blob")
    summary = json_of(tmp_path / "out" / "summary.json")
    assert summary["line_breaks"]["literal"] == {"documents": 80, "share": 1.0}
    assert summary["tokenizer"] == "words"


def peak_memory(command: list[str]) -> int:
    """Bytes at the highest, of a program run alone under a small parent that reports on it."""
    watcher = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", watcher, *command], capture_output=True, text=True, check=True)
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024)


def test_memory_is_flat_over_a_file_a_hundred_times_larger(tmp_path: Path, tokenizer: Path) -> None:
    chooser = random.Random(4)

    def documents(count: int) -> Iterable[str]:
        for number in range(count):
            yield " ".join(f"Tram {number} goes to stop {chooser.randrange(10**9)}." for _ in range(6))

    peaks = []
    for count in (300, 30_000):
        path = write(tmp_path / f"{count}.jsonl.gz", documents(count))
        out = tmp_path / str(count)
        out.mkdir()
        more = ["--no-stop-when-full", "--pool", "200", "--tokenizer-name", "words"]
        peaks.append(peak_memory(command(tokenizer, out, [path], *more)))
        assert json_of(out / "read-account.json")["in"] == count
    assert peaks[1] - peaks[0] < 40 * MEGABYTE


def test_a_line_of_hundreds_of_megabytes_does_not_fill_the_memory(tmp_path: Path, tokenizer: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"text": "One tram."}\n' * 200 + b'{"text": "')
        for _ in range(200):
            file.write(b"x" * MEGABYTE)
        file.write(b'"}\n{"text": "Two trams."}\n')
    small = tmp_path / "small.jsonl"
    small.write_bytes(b'{"text": "One tram."}\n' * 202)
    out = tmp_path / "out"
    out.mkdir()
    ordinary, monstrous = (peak_memory(command(tokenizer, out, [file])) for file in (small, path))
    assert monstrous - ordinary < 60 * MEGABYTE
    assert list(read_rows(out / "bad-rows.parquet", BAD_ROWS)) == [
        {"file": "a.jsonl.gz", "line": 201, "reason": "line_too_long", "excerpt": ('{"text": "' + "x" * 190)}
    ]
    assert [row["text"] for row in rows_of(out)] == ["One tram.", "Two trams."]


GOOD = b'{"text": "The tram is old. It stops here."}\n'


def test_single_bad_rows_are_set_aside_and_counted(tmp_path: Path, tokenizer: Path) -> None:
    path = tmp_path / "a.jsonl"
    bad = [b"not json\n", b'{"body": 1}\n', b'{"text": "caf\xe9"}\n', b'{"text": "' + b"x" * 10_000_000 + b'"}\n']
    path.write_bytes(GOOD * 100 + bad[0] + GOOD * 100 + b"".join(bad[1:]) + GOOD * 200)
    done = sample(tokenizer, tmp_path / "out", [path], "--pool", "4")
    assert done.returncode == 0, done.stderr
    found = list(read_rows(tmp_path / "out" / "bad-rows.parquet", BAD_ROWS))
    assert [(row["line"], row["reason"]) for row in found] == [
        (101, "not_json"),
        (202, "no_text"),
        (203, "not_utf8"),
        (204, "text_too_long"),
    ]
    assert found[2]["excerpt"] == '{"text": "caf\ufffd"}'
    account = json_of(tmp_path / "out" / "read-account.json")
    assert (account["stage"], account["unit"], account["in"], account["kept"]) == ("read", "documents", 404, 400)
    assert account["dropped"] == {"no_text": 1, "not_json": 1, "not_utf8": 1, "text_too_long": 1}
    assert "set aside: a.jsonl line 101: the line is no JSON: 'not json'" in done.stderr


def test_too_many_bad_rows_fail_and_are_named(tmp_path: Path, tokenizer: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD * 95 + b"{\n" * 5)
    done = sample_apart(tokenizer, tmp_path / "out", [path])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: 5 of the first 100 rows (5.0%) are bad, more than --max-bad-share 0.01 allows:"
        " a.jsonl line 96: the line is no JSON; a.jsonl line 97: the line is no JSON;"
        " a.jsonl line 98: the line is no JSON; and 2 more."
        " Repair the files, correct --text-field, or raise --max-bad-share"
    )
    assert list((tmp_path / "out").iterdir()) == []
    assert sample(tokenizer, tmp_path / "out", [path], "--max-bad-share", "0.05").returncode == 0


def test_a_bad_corpus_is_given_up_on_early(tmp_path: Path, tokenizer: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{\n" * 20 + GOOD * 9_980)
    done = sample(tokenizer, tmp_path / "out", [path], "--no-stop-when-full")
    assert done.returncode == 1
    # Units of 256: the first check is after 1,024 rows, though 20 of 10,000 would be few enough.
    assert "error: 20 of the first 1024 rows (2.0%) are bad" in done.stderr


@pytest.mark.parametrize(
    ("content", "more", "message"),
    [
        (None, [], r"no file matches '.*a\.jsonl'"),
        (b"", [], r"a\.jsonl: the file is empty"),
        (b"\n\n", [], r"a\.jsonl: the file holds no lines"),
        (GOOD, ["--edges", "0", "10", "5"], "edges 0 10 5: must be"),
        (GOOD, ["--edges", "1000", "2000", "--blob-share", "0"], "nothing could be drawn: 1 documents gave 2 segments"),
        (GOOD, ["--pool", "0"], "--pool 0: must be 1 or more"),
        (GOOD, ["--blob-share", "1.5"], r"--blob-share 1\.5: must be from 0 to 1"),
        (GOOD, ["--bucket-shares", "1", "2"], "bucket shares must be 5 numbers"),
        (GOOD, ["--tokenizer", "missing"], r"missing: no such tokenizer"),
        (GOOD, ["--tokenizer", str(PROGRAM)], r"sample_sources\.py: is no tokenizer"),
    ],
)
def test_an_error_is_one_line(
    tmp_path: Path, tokenizer: Path, content: bytes | None, more: list[str], message: str
) -> None:
    if content is not None:
        (tmp_path / "a.jsonl").write_bytes(content)
    done = sample(tokenizer, tmp_path / "out", [tmp_path / "a.jsonl"], *more)
    assert done.returncode == 1
    assert re.match(f"error: .*{message}", done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_fetched_files_keep_their_names_in_the_repository(tmp_path: Path, tokenizer: Path) -> None:
    blob = tmp_path / "blobs" / "0a1b2c"
    blob.parent.mkdir()
    write(blob, ["The tram is old."])
    receipt = tmp_path / "fetch.json"
    receipt.write_text(json.dumps({"files": [{"path": "data/en/en_clean_0000.jsonl.gz", "local": str(blob)}]}))
    arguments = command(tokenizer, tmp_path, [])
    place = arguments.index("--glob")
    arguments[place : place + 1] = ["--fetched", str(receipt)]
    subprocess.run(arguments, check=True, capture_output=True)
    assert [row["file"] for row in rows_of(tmp_path)] == ["data/en/en_clean_0000.jsonl.gz"]
