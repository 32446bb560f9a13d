"""The store of model answers: nothing committed is lost, nothing torn is read, everybody sees the same winner."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import corpusmith.store.compaction as compaction
import corpusmith.store.sealing as sealing
import corpusmith.store.writer as writer_module
import store_worker
from corpusmith.errors import InputError
from corpusmith.identity import completion_key, score_key
from corpusmith.store import COMPLETION, SCORE, Store, completion_entry, score_entry
from corpusmith.store.folder import ModelFolder, model_folder
from corpusmith.store.journal import Damage, Frame, Journal, JournalFile
from corpusmith.store.kinds import Kind
from corpusmith.store.liveness import about_this_process
from corpusmith.store.reader import find_winners, unique_keys
from corpusmith.store.rescue import set_aside
from corpusmith.store.segments import BrokenSegment, Segment, first_of_each_key, new_segment
from store_worker import KEYS, MODEL, answer, die_at_every_step, lines

WORKER = Path(__file__).with_name("store_worker.py")
# What a process said of itself whose id another one has now.
DEAD = about_this_process() | {"started": "before"}
TEXTS = st.sampled_from(["", "a", "b", "ü", "하", "\U0001f600"])


def write(store: Store, answers: dict[bytes, str], model: str = MODEL) -> None:
    """Writes answers as one process does, from its first to its last."""
    with store.writer(COMPLETION, model) as writer:
        for key, text in answers.items():
            writer.add(key, answer(text))


def texts(store: Store, keys: Iterable[bytes] = KEYS, model: str = MODEL) -> dict[bytes, str]:
    return {key: found["text"] for key, found in store.lookup(COMPLETION, model, keys).items()}


def files(store: Store, suffix: str = "") -> list[Path]:
    return sorted(
        path
        for path in store.folder.rglob("*")
        if path.is_file() and path.name.endswith(suffix) and path.name != "model.json"
    )


def folder_of(store: Store) -> ModelFolder:
    folder = model_folder(store.folder, COMPLETION, MODEL)
    folder.make()
    return folder


def write_journal(
    store: Store, batches: list[tuple[int, dict[bytes, str]]], about: dict[str, Any] | None = None
) -> Path:
    """A journal whose writer has ended without sealing it. batches: when each was committed, and its answers."""
    folder = folder_of(store)
    journal = Journal(folder.new_journal(), about_this_process() if about is None else about)
    for committed, batch in batches:
        journal.append(committed, b"".join(batch), answers_of(batch.values()))
    journal.close()
    return journal.path


def answers_of(values: Iterable[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([answer(text) for text in values], COMPLETION.answers.schema)


def write_segment(store: Store, entries: list[tuple[bytes, int, str]]) -> Path:
    """A segment with entries: key, when it was committed, text."""
    rows = [{"key": key, "committed": committed, **answer(text)} for key, committed, text in sorted(entries)]
    with new_segment(folder_of(store)) as segment:
        segment.write(pa.Table.from_pylist(rows, COMPLETION.entries.schema))
        return segment.commit()


# --- what is found ---


def test_what_is_written_is_found_by_its_key_and_nothing_else_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    written = {key: f"text {number}" for number, key in enumerate(KEYS[:200])}
    write(store, written)
    assert texts(store) == written
    assert store.lookup(COMPLETION, MODEL, KEYS[:1]) == {KEYS[0]: answer("text 0")}
    assert len(store.missing(COMPLETION, MODEL, KEYS)) == len(KEYS) - 200
    assert texts(store, model="hub:example/model@2") == {}


def test_a_store_that_is_not_there_has_no_answers(tmp_path: Path) -> None:
    store = Store(tmp_path / "none")
    assert store.lookup(COMPLETION, MODEL, KEYS) == {}
    assert len(store.missing(COMPLETION, MODEL, KEYS)) == len(KEYS)
    assert store.report() == []
    assert store.compact() == []
    assert not (tmp_path / "none").exists()


def test_scores_are_kept_to_the_last_bit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keys = [score_entry(score_key("metric", "source", f"hypothesis {number}", None)) for number in range(5)]
    values = [0.1, -0.0, 1e-300, 24.999999, float(2**53)]
    with store.writer(SCORE, "metric") as writer:
        for key, value in zip(keys, values, strict=True):
            writer.add(key, {"score": value, "truncated": value > 1})
    found = store.lookup(SCORE, "metric", keys)
    assert [found[key]["score"].hex() for key in keys] == [value.hex() for value in values]
    assert [found[key]["truncated"] for key in keys] == [False, False, False, True, True]


def test_more_samples_of_a_prompt_pay_for_the_difference(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = completion_key(MODEL, "vllm", "template", "prompt", {"temperature": 1.0}, None)
    write(store, {completion_entry(key, sample): f"sample {sample}" for sample in range(32)})
    assert len(store.missing(COMPLETION, MODEL, (completion_entry(key, sample) for sample in range(128)))) == 96


def test_a_key_that_is_wanted_twice_is_missing_once(tmp_path: Path) -> None:
    assert len(Store(tmp_path).missing(COMPLETION, MODEL, [KEYS[0], KEYS[1], KEYS[0]])) == 2


def test_answers_come_in_the_order_of_the_keys_however_many_are_looked_up_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, {key: key.hex() for key in KEYS[::2]})
    wanted = [*reversed(KEYS), *KEYS[:10]]
    expected = [answer(key.hex()) if KEYS.index(key) % 2 == 0 else None for key in wanted]
    for at_once in (1, 7, 10_000):
        assert list(store.in_order(COMPLETION, MODEL, iter(wanted), at_once)) == expected


def test_answers_are_found_in_journals_and_segments_of_the_living_and_the_dead(tmp_path: Path) -> None:
    store = Store(tmp_path, commit_seconds=60)
    write(store, {KEYS[0]: "sealed"})
    write_journal(store, [(5, {KEYS[1]: "left by a dead writer"})], DEAD)
    with store.writer(COMPLETION, MODEL) as living:
        living.add(KEYS[2], answer("of a living writer"))
        living.add(KEYS[3], answer("of a living writer"))
        assert texts(store) == {KEYS[0]: "sealed", KEYS[1]: "left by a dead writer"}
        living.commit()
        assert len(texts(store)) == 4
        assert len(store.missing(COMPLETION, MODEL, KEYS[:5])) == 1
        assert living.committed == 2
    assert len(texts(store)) == 4
    (report,) = store.report()
    assert (report.kind, report.model, report.answers, report.segments, report.journals) == (
        "completions",
        MODEL,
        4,
        2,
        1,
    )
    assert report.bytes == sum(path.stat().st_size for path in files(store))


def test_committing_needs_no_call(tmp_path: Path) -> None:
    store = Store(tmp_path, commit_seconds=0.05)
    with store.writer(COMPLETION, MODEL) as writer:
        writer.add(KEYS[0], answer("text"))
        end = time.monotonic() + 60
        while not texts(store) and time.monotonic() < end:
            time.sleep(0.02)
        assert texts(store) == {KEYS[0]: "text"}


def test_a_writer_of_nothing_leaves_no_journal(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, {})
    assert files(store) == []


def test_a_journal_is_sealed_when_it_is_large(tmp_path: Path) -> None:
    store = Store(tmp_path, seal_bytes=10_000)
    with store.writer(COMPLETION, MODEL) as writer:
        for number, key in enumerate(KEYS[:100]):
            writer.add(key, answer(f"{number} " + "long " * 200))
            writer.commit()
        # 100 answers of 1,000 bytes and what frames them: a segment for every 10,000 bytes.
        assert 10 <= len(files(store, ".parquet")) <= 20
        assert len(texts(store)) == 100
    assert files(store, ".journal") == []
    assert len(texts(store)) == 100


def test_a_segment_is_a_sorted_parquet_file_that_others_can_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    written = {key: key.hex() * 20 for key in KEYS}
    write(store, written)
    (path,) = files(store)
    table = pq.read_table(path)
    assert table.column_names == ["key", "committed", "text", "finish_reason", "prompt_tokens", "completion_tokens"]
    keys = table.column("key").to_pylist()
    assert keys == sorted(written)
    assert dict(zip(keys, table.column("text").to_pylist(), strict=True)) == written
    assert pq.read_metadata(path).num_row_groups > 1
    assert path.name.startswith(f"{min(KEYS)[:2].hex()}-{max(KEYS)[:2].hex()}-")


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        (b"short", {}),
        (KEYS[0], {"text": None}),
        (KEYS[0], {"text": "half \ud800"}),
        (KEYS[0], {"prompt_tokens": True}),
        (KEYS[0], {"prompt_tokens": 2**31}),
        (KEYS[0], {"completion_tokens": 1.0}),
        (KEYS[0], {"error": "timed out"}),
    ],
)
def test_what_is_no_answer_is_refused_and_disturbs_no_other(
    tmp_path: Path, key: bytes, changed: dict[str, Any]
) -> None:
    store = Store(tmp_path)
    with store.writer(COMPLETION, MODEL) as writer:
        writer.add(KEYS[1], answer("good"))
        with pytest.raises(ValueError, match=r" is no | has "):
            writer.add(key, answer("bad") | changed)
    assert texts(store) == {KEYS[1]: "good"}


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None, 1])
def test_what_is_no_number_is_no_score(tmp_path: Path, score: Any) -> None:
    with Store(tmp_path).writer(SCORE, "metric") as writer, pytest.raises(ValueError, match="score"):
        writer.add(bytes(16), {"score": score, "truncated": False})


# --- which answer wins ---


def test_of_two_answers_to_one_key_the_first_committed_stays(tmp_path: Path) -> None:
    store = Store(tmp_path, commit_seconds=60)
    with store.writer(COMPLETION, MODEL) as first, store.writer(COMPLETION, MODEL) as second:
        second.add(KEYS[0], answer("committed first"))
        second.add(KEYS[0], answer("again in one batch"))
        second.commit()
        first.add(KEYS[0], answer("committed second"))
        second.add(KEYS[0], answer("committed third"))
        first.commit()
        second.commit()
        assert texts(store) == {KEYS[0]: "committed first"}
    assert texts(store) == {KEYS[0]: "committed first"}
    store.compact()
    assert len(files(store)) == 1
    assert texts(store) == {KEYS[0]: "committed first"}


FILES_OF_ENTRIES = st.lists(
    st.tuples(
        st.booleans(),
        st.lists(
            st.tuples(
                st.sampled_from(KEYS[:6]), st.integers(1, 4), st.sampled_from(["", "a", "b", "ü", "하", "\U0001f600"])
            ),
            max_size=6,
            unique_by=lambda entry: entry[0],
        ),
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=40)
@given(contents=FILES_OF_ENTRIES, chooser=st.randoms(use_true_random=False))
def test_the_same_answer_wins_however_it_is_sealed_and_merged(
    contents: list[tuple[bool, list[tuple[bytes, int, str]]]], chooser: random.Random
) -> None:
    lowest: dict[bytes, tuple[int, str]] = {}
    for _, entries in contents:
        for key, committed, text in entries:
            lowest[key] = min(lowest.get(key, (99, "")), (committed, text))
    with tempfile.TemporaryDirectory() as name:
        store = Store(name)
        folder = folder_of(store)
        for is_segment, entries in contents:
            if is_segment and entries:
                write_segment(store, entries)
            else:
                write_journal(store, [(committed, {key: text}) for key, committed, text in entries], DEAD)

        def found() -> dict[bytes, tuple[int, str]]:
            wanted = unique_keys(COMPLETION, KEYS[:6])
            return {KEYS[:6][place]: (e.committed, e.values[0]) for place, e in find_winners(folder, wanted).items()}

        assert found() == lowest
        # Some of the files merged, and what was merged there still: as a crash leaves it, or another compaction.
        merged = [path for path in files(store, ".parquet") if chooser.random() < 0.6]
        if merged:
            copies = [path.read_bytes() for path in merged]
            outputs = compaction._merge(folder, merged, 1 << 20)
            assert outputs is not None
            assert found() == lowest
            compaction.remove_replaced(merged, outputs)
            assert found() == lowest
            for path, copy in zip(merged, copies, strict=True):
                if chooser.random() < 0.5:
                    path.write_bytes(copy)
            assert found() == lowest
        store.compact()
        assert found() == lowest
        assert len(files(store)) == min(1, len(lowest))
        store.compact()
        assert found() == lowest


def test_equal_contents_are_equal_files_whoever_compacts(tmp_path: Path) -> None:
    for name in ("a", "b"):
        store = Store(tmp_path / name)
        for number in range(3):
            write_journal(store, [(number, {key: f"{number} {key.hex()}" for key in KEYS[number::2]})], DEAD)
        if name == "b":
            for path in files(store):
                path.rename(path.with_name(str(hash(path.name)) + path.name))
        store.compact()
    (first,), (second,) = files(Store(tmp_path / "a")), files(Store(tmp_path / "b"))
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


# --- journals ---


class JournalSample(NamedTuple):
    """A journal's bytes, where each frame ends, the first being about the writer, and the batches."""

    content: bytes
    ends: list[int]
    batches: list[dict[bytes, str]]

    def __repr__(self) -> str:
        return "a sample"


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> JournalSample:
    path = tmp_path_factory.mktemp("journal") / "a.journal"
    writing = Journal(path, about_this_process())
    ends = [path.stat().st_size]
    batches = [
        {key: f"{number} {key.hex()} 하나" for key in KEYS[5 * number : 5 * number + 1 + number % 4]}
        for number in range(6)
    ]
    for number, batch in enumerate(batches):
        writing.append(1000 + number, b"".join(batch), answers_of(batch.values()))
        ends.append(path.stat().st_size)
    writing.close()
    return JournalSample(path.read_bytes(), ends, batches)


