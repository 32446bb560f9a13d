"""Reading of MADLAD-shaped files: what is a document, what is a bad row, what is an error."""

from __future__ import annotations

import gzip
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.documents import (
    BAD_ROW_REASONS,
    BadRow,
    Document,
    RawLine,
    Source,
    check_sources,
    expand_globs,
    line_break_form,
    name_sources,
    normalise_line_breaks,
    pad_line_breaks,
    parse_line,
    read_lines,
    read_receipt,
)
from corpusmith.errors import InputError
from corpusmith.splitting import split_sentences

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
LIMIT = 100_000


def parse(data: bytes, most: int = 1000) -> Document | BadRow:
    return parse_line(RawLine("f.jsonl", 1, data, True), "text", most)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"text": "cut off', "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "not_json"),
        (b'["text"]', "not_an_object"),
        (b'{"body": "Hello."}', "no_text"),
        (b'{"text": null}', "text_not_a_string"),
        (b'{"text": 3}', "text_not_a_string"),
        (b'{"text": " \\n\\t"}', "empty_text"),
        (b'{"text": "\\\\n \\\\n"}', "empty_text"),
        (b'{"text": "caf\xe9"}', "not_utf8"),
        ('{"text": "Hello."}'.encode("utf-16"), "not_utf8"),
        (b'{"text": "' + b"a" * 1001 + b'"}', "text_too_long"),
        (b'{"text": "a\\u0000b"}', "nul_character"),
        (b'{"text": "a\\ud83d b"}', "lone_surrogate"),
    ],
)
def test_a_bad_row_has_its_reason(data: bytes, reason: str) -> None:
    found = parse(data)
    assert isinstance(found, BadRow)
    assert found.reason == reason
    assert found.reason in BAD_ROW_REASONS
    assert found.excerpt == data.decode("utf-8", "replace")[:200]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"text": "Hello.", "url": "x"}\n', "Hello."),
        (b'\xef\xbb\xbf{"text": "Hello."}\r\n', "Hello."),
        (b'{"text": "\\ud83d\\ude00"}', "\N{GRINNING FACE}"),
        (b'{"text": "' + b"a" * 1000 + b'"}', "a" * 1000),
    ],
)
def test_a_good_row_gives_its_text(data: bytes, text: str) -> None:
    assert parse(data) == Document(text, "none")


@given(st.binary())
def test_any_bytes_are_a_document_or_a_bad_row(data: bytes) -> None:
    found = parse(data)
    assert isinstance(found, Document) or (found.reason in BAD_ROW_REASONS and len(found.excerpt) <= 200)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), st.booleans())
def test_a_text_comes_back_as_it_was_written(text: str, ascii_only: bool) -> None:
    found = parse(json.dumps({"text": text}, ensure_ascii=ascii_only).encode())
    if isinstance(found, Document):
        assert found.text == text
    else:
        assert found.reason == "empty_text"
        assert not text.replace("\\r", "").replace("\\n", "").strip()


@pytest.mark.parametrize(
    ("text", "form", "normal"),
    [
        (r"One.\nTwo.\r\nThree.", "literal", "One.\nTwo.\nThree."),
        ("One.\nTwo.\r\nThree.\rFour.", "real", "One.\nTwo.\nThree.\nFour."),
        ("Look in C:\\new first.\nThen stop.", "real", "Look in C:\\new first.\nThen stop."),
        (r"Written C:\\new it stays.", "none", r"Written C:\\new it stays."),
        (r"One.\n\nTwo.", "literal", "One.\n\nTwo."),
        ("One. Two.", "none", "One. Two."),
    ],
)
def test_both_forms_of_line_break(text: str, form: str, normal: str) -> None:
    assert line_break_form(text) == form
    assert normalise_line_breaks(text, form) == normal


PIECES = st.sampled_from(
    ["\\n", "\\r\\n", "\\", "n", "r", ". ", "\n", "\r\n", "\r", "Ab", " ", "\u2028", "。", "\\\\n"]
)


