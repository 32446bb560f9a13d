"""Rows to tune on: what is read of files, what is refused, and that their tokens are those that TRL makes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from corpusmith.errors import InputError
from corpusmith.prompts import load_prompt
from corpusmith.toy.language_model import Shape, build_model, build_tokenizer
from corpusmith.tuning.rows import Asking, Row, read_tuning_rows
from corpusmith.tuning.tokens import DpoEncoder, SftEncoder, check_template, common_prefix, write_tokens
from tuning_runs import chat, conversations, preferences, write_lines

ANSWER = [{"role": "assistant", "content": "45"}]
QUESTION = [{"role": "user", "content": "Add 42 and 3"}]
TOKENIZER = build_tokenizer(128)


def read(path: Path, method: str = "sft") -> list[Row]:
    return list(read_tuning_rows([str(path)], method))


def texts(tokens: list[int], labels: list[int]) -> str:
    """What is learnt, as text."""
    return TOKENIZER.decode([token for token, label in zip(tokens, labels, strict=True) if label != -100])


# --- reading ---


def test_rows_of_parquet_and_of_json_lines_are_the_same(tmp_path: Path) -> None:
    rows = [{"item_id": str(number), **row, "score": 0.5} for number, row in enumerate(conversations(5))]
    write_lines(tmp_path / "rows.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    found = [[row.columns for row in read(tmp_path / name)] for name in ("rows.jsonl", "rows.parquet")]
    assert found == [conversations(5)] * 2


def test_files_are_read_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        write_lines(tmp_path / f"{number}.jsonl", [{"prompt": str(number), "completion": "."}])
    assert [row.columns["prompt"] for row in read(tmp_path / "*.jsonl")] == ["0", "1", "2"]


def asking(folder: Path, template: str = "{{ language }}: {{ text }} ({{ score }})", **more: Any) -> Asking:
    (folder / "prompt.txt").write_text(template)
    settings = {"completion": "target", "columns": {"text": "source"}} | more
    settings["values"] = {"language": "Korean", "nothing": None}
    return Asking(load_prompt(folder / "prompt.txt"), **settings)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_rows_of_any_columns_are_asked_with_a_prompt(tmp_path: Path, name: str) -> None:
    rows = [{"source": "three", "target": "삼", "score": 0.5}, {"source": "two", "target": "이", "score": 1.0}]
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    else:
        write_lines(tmp_path / name, rows)
    found = read_tuning_rows([str(tmp_path / name)], "sft", asking(tmp_path))
    assert [row.columns for row in found] == [
        {"messages": chat("Korean: three (0.5)", "삼")}, {"messages": chat("Korean: two (1.0)", "이")}
    ]  # fmt: skip
    found = read_tuning_rows([str(tmp_path / name)], "sft", asking(tmp_path, texts=True))
    assert next(found).columns == {"prompt": "Korean: three (0.5)", "completion": "삼"}


@pytest.mark.parametrize(
    ("row", "template", "said"),
    [
        ({"source": "two"}, "{{ text }}", "row 2: has no target, but source; leave such rows out, or"),
        ({"target": "이"}, "{{ text }}", "row 2: has no source, but target; leave such rows out, or"),
        ({"source": "two", "target": 2}, "{{ text }}", "row 2: target is no text"),
        ({"source": "two", "target": "이"}, "{{ text }}{{ nothing }}", "line 1: what it shows here is null"),
        ({"source": "two", "target": "이"}, "{{ txt }}", "row 1: .*prompt.txt, line 1: 'txt' is undefined; it may use"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(tmp_path: Path, row: Any, template: str, said: str) -> None:
    write_lines(tmp_path / "rows.jsonl", [{"source": "three", "target": "삼"}, row])
    with pytest.raises(InputError, match=said):
        list(read_tuning_rows([str(tmp_path / "rows.jsonl")], "sft", asking(tmp_path, template)))


@pytest.mark.parametrize(
    "row", [{"prompt": "3 + 4 = ", "completion": "7"}, {"prompt": QUESTION, "completion": ANSWER}, conversations(1)[0]]
)
def test_a_row_to_learn_from_is_a_conversation_or_a_prompt_with_a_completion(tmp_path: Path, row: Any) -> None:
    write_lines(tmp_path / "rows.jsonl", [row | {"chosen": 1, "source": None}])
    (found,) = read(tmp_path / "rows.jsonl")
    assert found.columns == row


BAD_ROWS = [
    # method, row, what is said of it
    ("sft", {"text": "a", "label": None}, "has no messages, or prompt and completion, but text; name files with such"),
    ("sft", {"prompt": "a", "completion": None}, "has no messages, or prompt and completion, but prompt"),
    ("sft", {"messages": []}, "messages is no list of messages, or an empty one"),
    ("sft", {"messages": "hello"}, "messages is no list of messages"),
    ("sft", {"messages": [{"role": "user", "content": "a"}]}, "messages hold no turn of the assistant"),
    ("sft", {"messages": ANSWER}, "messages begin with the assistant"),
    (
        "sft",
        {"messages": [*QUESTION, {"role": "bot", "content": "a"}]},
        "messages: message 2 has no role; allowed: sys",
    ),
    (
        "sft",
        {"messages": [*QUESTION, {"role": "assistant", "content": None}]},
        "messages: message 2: content is no text",
    ),
    (
        "sft",
        {"messages": [*QUESTION, {**ANSWER[0], "tool_calls": [{"name": "add"}]}]},
        "messages: message 2 has tool_calls beside role and content, which is not trained on",
    ),
    ("sft", {"prompt": QUESTION, "completion": "45"}, "prompt is no text; all columns of a row are texts"),
    ("sft", {"prompt": "a", "completion": ANSWER}, "prompt is no list of messages"),
    ("sft", {"prompt": QUESTION, "completion": QUESTION}, "completion does not end with a turn of the assistant"),
    ("sft", {"prompt": "a", "completion": "\ud800"}, "completion holds half of a surrogate pair"),
    (
        "dpo",
        {"messages": chat("a", "b")},
        "has no prompt and chosen and rejected, or chosen and rejected, but m",
    ),
    ("dpo", {"chosen": "a 1", "rejected": "b 2"}, "chosen and rejected have no prompt in common"),
    ("dpo", {"prompt": "a", "chosen": "b", "rejected": "b"}, "chosen and rejected are the same"),
    ("dpo", {"prompt": "a", "chosen": "b", "rejected": ANSWER}, "prompt is no list of messages"),
    (
        "dpo",
        {"prompt": QUESTION, "chosen": ANSWER, "rejected": QUESTION},
        "rejected does not end with a turn of the as",
    ),
]


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": [*QUESTION, *ANSWER], "rejected": [*QUESTION, {"role": "assistant", "content": "46"}]},
        {"chosen": "Add 42 and 3: 45", "rejected": "Add 42 and 3: 46"},
    ],
)
def test_a_prompt_that_both_answers_begin_with_is_found(tmp_path: Path, row: Any) -> None:
    (found,) = read(write_lines(tmp_path / "rows.jsonl", [row]), "dpo")
    prompt, answers = found.columns["prompt"], (found.columns["chosen"], found.columns["rejected"])
    assert len(prompt) > 0
    assert [prompt + answer for answer in answers] == [row["chosen"], row["rejected"]]


@pytest.mark.parametrize(("method", "row", "said"), BAD_ROWS)
def test_a_row_that_cannot_be_used_is_named_with_its_file(
    tmp_path: Path, method: str, row: Mapping[str, Any], said: str
) -> None:
    good = conversations(1) if method == "sft" else preferences(1)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*good, row]), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read(path, method)
    assert str(caught.value).startswith(f"{path}: row 2: {said}")


def test_conversations_and_texts_are_not_mixed(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", conversations(2))
    write_lines(tmp_path / "b.jsonl", [{"prompt": "a", "completion": "b"}])
    with pytest.raises(InputError, match=r"b\.jsonl: row 1: holds texts, and .*a\.jsonl: row 1 conversations; make"):
        read(tmp_path / "*.jsonl")


def test_a_line_that_is_no_json_and_a_file_that_is_no_parquet_are_named(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", conversations(1))
    path.write_text(path.read_text() + "{\n")
    with pytest.raises(InputError, match=r"rows\.jsonl: row 2: the line is no JSON; correct it"):
        read(path)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"rows\.parquet: is no Parquet file that can be read"):
        read(tmp_path / "rows.parquet")


def test_no_file_and_no_row_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file matches"):
        read(tmp_path / "*.jsonl")
    pq.write_table(pa.table({"messages": pa.array([], pa.null())}), tmp_path / "empty.parquet")
    with pytest.raises(InputError, match=r"there is no row in .*empty\.parquet"):
        read(tmp_path / "empty.parquet")


# --- tokens ---


def encoded(rows: list[Any], **options: Any) -> tuple[list[dict[str, list[int]]], SftEncoder]:
    encoder = SftEncoder(TOKENIZER, options.pop("max_length", None), options.pop("loss_on", "assistant"))
    return list(encoder.encode(Row(f"row {number}", row) for number, row in enumerate(rows))), encoder


def test_each_turn_of_the_assistant_is_learnt_to_its_end_and_nothing_else() -> None:
    (row,), encoder = encoded([{"messages": chat("Add 1 and 2", "3", "Add 4 and 5", "9")}])
    assert texts(row["input_ids"], row["labels"]) == "3<|im_end|>\n9<|im_end|>\n"
    assert encoder.counts.unlearnt_turns == encoder.counts.unlike_prompts == 0
    assert TOKENIZER.decode(row["input_ids"]).startswith("<|im_start|>user\nAdd 1 and 2<|im_end|>\n<|im_start|>assist")


def test_what_the_user_says_last_is_left_out_as_nothing_answers_it() -> None:
    whole, _ = encoded([{"messages": chat("a", "b", "c")}])
    assert whole == encoded([{"messages": chat("a", "b")}])[0]


def test_all_of_a_conversation_is_learnt_where_that_is_wanted() -> None:
    (row,), _ = encoded([{"messages": chat("a", "b", "c")}], loss_on="all")
    assert row["labels"] == row["input_ids"]
    assert TOKENIZER.decode(row["input_ids"]).endswith("user\nc<|im_end|>\n")


def test_a_turn_that_the_template_writes_otherwise_later_is_context_and_counted() -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' and loop.last %}thought {% endif %}{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\nthought {% endif %}"
    )
    tokenizer = build_tokenizer(128)
    tokenizer.chat_template = template
    encoder = SftEncoder(tokenizer, None, "assistant")
    (row,) = encoder.encode([Row("row 1", {"messages": chat("a", "b", "c", "d")})])
    assert texts(row["input_ids"], row["labels"]) == "d<|im_end|>"
    assert encoder.counts.unlearnt_turns == 1


def test_a_text_ends_with_the_end_of_the_tokenizer_once() -> None:
    rows = [{"prompt": "3 in Korean: ", "completion": end} for end in ("삼", "삼<|im_end|>")]
    found, _ = encoded(rows)
    assert [texts(row["input_ids"], row["labels"]) for row in found] == ["삼<|im_end|>"] * 2


def test_rows_are_cut_left_out_and_counted() -> None:
    lengths = [10, 20, 30]
    rows = [{"prompt": "a" * (length - 5), "completion": "b" * 4} for length in lengths]
    found, encoder = encoded(rows, max_length=20)
    # 10 tokens fit, 20 fit, of 30 the first 25 are prompt.
    assert [len(row["input_ids"]) for row in found] == [10, 20]
    assert (encoder.counts.rows, encoder.counts.trained, encoder.counts.truncated) == (3, 2, 0)
    assert (encoder.counts.dropped, encoder.counts.longest) == (1, 30)
    found, encoder = encoded(rows, max_length=27)
    assert [len(row["input_ids"]) for row in found] == [10, 20, 27]
    assert texts(found[2]["input_ids"], found[2]["labels"]) == "bb"
    assert (encoder.counts.truncated, encoder.counts.dropped) == (1, 0)


def test_where_nothing_is_left_to_learn_is_said(tmp_path: Path) -> None:
    row = Row("row 1", {"prompt": "a" * 30, "completion": "b"})
    with pytest.raises(InputError, match="of 1 rows nothing is left to learn: give a larger max_length"):
        write_tokens(tmp_path / "rows.arrow", [row], SftEncoder(TOKENIZER, 20, "assistant"))
    assert list(tmp_path.iterdir()) == []


def test_a_template_that_refuses_a_row_is_an_error_that_names_the_row() -> None:
    tokenizer = build_tokenizer(128)
    tokenizer.chat_template = "{{ raise_exception('no system messages here') }}"
    encoder = SftEncoder(tokenizer, None, "assistant")
    with pytest.raises(
        InputError, match=r"row 7: the chat template of the base refuses it \(no system messages here\)"
    ):
        list(encoder.encode([Row("row 7", {"messages": chat("a", "b")})]))


def test_a_model_without_a_chat_template_learns_texts_and_no_conversations() -> None:
    tokenizer = build_tokenizer(128)
    tokenizer.chat_template = None
    text = Row("row 1", {"prompt": "a", "completion": "b"})
    assert list(check_template([text, text], tokenizer, "small")) == [text, text]
    with pytest.raises(InputError) as caught:
        check_template([Row("row 1", {"messages": chat("a", "b")})], tokenizer, "small")
    assert str(caught.value).startswith("row 1: is a conversation, and model small has no chat template; take a model")


@pytest.mark.parametrize(
    ("first", "second", "length"), [([], [1], 0), ([1, 2], [1, 2, 3], 2), ([1, 2], [1, 3], 1), ([2], [1], 0)]
)
def test_a_common_prefix_ends_where_tokens_differ(first: list[int], second: list[int], length: int) -> None:
    assert common_prefix(first, second) == common_prefix(second, first) == length


# --- against TRL ---


def trl_dataset(kind: Any, config: Any, rows: list[Any], folder: Path, **options: Any) -> list[dict[str, Any]]:
    """What TRL makes of rows."""
    adapter = LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM")
    model = build_model(TOKENIZER, Shape(layers=1, width=8, heads=1, feed_forward=8, max_length=128))
    arguments = config(output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", **options)
    data = datasets.Dataset.from_list(rows)
    tokenizer = build_tokenizer(128)
    trainer = kind(model, args=arguments, train_dataset=data, processing_class=tokenizer, peft_config=adapter)
    return list(trainer.train_dataset)


@pytest.mark.parametrize("kind", ["chat", "text"])
def test_tokens_and_labels_to_learn_from_are_those_that_trl_makes(tmp_path: Path, kind: str) -> None:
    rows: list[Any] = [
        {"prompt": QUESTION, "completion": ANSWER},
        {"prompt": chat("a", "b", "c"), "completion": ANSWER},
    ]
    if kind == "text":
        rows = [{"prompt": "Add 42 and ", "completion": "3 is 45"}, {"prompt": "a" * 40, "completion": "b" * 40}]
    for max_length in (None, 32):
        expected = trl_dataset(SFTTrainer, SFTConfig, rows, tmp_path, max_length=max_length)
        found, _ = encoded(rows, max_length=max_length)
        assert found == [{"input_ids": list(row["input_ids"]), "labels": list(row["labels"])} for row in expected]


@pytest.mark.parametrize("kind", ["chat", "text"])
def test_tokens_of_preferences_are_those_that_trl_makes(tmp_path: Path, kind: str) -> None:
    rows: list[Any] = preferences(3)
    if kind == "text":
        rows = [{"prompt": f"{'Add ' * number}2 is ", "chosen": "4", "rejected": "5<|im_end|>"} for number in (1, 40)]
    encoder = DpoEncoder(TOKENIZER, 32)
    found = list(encoder.encode(Row("row", row) for row in rows))
    expected = trl_dataset(DPOTrainer, DPOConfig, rows, tmp_path, max_length=32)
    assert found == [{name: list(row[name]) for name in found[0]} for row in expected]
    assert encoder.counts.dropped == len(rows) - len(expected) == (kind == "text")