def parse(content: bytes) -> tuple[list[dict[bytes, str]], list[Damage], dict[str, Any]]:
    """Batches, damages and what the writer said of itself, as a reader finds them in a journal."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        batches, damages = [], []
        with JournalFile(Path(file.name), COMPLETION) as journal:
            for frame in journal.frames():
                answers = journal.answers(frame) if isinstance(frame, Frame) else frame
                if isinstance(answers, Damage):
                    damages.append(answers)
                    continue
                assert isinstance(frame, Frame)
                keys = [frame.keys[start : start + 20] for start in range(0, len(frame.keys), 20)]
                batches.append(dict(zip(keys, answers.column("text").to_pylist(), strict=True)))
            return batches, damages, journal.about()


def test_a_journal_gives_back_its_batches(journal: JournalSample) -> None:
    content, _, batches = journal
    assert parse(content) == (batches, [], about_this_process())


@settings(max_examples=150)
@given(data=st.data())
def test_a_journal_that_is_cut_off_is_whole_up_to_there(journal: JournalSample, data: st.DataObject) -> None:
    content, ends, batches = journal
    length = data.draw(st.integers(0, len(content)))
    found, damages, _ = parse(content[:length])
    assert found == [batch for batch, end in zip(batches, ends[1:], strict=True) if end <= length]
    # What a kill leaves is no damage to report.
    assert all(damage.at_end for damage in damages)
    assert bool(damages) == (length not in (0, *ends))


@settings(max_examples=250)
@given(data=st.data())
def test_a_changed_byte_costs_one_batch_and_is_reported(journal: JournalSample, data: st.DataObject) -> None:
    content, ends, batches = journal
    place = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[place] ^= data.draw(st.integers(1, 255))
    found, damages, about = parse(bytes(changed))
    hit = sum(end <= place for end in ends)
    assert found == [batch for number, batch in enumerate(batches, 1) if number != hit]
    assert about == ({} if hit == 0 else about_this_process())
    # Nothing is lost with what a writer said of itself.
    assert len(damages) == 1 or hit == 0
    for damage in damages:
        assert damage.offset <= place < damage.offset + damage.length
        assert damage.at_end == (hit == len(batches))


@settings(max_examples=200)
@given(data=st.data(), garbage=st.binary(max_size=3000))
def test_garbage_in_a_journal_is_never_an_answer(journal: JournalSample, data: st.DataObject, garbage: bytes) -> None:
    content, ends, batches = journal
    start = data.draw(st.integers(0, len(content)))
    # Over what was there, or between.
    end = data.draw(st.integers(start, min(len(content), start + len(garbage))))
    found, _, _ = parse(content[:start] + garbage + content[end:])
    frames = list(zip(ends, ends[1:], batches, strict=False))
    untouched = [batch for begin, finish, batch in frames if finish <= start or begin >= end]
    assert [batch for batch in found if batch in untouched] == untouched
    assert all(batch in batches for batch in found)


def test_a_frame_of_another_journal_in_a_text_is_no_frame(tmp_path: Path, journal: JournalSample) -> None:
    path = tmp_path / "b.journal"
    writing = Journal(path, {})
    writing.append(1, KEYS[0], answers_of(["first"]))
    # A header that is cut off makes the reader look for the next one.
    os.truncate(path, path.stat().st_size - 30)
    path.write_bytes(path.read_bytes() + journal[0])
    writing.close()
    assert parse(path.read_bytes())[0] == []


def test_damage_in_the_middle_is_logged_and_the_journal_kept_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    path = write_journal(store, [(1, {KEYS[0]: "first"}), (2, {KEYS[1]: "second"}), (3, {KEYS[2]: "third"})], DEAD)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"second", b"sECond"))
    assert texts(store) == {KEYS[0]: "first", KEYS[2]: "third"}
    assert len(store.missing(COMPLETION, MODEL, KEYS[:3])) == 1
    assert path.name in caplog.text
    store.compact()
    assert files(store, ".damaged") == [path.with_suffix(".sealing.damaged")]
    assert texts(store) == {KEYS[0]: "first", KEYS[2]: "third"}
    assert store.report()[0].set_aside == 1


def test_a_torn_tail_is_ignored_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    path = write_journal(store, [(1, {KEYS[0]: "first"}), (2, {KEYS[1]: "second"})], DEAD)
    os.truncate(path, path.stat().st_size - 1)
    with caplog.at_level(logging.WARNING):
        assert texts(store) == {KEYS[0]: "first"}
        store.compact()
        assert texts(store) == {KEYS[0]: "first"}
    assert caplog.text == ""
    assert len(files(store)) == 1


# --- the living and the dead ---


def test_journals_of_the_living_are_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path, dead_seconds=0)
    with store.writer(COMPLETION, MODEL) as writer:
        writer.add(KEYS[0], answer("text"))
        writer.commit()
        (path,) = files(store)
        os.utime(path, (1, 1))
        store.compact()
        assert files(store) == [path]


@pytest.mark.parametrize(("age", "sealed"), [(10, False), (4000, True)])
@pytest.mark.parametrize("about", [{}, {"machine": "another", "pid": 1, "started": "1"}])
def test_a_journal_of_another_machine_is_sealed_when_it_is_old(
    tmp_path: Path, about: dict[str, Any], age: int, sealed: bool
) -> None:
    store = Store(tmp_path)
    path = write_journal(store, [(1, {KEYS[0]: "text"})], about)
    then = time.time() - age
    os.utime(path, (then, then))
    store.compact()
    assert path.exists() != sealed
    assert texts(store) == {KEYS[0]: "text"}


def test_a_writer_that_was_taken_for_dead_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path, commit_seconds=60)
    monkeypatch.setattr(compaction, "is_dead", lambda *_: True)
    with store.writer(COMPLETION, MODEL) as writer:
        for number, key in enumerate(KEYS[:5]):
            writer.add(key, answer(str(number)))
            writer.commit()
            store.compact()
            assert files(store, ".journal") == []
            assert len(texts(store)) == number + 1
    assert texts(store) == {key: str(number) for number, key in enumerate(KEYS[:5])}


def test_a_journal_that_is_taken_while_a_batch_is_written_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, commit_seconds=60)
    monkeypatch.setattr(compaction, "is_dead", lambda *_: True)
    in_place, append = Journal.in_place, Journal.append
    moments = {"before": 0, "behind": 0}

    def steal_before(journal: Journal, *arguments: Any) -> None:
        # Sealed with all that was in it: the batch goes into a file that nobody reads any more.
        if moments["before"] == 0:
            moments["before"] += 1
            store.compact()
        append(journal, *arguments)

    def steal_behind(journal: Journal) -> bool:
        result = in_place(journal)
        if moments["behind"] == 0 and result:
            moments["behind"] += 1
            store.compact()
        return result

    monkeypatch.setattr(Journal, "append", steal_before)
    monkeypatch.setattr(Journal, "in_place", steal_behind)
    with store.writer(COMPLETION, MODEL) as writer:
        writer.add(KEYS[0], answer("text"))
        writer.commit()
        assert moments == {"before": 1, "behind": 1}
        assert texts(store) == {KEYS[0]: "text"}


def test_a_batch_that_comes_while_its_journal_is_sealed_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, commit_seconds=60)
    monkeypatch.setattr(compaction, "is_dead", lambda *_: True)
    with store.writer(COMPLETION, MODEL) as writer:
        writer.add(KEYS[0], answer("before"))
        writer.commit()

        def commit_then_sort(table: pa.Table) -> pa.Table:
            # The journal has been read by now, and has not been removed yet.
            writer.add(KEYS[1], answer("meanwhile"))
            writer.commit()
            return first_of_each_key(table)

        monkeypatch.setattr(sealing, "first_of_each_key", commit_then_sort)
        store.compact()
        monkeypatch.undo()
        assert texts(store) == {KEYS[0]: "before", KEYS[1]: "meanwhile"}


def test_a_writer_that_has_slept_begins_a_new_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path, commit_seconds=60)
    with store.writer(COMPLETION, MODEL) as writer:
        writer.add(KEYS[0], answer("before"))
        writer.commit()
        (before,) = files(store)
        now = time.time()
        monkeypatch.setattr(writer_module.time, "time", lambda: now + 1000)
        writer.add(KEYS[1], answer("behind"))
        writer.commit()
        assert len(files(store)) == 2
        with JournalFile(before, COMPLETION) as journal:
            assert len(list(journal.frames())) == 1
    assert texts(store) == {KEYS[0]: "before", KEYS[1]: "behind"}
    assert files(store, ".journal") == []


def test_files_of_broken_off_writing_are_removed_when_they_are_old(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, {KEYS[0]: "text"})
    folder = folder_of(store).path
    for name, age in ((".old.partial", 4000), (".new.partial", 10)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age, time.time() - age))
    store.compact()
    assert not (folder / ".old.partial").exists()
    assert (folder / ".new.partial").exists()


# --- compaction ---


def test_many_small_segments_become_few(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(70):
        write(store, {key: key.hex() for key in KEYS[7 * number : 7 * number + 7]})
    before = texts(store)
    (report,) = store.compact()
    assert (report.merged, report.written) == (64 + 7, 2)
    assert len(files(store)) == 1
    assert texts(store) == before == {key: key.hex() for key in KEYS[:490]}


def test_a_large_segment_is_left_as_it_is(tmp_path: Path) -> None:
    store = Store(tmp_path, segment_bytes=20_000)
    chooser = random.Random(0)
    write(store, {key: f"{chooser.randbytes(30).hex()}" for key in KEYS})
    (large,) = files(store)
    assert large.stat().st_size > 10_000
    for number in range(3):
        write(store, {KEYS[number]: "again"})
    store.compact()
    assert large in files(store)
    assert len(files(store)) == 2


def test_segments_are_cut_where_they_are_large_and_hold_what_they_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_SLICE_BYTES", 50_000)
    store = Store(tmp_path)
    chooser = random.Random(0)
    keys = [chooser.randbytes(20) for _ in range(3_000)]
    expected: dict[bytes, str] = {}
    for number in range(4):
        batch = {key: f"{number} {chooser.randbytes(100).hex()}" for key in chooser.sample(keys, 1_500)}
        write(store, batch)
        expected = batch | expected
    outputs = compaction._merge(folder_of(store), files(store), 100_000)
    assert outputs is not None
    assert len(outputs) >= 3
    assert texts(store, keys) == expected
    tables = [pq.read_table(path) for path in outputs]
    assert [key for table in tables for key in table.column("key").to_pylist()] == sorted(expected)
    # Each tells by its name which keys it may hold.
    for path, table in zip(outputs, tables, strict=True):
        first, last = table.column("key")[0].as_py(), table.column("key")[-1].as_py()
        assert path.name.startswith(f"{first[:2].hex()}-{last[:2].hex()}-")
    for path in files(store):
        if path not in outputs:
            path.unlink()
    assert texts(store, keys) == expected


@settings(max_examples=100)
@given(
    present=st.sets(st.binary(min_size=20, max_size=20) | st.sampled_from(KEYS), min_size=1, max_size=40),
    wanted=st.sets(st.binary(min_size=20, max_size=20) | st.sampled_from(KEYS), max_size=40),
    shared=st.randoms(use_true_random=False),
)
def test_a_segment_finds_what_it_holds_and_nothing_else(
    present: set[bytes], wanted: set[bytes], shared: random.Random
) -> None:
    wanted = wanted | set(shared.sample(sorted(present), len(present) // 2))
    with tempfile.TemporaryDirectory() as name:
        store = Store(name)
        write_segment(store, [(key, 1, key.hex()) for key in present])
        assert texts(store, wanted) == {key: key.hex() for key in wanted & present}
        assert len(store.missing(COMPLETION, MODEL, wanted)) == len(wanted - present)


def test_a_look_up_in_many_row_groups_reads_the_right_rows(tmp_path: Path) -> None:
    store = Store(tmp_path)
    chooser = random.Random(3)
    keys = sorted({chooser.randbytes(20) for _ in range(30_000)})
    write(store, {key: key.hex() * 10 for key in keys})
    (path,) = files(store)
    with Segment(path, COMPLETION) as segment:
        assert len(segment.first_keys) > 100
        pieces = list(segment.key_pieces())
        assert [key.ljust(20, b"\0") for piece in pieces for key in piece.tolist()] == keys
        low, high = keys[10_000], keys[20_000]
        assert segment.between(low, high).column("key").to_pylist() == keys[10_000:20_000]
    for wanted in (keys[:1], keys[-1:], keys[5_000:5_400], chooser.sample(keys, 2_000), keys):
        assert texts(store, wanted) == {key: key.hex() * 10 for key in wanted}


def test_a_reader_whose_listed_files_are_gone_reads_what_took_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    for number in range(3):
        write(store, {KEYS[number]: str(number)})
    listed = ModelFolder.files
    listings = []

    def list_then_compact(folder: ModelFolder) -> list[str]:
        names = listed(folder)
        listings.append(names)
        if len(listings) == 1:
            monkeypatch.setattr(ModelFolder, "files", listed)
            store.compact()
        return names

    monkeypatch.setattr(ModelFolder, "files", list_then_compact)
    assert texts(store) == {KEYS[number]: str(number) for number in range(3)}
    assert len(listings[0]) == 3
    assert len(files(store)) == 1


@pytest.mark.parametrize("torn", [{1}, {2}, {1, 2}])
def test_a_listing_is_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: set[int]) -> None:
    store = Store(tmp_path)
    for number in range(3):
        write(store, {KEYS[number]: str(number)})
    listdir = os.listdir
    calls = 0

    def list_and_compact(path: Any) -> list[str]:
        nonlocal calls
        calls += 1
        if calls not in torn:
            return listdir(path)
        # What readdir may do: it passes the new file's place before that is there, the old ones' when they are gone.
        if calls == min(torn):
            monkeypatch.setattr(os, "listdir", listdir)
            store.compact()
            monkeypatch.setattr(os, "listdir", list_and_compact)
        return [name for name in listdir(path) if name in before]

    folder = folder_of(store)
    before = folder.files()
    monkeypatch.setattr(os, "listdir", list_and_compact)
    assert len(folder.files()) == 1
    assert calls > 2


# --- pruning ---


def keep(completions: Iterable[bytes] = (), scores: Iterable[bytes] | None = ()) -> Callable[[], dict[str, np.ndarray]]:
    """What gives keys that stay, by kind; None is a kind that is not named."""
    kept = {"completions": unique_keys(COMPLETION, completions)}
    return lambda: kept if scores is None else kept | {"scores": unique_keys(SCORE, scores)}


def test_pruning_keeps_what_is_named_of_whatever_model_and_removes_the_rest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, {key: key.hex() for key in KEYS[:100]})
    write(store, {key: key.hex() for key in KEYS[50:150]})
    write(store, {key: "other" for key in KEYS[:7]}, model="other")
    write(store, {key: "third" for key in KEYS[85:95]}, model="third")
    with store.writer(SCORE, MODEL) as writer:
        writer.add(bytes(16), {"score": 1.0, "truncated": False})
    kept = keep(KEYS[90:110], scores=None)
    before = {path: path.read_bytes() for path in files(store)}
    foreseen = store.prune(kept)
    assert {path: path.read_bytes() for path in files(store)} == before
    assert {(gone.kind, gone.model): (gone.answers, gone.whole) for gone in foreseen} == {
        ("completions", MODEL): (90 + 90 - 10, False),
        ("completions", "other"): (7, True),
        ("completions", "third"): (5, False),
    }
    assert store.prune(kept, dry=False) == foreseen
    assert texts(store, KEYS) == {key: key.hex() for key in KEYS[90:110]}
    assert texts(store, KEYS, "third") == {key: "third" for key in KEYS[90:95]}
    # A kind that is not named stays as it is.
    assert len(store.lookup(SCORE, MODEL, [bytes(16)])) == 1
    left = [("completions", MODEL), ("completions", "third"), ("scores", MODEL)]
    assert [(found.kind, found.model) for found in store.report()] == left
    assert store.prune(kept, dry=False) == []
    assert [(gone.kind, gone.answers, gone.whole) for gone in store.prune(keep(KEYS), dry=False)] == [
        ("scores", 1, True)
    ]
    assert list((tmp_path / "scores").iterdir()) == []


def test_keys_that_are_not_sorted_prune_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, {key: "text" for key in KEYS})
    keys = unique_keys(COMPLETION, KEYS)
    for wrong in (keys[::-1], np.concatenate([keys, keys]), np.concatenate([keys[:1], keys[:1]]), keys.astype("S21")):
        with pytest.raises(ValueError, match="not sorted"):
            store.prune(lambda wrong=wrong: {"completions": wrong}, dry=False)
    assert len(texts(store)) == len(KEYS)


def test_pruning_seals_the_dead_and_leaves_the_living(tmp_path: Path) -> None:
    store = Store(tmp_path, commit_seconds=60)
    write_journal(store, [(1, {KEYS[0]: "kept", KEYS[1]: "gone"})], DEAD)
    with store.writer(COMPLETION, MODEL) as living:
        living.add(KEYS[2], answer("of a living writer"))
        living.commit()
        assert [gone.answers for gone in store.prune(keep([KEYS[0]]))] == [1]
        (gone,) = store.prune(keep([KEYS[0]]), dry=False)
        assert (gone.answers, gone.living) == (1, 1)
        assert texts(store) == {KEYS[0]: "kept", KEYS[2]: "of a living writer"}
        (gone,) = store.prune(keep(), dry=False)
        assert (gone.answers, gone.whole, gone.living) == (1, False, 1)
        assert texts(store) == {KEYS[2]: "of a living writer"}
    assert store.prune(keep(), dry=False)[0].whole
    assert list((tmp_path / "completions").iterdir()) == []


@pytest.mark.parametrize("sealed", [True, False])
def test_what_is_written_while_it_is_looked_up_what_is_used_stays(tmp_path: Path, sealed: bool) -> None:
    store = Store(tmp_path)
    write(store, {key: "old" for key in KEYS[:20]})

    def look_up() -> dict[str, np.ndarray]:
        # A build that began after its tables were looked at: all of it in segments, or a journal of the dead beside it.
        write(store, {key: "new" for key in KEYS[30:40]})
        if not sealed:
            write_journal(store, [(1, {key: "new" for key in KEYS[40:50]})], DEAD)
        return keep()()

    (gone,) = store.prune(look_up, dry=False)
    assert (gone.answers, gone.whole) == (20, False)
    assert texts(store) == {key: "new" for key in KEYS[30 : 40 if sealed else 50]}


def test_a_segment_that_is_broken_may_hold_what_is_used(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, {key: "long " * 100 for key in KEYS})
    (path,) = files(store)
    good = path.read_bytes()
    content = bytearray(good)
    # In the middle of the keys, as they are for look-ups: what Parquet reads is whole, and written anew.
    content[content.rindex(KEYS[200][:16])] ^= 1
    path.write_bytes(content)
    assert store.prune(keep(), dry=False) == []
    assert path.read_bytes() == good
    assert len(texts(store)) == len(KEYS)


# --- broken files ---


class SegmentSample(NamedTuple):
    """A segment of several row groups: its name, its bytes, its answers."""

    name: str
    content: bytes
    answers: dict[bytes, str]

    def __repr__(self) -> str:
        return "a segment"


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> SegmentSample:
    store = Store(tmp_path_factory.mktemp("segment"))
    expected = {key: f"{key.hex()} " + "long " * (100 + number % 50) for number, key in enumerate(KEYS)}
    write(store, expected)
    (path,) = files(store)
    assert pq.read_metadata(path).num_row_groups > 3
    return SegmentSample(path.name, path.read_bytes(), expected)


def store_with(folder: str, name: str, content: bytes) -> Store:
    store = Store(folder)
    write(store, {b"\xff" * 20: "in another segment"})
    (folder_of(store).path / name).write_bytes(content)
    return store


@settings(max_examples=80)
@given(data=st.data())
def test_a_changed_byte_in_a_segment_is_never_a_wrong_answer_and_costs_one_row_group(
    segment: SegmentSample, data: st.DataObject
) -> None:
    name, content, expected = segment
    footer = int.from_bytes(content[-8:-4], "little") + 8
    place = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[place] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        store = store_with(folder, name, bytes(changed))
        for _ in range(2):
            found = texts(store, [*KEYS, b"\xff" * 20])
            assert found.pop(b"\xff" * 20) == "in another segment"
            assert found.items() <= expected.items()
            # 128 rows are in a row group; without the footer, nothing can be read.
            lost = len(expected) - len(found)
            assert lost <= 128 or place >= len(content) - footer
            assert len(files(store, ".damaged")) == bool(lost)
            assert len(store.missing(COMPLETION, MODEL, KEYS)) == lost
            store.compact()
        assert len(files(store, ".parquet")) == 1


def test_compaction_replaces_only_what_is_whole(
    tmp_path: Path, segment: SegmentSample, caplog: pytest.LogCaptureFixture
) -> None:
    # No look-up ever reads the first byte.
    store = store_with(str(tmp_path), segment.name, b"p" + segment.content[1:])
    assert texts(store) == segment.answers
    assert caplog.text == ""
    store.compact()
    assert segment.name in caplog.text
    assert texts(store) == segment.answers


@settings(max_examples=30)
@given(data=st.data())
def test_a_segment_that_is_cut_off_is_reported_by_name_and_set_aside(
    segment: SegmentSample, data: st.DataObject
) -> None:
    name, content, _ = segment
    length = data.draw(st.integers(0, len(content) - 1))
    with tempfile.TemporaryDirectory() as folder:
        store = store_with(folder, name, content[:length])
        messages: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("corpusmith").addHandler(handler)
        try:
            assert texts(store, [*KEYS, b"\xff" * 20]) == {b"\xff" * 20: "in another segment"}
        finally:
            logging.getLogger("corpusmith").removeHandler(handler)
        assert name in messages[0]
        assert [path.name for path in files(store, ".damaged")] == [f"{name}.damaged"]


def test_a_segment_that_somebody_else_has_mended_is_not_set_aside(tmp_path: Path, segment: SegmentSample) -> None:
    store = store_with(str(tmp_path), segment.name, segment.content)
    folder = folder_of(store)
    assert set_aside(folder, BrokenSegment(folder.path / segment.name, "as another process found it"))
    assert texts(store) == segment.answers
    assert files(store, ".damaged") == []


def test_a_whole_segment_that_this_program_cannot_read_is_left_in_place(tmp_path: Path) -> None:
    store = Store(tmp_path)
    later = Kind("completions", 20, *COMPLETION.answers.columns[:2])
    folder = ModelFolder(folder_of(store).path, later, MODEL)
    with new_segment(folder) as segment:
        row = {"key": KEYS[0], "committed": 1, "text": "text", "finish_reason": "stop"}
        segment.write(pa.Table.from_pylist([row], later.entries.schema))
        path = segment.commit()
    with pytest.raises(InputError, match=r"(?s)newer version") as raised:
        texts(store)
    assert path.name in str(raised.value)
    assert files(store) == [path]


def test_a_store_of_another_format_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    about = folder_of(store).path / "model.json"
    about.write_text('{"kind": "completions", "model": "m", "format": 2}', encoding="utf-8")
    with pytest.raises(InputError, match="format is 2"):
        store.report()


# --- no room, no permission ---


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Limits the size of files, which is as good as a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_loses_nothing_committed_and_goes_on_when_there_is_room(
    tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    store = Store(tmp_path, commit_seconds=60)
    with store.writer(COMPLETION, MODEL) as writer:
        writer.add(KEYS[0], answer("committed"))
        writer.commit()
        small_files(5_000)
        writer.add(KEYS[1], answer("x" * 10_000))
        for _ in range(2):
            with pytest.raises(InputError, match=r"is full .* 1 new answers .* the 1 committed before are safe"):
                writer.commit()
            assert texts(store) == {KEYS[0]: "committed"}
        small_files(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        writer.add(KEYS[2], answer("later"))
        writer.commit()
        assert texts(store) == {KEYS[0]: "committed", KEYS[1]: "x" * 10_000, KEYS[2]: "later"}
    assert len(texts(store)) == 3
    assert files(store, ".journal") == []


def test_the_next_call_says_that_the_disk_is_full(tmp_path: Path, small_files: Callable[[int], None]) -> None:
    store = Store(tmp_path, commit_seconds=0.02)
    writer = store.writer(COMPLETION, MODEL)
    small_files(3_000)
    writer.add(KEYS[0], answer("x" * 5_000))
    end = time.monotonic() + 60
    while not writer._failed and time.monotonic() < end:
        time.sleep(0.02)
    with pytest.raises(InputError, match="is full"):
        writer.add(KEYS[1], answer("y"))
    with pytest.raises(InputError, match="2 new answers"):
        writer.close()


def test_a_journal_that_cannot_be_sealed_stays_and_is_read(
    tmp_path: Path, small_files: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path, commit_seconds=60)
    # A segment of one short answer is larger than its journal.
    with store.writer(COMPLETION, MODEL) as writer:
        writer.add(KEYS[0], answer("text"))
        writer.commit()
        small_files(1_000)
    assert "cannot be sealed" in caplog.text
    (path,) = files(store)
    assert path.name.endswith(".journal")
    assert texts(store) == {KEYS[0]: "text"}


def test_compaction_on_a_full_disk_removes_nothing(tmp_path: Path, small_files: Callable[[int], None]) -> None:
    store = Store(tmp_path)
    for number in range(3):
        write(store, {key: f"{number} {key.hex()}" for key in KEYS[number::3]})
    before, expected = files(store), texts(store)
    small_files(20_000)
    with pytest.raises(OSError, match="File too large"):
        store.compact()
    assert files(store) == before
    assert texts(store) == expected


IN_A_SMALL_DISK = """
import sys
from corpusmith.program import run
from corpusmith.store import COMPLETION, Store
def main():
    store = Store(sys.argv[1], commit_seconds=60)
    with store.writer(COMPLETION, "m") as writer:
        for number in range(1000):
            text = f"{number} " + "long " * 2000
            answer = {"text": text, "finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 1}
            writer.add(number.to_bytes(20, "big"), answer)
            writer.commit()
            print(number, flush=True)
run(main)
"""


def test_a_disk_that_fills_up_keeps_what_was_committed(tmp_path: Path) -> None:
    # A disk of its own in a name space of its own; a shell holds it until we have looked.
    script = 'mount -t tmpfs -o size=2m none "$1" && { "$2" -c "$3" "$1"; echo "status $?"; cp -r "$1" "$4"; }'
    target = tmp_path / "disk"
    target.mkdir()
    command = [
        "unshare",
        "-rm",
        "sh",
        "-c",
        script,
        "sh",
        str(target),
        sys.executable,
        IN_A_SMALL_DISK,
        str(tmp_path / "copy"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(WORKER.parent.parent / "scripts")}
    if shutil.which("unshare") is None:
        pytest.skip("no unshare")
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if "status" not in result.stdout:
        pytest.skip(f"no disk of one's own here: {result.stderr}")
    *numbers, status = result.stdout.splitlines()
    assert status == "status 1"
    assert "error: " in result.stderr
    assert "is full (No space left on device)" in result.stderr
    assert "Traceback" not in result.stderr
    committed = [number.to_bytes(20, "big") for number in range(len(numbers))]
    # Each is 10 kB, of 2 MB.
    assert 100 < len(committed) < 210
    found = texts(Store(tmp_path / "copy"), committed, "m")
    assert found == {key: f"{number} " + "long " * 2000 for number, key in enumerate(committed)}


def test_a_store_that_cannot_be_written_says_so_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file", encoding="utf-8")
    with pytest.raises(InputError, match=r"the store cannot be written .*owner and permissions"):
        Store(tmp_path / "store").writer(COMPLETION, MODEL)
    assert threading.active_count() == 1 or not any(thread.name == "store" for thread in threading.enumerate())


def test_a_store_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    folder.chmod(0o555)
    program = (
        "import os, sys\n"
        "from corpusmith.program import run\n"
        "from corpusmith.store import COMPLETION, Store\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "run(lambda: Store(sys.argv[1]).writer(COMPLETION, 'm'))\n"
    )
    for path in (tmp_path, *tmp_path.parents):
        if os.geteuid() == 0 and path.owner() == "root" and path != Path("/") and not path.stat().st_mode & 0o005:
            path.chmod(path.stat().st_mode | 0o005)
    environment = {**os.environ, "PYTHONPATH": str(WORKER.parent.parent / "scripts"), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 1
    assert f"error: {folder}" in result.stderr
    assert "the store cannot be written (Permission denied)" in result.stderr


# --- kills ---


def store_of_all_sorts(folder: Path) -> Store:
    """Dead journals, one of them half taken, segments, an answer in several of them."""
    store = Store(folder)
    write_segment(store, [(key, 5, "segment one") for key in KEYS[:20]])
    write_segment(store, [(key, 3, "segment two") for key in KEYS[10:30]])
    write_journal(store, [(4, {key: "journal one" for key in KEYS[15:40]})], DEAD)
    write_journal(store, [(2, {key: "journal two" for key in KEYS[18:19]}), (9, {KEYS[50]: "late"})], DEAD)
    taken = write_journal(store, [(1, {key: "journal three" for key in KEYS[60:70]})], DEAD)
    taken.rename(taken.with_suffix(".sealing"))
    return store


EXPECTED = (
    dict.fromkeys(KEYS[:10], "segment one")
    | dict.fromkeys(KEYS[30:40], "journal one")
    | dict.fromkeys(KEYS[10:30], "segment two")
    | {KEYS[18]: "journal two", KEYS[50]: "late"}
    | dict.fromkeys(KEYS[60:70], "journal three")
)


def test_a_compaction_that_is_killed_at_any_step_changes_no_answer(tmp_path: Path) -> None:
    template = store_of_all_sorts(tmp_path / "template").folder
    copies = die_at_every_step(template, tmp_path, lambda folder: Store(folder).compact() and None)
    assert len(copies) > 20
    for copy in copies:
        store = Store(copy, dead_seconds=-1)
        assert texts(store) == EXPECTED
        store.compact()
        assert texts(store) == EXPECTED
        assert len(files(store)) == 1
        shutil.rmtree(copy)


def test_a_pruning_that_is_killed_at_any_step_keeps_what_is_to_be_kept(tmp_path: Path) -> None:
    template = store_of_all_sorts(tmp_path / "template").folder
    kept = KEYS[5:65]
    keys = keep(kept)
    copies = die_at_every_step(template, tmp_path, lambda folder: Store(folder).prune(keys, dry=False) and None)
    assert len(copies) > 20
    expected = {key: text for key, text in EXPECTED.items() if key in kept}
    for copy in copies:
        store = Store(copy)
        assert texts(store, kept) == expected
        store.prune(keys, dry=False)
        assert texts(store) == expected


def test_a_writer_that_is_killed_at_any_step_loses_nothing_committed(tmp_path: Path) -> None:
    (tmp_path / "template").mkdir()

    def write_some(folder: Path) -> None:
        acknowledged = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT)
        with Store(folder, seal_bytes=1_500, commit_seconds=60).writer(COMPLETION, MODEL) as writer:
            for number in range(4):
                writer.add(KEYS[number], answer(f"{number} " + "long " * 100))
                writer.commit()
                os.pwrite(acknowledged, b"x" * (number + 1), 0)

    copies = die_at_every_step(tmp_path / "template", tmp_path, write_some)
    assert len(copies) > 20
    seen = set()
    for copy in copies:
        store = Store(copy)
        log = Path(f"{copy}.log")
        committed = log.stat().st_size if log.exists() else 0
        found = texts(store)
        assert len(found) in (committed, committed + 1)
        assert found == {KEYS[number]: f"{number} " + "long " * 100 for number in range(len(found))}
        seen.add(committed)
        Store(copy, dead_seconds=-1).compact()
        assert texts(store) == found
        assert files(store, ".journal") == []
    assert seen == {0, 1, 2, 3, 4}


def committed_keys(logs: Path) -> set[bytes]:
    logged = [line for path in logs.glob("writes-*") for line in lines(path)]
    return {bytes.fromhex(key) for line in logged for key in line.get("committed", [])}


@pytest.mark.slow
def test_eight_processes_write_seal_compact_and_read_one_store_and_some_are_killed(tmp_path: Path) -> None:
    store_folder, logs = tmp_path / "store", tmp_path / "logs"
    logs.mkdir()
    chooser = random.Random(5)
    # Forked from a process that has imported all it needs: otherwise most would be killed while they import it.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["store_worker"])

    def start(role: Callable[..., None]) -> Any:
        process = processes.Process(target=role, args=(store_folder, logs, random.Random(chooser.randrange(1 << 30))))
        process.start()
        return process

    roles = [store_worker.write] * 4 + [store_worker.compact, store_worker.steal] + [store_worker.read] * 2
    running = [(role, start(role)) for role in roles]
    killed = 0
    try:
        end = time.monotonic() + 240
        # Until there has been enough of everything.
        while (killed < 25 or len(list(logs.glob("writes-*"))) < 15 or committed_keys(logs) < set(KEYS)) and (
            time.monotonic() < end
        ):
            time.sleep(chooser.uniform(0.1, 0.9))
            place = chooser.randrange(len(running))
            role, process = running[place]
            assert process.is_alive(), f"a process that should {role.__name__} has ended"
            if role is not store_worker.read:
                process.kill()
                process.join()
                assert process.exitcode == -signal.SIGKILL
                killed += 1
                running[place] = (role, start(role))
        (logs / "stop").touch()
        for role, process in running:
            process.join(60)
            assert process.exitcode == 0, f"a process that should {role.__name__} failed"
    finally:
        for _, process in running:
            process.kill()
            process.join()

    assert killed >= 25
    assert committed_keys(logs) == set(KEYS)
    intended: dict[str, set[str]] = {}
    committed: dict[str, int] = {}
    for path in logs.glob("writes-*"):
        for line in lines(path):
            for key, text in line.get("intended", {}).items():
                intended.setdefault(key, set()).add(text)
            for key in line.get("committed", []):
                committed[key] = min(committed.get(key, line["at"]), line["at"])
    reads = sorted((line for path in logs.glob("reads-*") for line in lines(path)), key=lambda read: read["begin"])
    assert len(reads) > 20
    # Nothing that was committed was ever missing.
    assert [read["lost"] for read in reads if read["lost"] or read["missing"]] == []

    store = Store(store_folder)
    store.compact()
    assert files(store, ".journal") + files(store, ".sealing") + files(store, ".damaged") == []
    final = {}
    for path in files(store, ".parquet"):
        for row in pq.read_table(path, columns=["key", "committed", "text"]).to_pylist():
            entry = (row["committed"], row["text"])
            final[row["key"].hex()] = min(final.get(row["key"].hex(), entry), entry)
    assert {bytes.fromhex(key): text for key, (_, text) in final.items()} == texts(store)
    assert final.keys() >= committed.keys()
    for key, (moment, text) in final.items():
        assert text in intended[key]
        assert moment <= committed.get(key, moment)
    # Whoever looked later never saw an answer that is behind the one which another had seen before.
    for key in KEYS:
        seen = [
            (read["begin"], read["end"], tuple(read["seen"][key.hex()])) for read in reads if key.hex() in read["seen"]
        ]
        for _, end, entry in seen:
            assert all(later <= entry for begin, _, later in seen if begin > end)
            assert final[key.hex()] <= entry