@given(st.lists(PIECES, max_size=30), st.sampled_from(["en", "ja"]))
def test_offsets_are_those_of_the_stored_text(pieces: list[str], language: str) -> None:
    text = "".join(pieces)
    form = line_break_form(text)
    padded = pad_line_breaks(text, form)
    assert len(padded) == len(text)
    sentences = split_sentences(padded, language)
    for start, end in sentences:
        # No break is left in a sentence, so that as stored and normalised it is the same.
        assert normalise_line_breaks(text[start:end], form) == text[start:end] == padded[start:end]
    for (start, _), (_, end) in itertools.pairwise(sentences):
        whole = normalise_line_breaks(text[start:end], form)
        assert whole.split() == padded[start:end].split()
        assert whole.count("\n") == padded[start:end].count("\n") + padded[start:end].count("\u2028")


def lines_of(path: Path, most: int = LIMIT) -> list[RawLine]:
    return list(read_lines([Source(path.name, path)], most))


def test_lines_have_numbers_and_blank_ones_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\n\n \r\ntwo\nthree")
    assert [(line.number, line.data) for line in lines_of(path)] == [(1, b"one\n"), (4, b"two\n"), (5, b"three")]


@pytest.mark.parametrize("end", [b"", b"\n", b"\nlast"])
def test_a_monstrous_line_is_passed_over(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\n" + b"x" * 35 + end)
    found = lines_of(path, 10)
    assert [line.whole for line in found] == [True, False, True][: 2 + end.count(b"last")]
    assert parse_line(found[1], "text", 1000) == BadRow("line_too_long", "x" * 10)
    if end == b"\nlast":
        assert found[2] == RawLine("a.jsonl", 3, b"last", True)


@pytest.mark.parametrize(
    ("cut", "message"), [(lambda data: data[:-20], "too early"), (lambda data: data[:-8] + b"12345678", "broken")]
)
def test_a_broken_gzip_is_an_error_with_its_line(tmp_path: Path, cut: object, message: str) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(cut(gzip.compress(b"".join(b'{"text": "%d"}\n' % n for n in range(1000)))))
    with pytest.raises(InputError, match=rf"a\.jsonl\.gz: line \d+: .*{message}"):
        lines_of(path)


def test_a_file_without_lines_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n\n"))
    with pytest.raises(InputError, match=r"a\.jsonl\.gz: the file holds no lines"):
        lines_of(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.jsonl.gz", b'{"text": "a"}\n', "is no gzip file"),
        ("a.parquet", b"PAR1", r"only \.jsonl and \.jsonl\.gz are read"),
        ("a.jsonl", None, "no such file"),
    ],
)
def test_files_are_checked_before_they_are_read(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        check_sources([Source(name, path)])


def test_globs_give_each_file_once_in_order(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "d.jsonl").mkdir()
    found = expand_globs([f"{tmp_path}/*.jsonl", f"{tmp_path}/./a*"])
    assert found == [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    with pytest.raises(InputError, match=r"no file matches '.*/e\*'"):
        expand_globs([f"{tmp_path}/*.jsonl", f"{tmp_path}/e*"])


def test_names_tell_files_apart(tmp_path: Path) -> None:
    assert [source.name for source in name_sources([tmp_path / "en/0.jsonl", tmp_path / "en/1.jsonl"])] == [
        "0.jsonl",
        "1.jsonl",
    ]
    assert [source.name for source in name_sources([tmp_path / "de/0.jsonl", tmp_path / "en/0.jsonl"])] == [
        "de/0.jsonl",
        "en/0.jsonl",
    ]


def test_receipts(tmp_path: Path) -> None:
    receipt = tmp_path / "fetch.json"
    files = [{"path": "data/en/1.jsonl", "local": "/b"}, {"path": "data/en/0.jsonl", "local": "/a"}]
    receipt.write_text(json.dumps({"files": files}))
    assert read_receipt(receipt) == [Source("data/en/0.jsonl", Path("/a")), Source("data/en/1.jsonl", Path("/b"))]
    for broken in ('{"files": [{"path": "a"}]}', "{}", "[]", '{"files": []}', "{"):
        receipt.write_text(broken)
        with pytest.raises(InputError, match=r"fetch\.json"):
            read_receipt(receipt)
    with pytest.raises(InputError, match="no such receipt"):
        read_receipt(tmp_path / "none.json")


def test_only_the_standard_library_is_imported() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import corpusmith.documents;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    )
    found = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True)
    assert set(found.stdout.split()) <= {"__main__", "corpusmith"}
