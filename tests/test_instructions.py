"""Instructions: how they are asked for, what of a model's samples becomes one, what tasks give."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.accounting import Account
from corpusmith.documents import Source
from corpusmith.errors import InputError
from corpusmith.identity import shard_names
from corpusmith.instructions.collecting import collect_instructions, instruction_id, objection, sanitise
from corpusmith.instructions.drawing import Drawing, Sampling, Slot, Topic, instruction_requests, read_drawing
from corpusmith.instructions.responding import Responding, response_requests, turns_of
from corpusmith.instructions.seed_tasks import instances_of, read_tasks
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import BAD_ROWS, COMPLETIONS, DROPPED, DROPPED_ROWS, INSTRUCTIONS, REQUESTS

TOPICS = (Topic("general", 3), Topic("maths", 1, "You like numbers."))
SAMPLINGS = (Sampling(1, 1.0, 1.0), Sampling(1, 0.7, 0.9))


def test_instructions_are_shared_out_by_topic_and_sampling() -> None:
    counts = Counter((slot.topic.name, slot.sampling.temperature) for slot in Drawing(80, TOPICS, SAMPLINGS).slots())
    assert counts == {("general", 1.0): 30, ("general", 0.7): 30, ("maths", 1.0): 10, ("maths", 0.7): 10}


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.integers(1, 60),
)
def test_shares_hold_within_one_whatever_the_count_and_more_begin_as_fewer_do(
    topics: list[int], samplings: list[int], count: int
) -> None:
    drawing = Drawing(
        count,
        [Topic(str(number), share) for number, share in enumerate(topics)],
        [Sampling(share, 0.5 + number) for number, share in enumerate(samplings)],
    )
    slots = list(drawing.slots())
    assert len({slot.item for slot in slots}) == count
    for topic in drawing.topics:
        for sampling in drawing.samplings:
            mine = [slot.number for slot in slots if (slot.topic, slot.sampling) == (topic, sampling)]
            assert mine == list(range(len(mine)))
            exact = count * Fraction(int(topic.share), sum(topics)) * Fraction(int(sampling.share), sum(samplings))
            # Whoever is owed most is served: at worst, all the others are ahead by a part of one.
            assert abs(len(mine) - exact) < len(topics) * len(samplings)
    more = Drawing(count + 7, drawing.topics, drawing.samplings)
    assert list(more.slots())[:count] == slots


def test_each_request_is_one_sample_of_its_own_behind_its_topics_template() -> None:
    drawing = Drawing(40, TOPICS, SAMPLINGS, max_tokens=9, stop=["\n"])
    token_ids = {"general": [1, 2], "maths": [3, 4, 5]}
    rows = [row for shard in shard_names(3) for row in instruction_requests(drawing, token_ids, shard)]
    assert {row["item_id"] for row in rows} == {slot.item for slot in drawing.slots()}
    asked = Counter((tuple(row["token_ids"]), row["temperature"], row["top_p"], row["first_sample"]) for row in rows)
    assert set(asked.values()) == {1}
    assert Counter(len(row["token_ids"]) for row in rows) == {2: 30, 3: 10}
    assert {(row["n"], row["max_tokens"], tuple(row["stop"])) for row in rows} == {(1, 9, ("\n",))}


def test_settings_of_a_config_are_a_drawing_and_a_limit_asks_for_fewer() -> None:
    settings = {
        "count": 10, "max_tokens": 5, "stop": [],
        "topics": [{"name": "general", "share": 1, "system": None}],
        "sampling": [{"share": 1, "temperature": 1.0, "top_p": 1.0}],
    }  # fmt: skip
    assert read_drawing(settings) == Drawing(10, [Topic("general", 1)], [Sampling()], 5, [])
    assert read_drawing(settings, limit=3).count == 3
    with pytest.raises(InputError, match="topics"):
        read_drawing({name: value for name, value in settings.items() if name != "topics"})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"count": 0}, "1 or more"),
        ({"topics": ()}, "a share above 0"),
        ({"topics": (Topic("a"), Topic("a"))}, "one name"),
        ({"samplings": (Sampling(temperature=0),)}, "makes all instructions equal"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Drawing(**({"count": 5} | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "finish_reason", "error", "expected"),
    [
        ("Name three rivers.", "stop", None, None),
        ("Name three", "length", None, "cut_off"),
        ("", "stop", None, "empty"),
        ("", "error", "no memory", "no_answer"),
        ("Hello<|im_end|>", "stop", None, "special_tokens"),
        ("Hello<start_of_turn>model", "stop", None, "special_tokens"),
        ("assistant\nSure!", "stop", None, "special_tokens"),
        ("An assistant\nis what?", "stop", None, None),
        ("What is � here?", "stop", None, "broken_characters"),
        ("1234 !!", "stop", None, "no_words"),
        ("강 셋", "stop", None, None),
    ],
)
def test_a_sample_is_an_instruction_or_says_why_not(
    text: str, finish_reason: str, error: str | None, expected: str | None
) -> None:
    found = objection(sanitise(text), finish_reason, error)
    assert (None if found is None else found[0]) == expected


def completion(slot: Slot, text: str, finish_reason: str = "stop") -> dict[str, object]:
    return {
        "item_id": slot.item, "request": "instruction", "sample": slot.number, "text": text,
        "finish_reason": finish_reason, "prompt_tokens": 3, "completion_tokens": 5, "error": None, "key": "k",
    }  # fmt: skip


@pytest.mark.parametrize("count", [1, 3])
def test_samples_become_distinct_instructions_in_the_order_asked_however_that_is_cut(
    tmp_path: Path, count: int
) -> None:
    drawing = Drawing(8, TOPICS[1:], max_tokens=9)
    texts = ["  One river? ", "Two rivers?", "One river?", "", "Three\ufeff rivers?", "cut", "Two rivers?\n", "Four?"]
    said = {slot.item: text for slot, text in zip(drawing.slots(), texts, strict=True)}
    slots = {slot.item: slot for slot in drawing.slots()}
    tables = []
    for shard in shard_names(count):
        rows = list(instruction_requests(drawing, {"maths": [1]}, shard))
        answers = [
            completion(
                slots[row["item_id"]], said[row["item_id"]], "length" if said[row["item_id"]] == "cut" else "stop"
            )
            for row in rows
        ]
        tables.append((tmp_path / f"requests-{shard}.parquet", tmp_path / f"completions-{shard}.parquet"))
        write_table(tables[-1][0], REQUESTS, rows)
        write_table(tables[-1][1], COMPLETIONS, answers)
    account = Account("sources/instructions", "samples")
    outputs = tmp_path / "instructions.parquet", tmp_path / "dropped.parquet"
    collect_instructions(tables, drawing.slots(), "teacher", *outputs, account)
    kept = list(read_rows(outputs[0], INSTRUCTIONS))
    assert [row["instruction"] for row in kept] == ["One river?", "Two rivers?", "Three rivers?", "Four?"]
    assert [row["item_id"] for row in kept] == [instruction_id(row["instruction"]) for row in kept]
    assert {(row["origin"], row["topic"], row["system"]) for row in kept} == {("teacher", "maths", "You like numbers.")}
    account.check()
    assert account.as_json()["dropped"] == {"cut_off": 1, "empty": 1, "same_instruction": 2}
    assert [row["reason"] for row in read_rows(outputs[1], DROPPED)] == [
        "same_instruction", "empty", "cut_off", "same_instruction",
    ]  # fmt: skip
    # Other settings have asked for other samples.
    with pytest.raises(InputError, match="other settings"):
        collect_instructions(tables, Drawing(8, TOPICS[:1]).slots(), "teacher", *outputs, Account("x", "samples"))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"instruction": "Add.", "instances": [{"input": "1 2", "output": "3"}]}, [("Add.\n\n1 2", "3")]),
        ({"instruction": " Add. ", "instances": [{"input": "", "output": ""}]}, [("Add.", None)]),
        ({"instruction": "Add.", "instances": [{"input": "<noinput>"}]}, [("Add.", None)]),
        ({"instruction": "Add.", "input": "1", "output": "one"}, [("Add.\n\n1", "one")]),
        ({"instruction": "Add.", "instances": []}, [("Add.", None)]),
        ({"instruction": ""}, "no_instruction"),
        ({"task": "Add."}, "no_instruction"),
        ({"instruction": "Add.", "instances": ["1"]}, "instances_are_no_list_of_objects"),
        ({"instruction": "Add.", "instances": [{"input": 3}]}, "input_or_output_is_no_text"),
    ],
)  # fmt: skip
def test_a_task_gives_an_instruction_for_each_instance(row: dict[str, object], expected: object) -> None:
    found = instances_of(row)
    assert (found if isinstance(found, str) else [(one.instruction, one.reference) for one in found]) == expected


def write_tasks(path: Path, lines: list[str]) -> list[Source]:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [Source(path.name, path)]


def test_tasks_are_read_once_each_and_what_is_none_is_set_aside(tmp_path: Path) -> None:
    tasks = [
        {"instruction": "Add.", "instances": [{"input": "1 2", "output": "3"}, {"input": "4 5", "output": "9"}]},
        {"instruction": "Add.\n\n1 2"},
        {"instruction": "Name a river."},
    ]
    sources = write_tasks(tmp_path / "tasks.jsonl", [*map(json.dumps, tasks), "{broken"])
    outputs = [tmp_path / f"{name}.parquet" for name in ("instructions", "bad", "dropped")]
    account = Account("sources/instructions", "instances")
    read_tasks(sources, *outputs, account, max_bad_share=0.5)
    kept = list(read_rows(outputs[0], INSTRUCTIONS))
    assert [(row["instruction"], row["reference"], row["origin"]) for row in kept] == [
        ("Add.\n\n1 2", "3", "tasks.jsonl"),
        ("Add.\n\n4 5", "9", "tasks.jsonl"),
        ("Name a river.", None, "tasks.jsonl"),
    ]  # fmt: skip
    assert [(row["line"], row["reason"]) for row in read_rows(outputs[1], BAD_ROWS)] == [(4, "not_json")]
    assert [(row["row"], row["reason"]) for row in read_rows(outputs[2], DROPPED_ROWS)] == [(2, "same_instruction")]
    assert (account.taken.count, account.kept.count) == (5, 3)
    assert dict(account.reasons) == {"not_json": 1, "same_instruction": 1}
    limited = Account("sources/instructions", "instances")
    read_tasks(sources, *outputs, limited, max_bad_share=0.5, limit=2)
    assert limited.kept.count == 2
    with pytest.raises(InputError, match="1 of 4 rows are no tasks"):
        read_tasks(sources, *outputs, Account("x", "instances"), max_bad_share=0.1)


def test_responses_are_asked_for_at_each_temperature_behind_the_system_prompt() -> None:
    responding = Responding(n=2, temperatures=(0.6, 1.0), top_p=0.9, top_k=0, max_tokens=50)
    item = instruction_id("Name a river.")
    (shard,) = shard_names(1)
    rows = list(response_requests([(item, turns_of("Name a river.", "Be brief."))], shard, responding))
    assert [(row["request"], row["temperature"], row["n"], row["source"]) for row in rows] == [
        ("t0.6", 0.6, 2, "Name a river."), ("t1", 1.0, 2, "Name a river."),
    ]  # fmt: skip
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a river."}]
    assert rows[0]["messages"] == turns
    with pytest.raises(InputError, match="each once"):
        Responding(n=1, temperatures=(1.0, 1.0), top_p=1, top_k=0, max_tokens=5)
