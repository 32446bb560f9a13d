"""Every kind of table, defined once: columns, types, meanings."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

ROW_GROUP = 8192
# Where a row holds a text of some 20 kB, so that a row group still fits many times into memory.
ROW_GROUP_OF_LONG_TEXTS = 1024


@dataclass(frozen=True)
class Column:
    """One column. A column is required unless it is optional: no nulls in it."""

    name: str
    type: pa.DataType
    meaning: str
    optional: bool = False


class Table:
    """A kind of table. row_group: rows of a row group."""

    def __init__(self, name: str, *columns: Column, row_group: int = ROW_GROUP) -> None:
        self.name = name
        self.columns = columns
        self.row_group = row_group
        self.schema = pa.schema(
            [
                pa.field(column.name, column.type, nullable=column.optional, metadata={"meaning": column.meaning})
                for column in columns
            ]
        )


ITEM_ID = Column("item_id", pa.string(), "content hash of the item, from source to release")

SEGMENTS = Table(
    "segments",
    ITEM_ID,
    Column("text", pa.string(), "the segment, line breaks as they are in a text"),
    Column("kind", pa.string(), "sentence, or blob: consecutive sentences of one document"),
    Column("tokens", pa.int32(), "tokens of the text by the tokenizer that the stage's account names"),
    Column("bucket", pa.string(), "length bucket in tokens: from-to, the end excluded"),
    Column("file", pa.string(), "name of the file the document stands in"),
    Column("line", pa.int64(), "line of the document in it, from 1"),
    Column("start", pa.int64(), "first character in the document's text as stored, from 0"),
    Column("end", pa.int64(), "one behind the last character"),
)

BAD_ROWS = Table(
    "bad rows",
    Column("file", pa.string(), "file the row stands in"),
    Column("line", pa.int64(), "its line, from 1"),
    Column("reason", pa.string(), "why it was set aside"),
    Column("excerpt", pa.string(), "its first 200 characters, bytes that are not UTF-8 replaced"),
)

DROPPED_ROWS = Table(
    "dropped rows",
    Column("file", pa.string(), "file the row stands in"),
    Column("row", pa.int64(), "its number there, from 1"),
    Column("reason", pa.string(), "why it was dropped"),
)

DROPPED = Table(
    "dropped",
    ITEM_ID,
    Column("stage", pa.string(), "the stage that dropped the item"),
    Column("reason", pa.string(), "why, by the rule's name"),
    Column("detail", pa.string(), "what was seen, for people", optional=True),
)

MESSAGES = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))

REQUESTS = Table(
    "requests",
    ITEM_ID,
    Column("request", pa.string(), "name of the request among those of its item, such as greedy"),
    Column("messages", MESSAGES, "a conversation for the chat template; or prompt, or token_ids", optional=True),
    Column("prompt", pa.string(), "a raw text, not put through the chat template", optional=True),
    Column("token_ids", pa.list_(pa.int32()), "the tokens themselves", optional=True),
    Column("temperature", pa.float64(), "0 is greedy"),
    Column("top_p", pa.float64(), "share of the probability that is sampled from; 1 is all"),
    Column("top_k", pa.int32(), "most likely tokens that are sampled from; 0 is all"),
    Column("max_tokens", pa.int32(), "most tokens of an answer"),
    Column("stop", pa.list_(pa.string()), "texts that end an answer and are not part of it"),
    Column("choices", pa.list_(pa.string()), "the answer is one of these", optional=True),
    Column("json_schema", pa.string(), "the answer is JSON of this schema", optional=True),
    Column("first_sample", pa.int32(), "index of the first sample"),
    Column("n", pa.int32(), "number of samples"),
    Column("source", pa.string(), "what a scorer holds the answer against", optional=True),
    Column("reference", pa.string(), "a right answer, where one is known", optional=True),
)

COMPLETIONS = Table(
    "completions",
    ITEM_ID,
    Column("request", pa.string(), "name of the request among those of its item"),
    Column("sample", pa.int32(), "index of the sample"),
    Column("text", pa.string(), "the answer; empty where it failed"),
    Column("finish_reason", pa.string(), "stop; length: cut off at max_tokens; error: no answer, see error"),
    Column("prompt_tokens", pa.int32(), "tokens of the prompt"),
    Column("completion_tokens", pa.int32(), "tokens of the answer"),
    Column("error", pa.string(), "why there is no answer", optional=True),
    Column("key", pa.string(), "what the answer is known by, together with its sample index"),
)

SCORES = Table(
    "scores",
    ITEM_ID,
    Column("request", pa.string(), "name of the request among those of its item"),
    Column("sample", pa.int32(), "index of the sample"),
    Column(
        "score", pa.float64(), "the metric's number, rounded to 1e-6; none where there was no answer", optional=True
    ),
    Column("truncated", pa.bool_(), "whether the scorer saw only the beginning"),
    Column("error", pa.string(), "why an answer has no score", optional=True),
    Column("key", pa.string(), "what the score is known by"),
)

SELECTED_SOURCES = Table(
    "selected sources",
    ITEM_ID,
    Column("text", pa.string(), "the source"),
    Column("kind", pa.string(), "sentence or blob"),
    Column("tokens", pa.int32(), "its tokens"),
    Column("greedy_score", pa.float64(), "score of the greedy answer", optional=True),
    Column("sampled_score", pa.float64(), "score of the sampled answer", optional=True),
    Column("gain", pa.float64(), "greedy minus sampled: how much sampling improved on greedy", optional=True),
)

CANDIDATE = pa.struct(
    [
        pa.field("sample", pa.int32()),
        pa.field("text", pa.string()),
        pa.field("score", pa.float64()),
    ]
)

SELECTED_ANSWERS = Table(
    "selected answers",
    ITEM_ID,
    Column("source", pa.string(), "the source"),
    Column("target", pa.string(), "the best answer"),
    Column("score", pa.float64(), "its score"),
    Column("sample", pa.int32(), "index of the sample"),
    Column("candidates", pa.int32(), "how many answers could have been taken"),
    Column("mean_score", pa.float64(), "the mean of their scores"),
    Column("top_k", pa.list_(CANDIDATE), "the best ones, best first, distinct texts"),
)

FILTERED = SELECTED_ANSWERS

REJECTED = Table(
    "rejected",
    ITEM_ID,
    Column("source", pa.string(), "the source"),
    Column("target", pa.string(), "the answer"),
    Column("score", pa.float64(), "its score"),
    Column("reason", pa.string(), "the first rule that it breaks"),
    Column("reasons", pa.list_(pa.string()), "every rule that it breaks"),
    Column("detail", pa.string(), "what the first rule saw", optional=True),
)


# --- the maths recipe ---

_ABOUT_THE_SOLUTION = (
    Column("problem_type", pa.string(), "what is known of the answer, as the source says it", optional=True),
    Column("problem_source", pa.string(), "where the problem comes from, as the source says it", optional=True),
    Column("inference_mode", pa.string(), "how the solution was made: cot, tir, genselect", optional=True),
    Column("generation_model", pa.string(), "the model that wrote the solution", optional=True),
)

LABELLED_ROWS = Table(
    "labelled rows",
    ITEM_ID,
    Column("problem_id", pa.string(), "content hash of the problem: rows that share it have one problem"),
    Column("problem", pa.string(), "the problem"),
    Column("answer", pa.string(), "its answer, as the source says it", optional=True),
    Column("generated_solution", pa.string(), "a solution of it", optional=True),
    *_ABOUT_THE_SOLUTION,
    Column("pass_rate", pa.float64(), "the source's share of right solutions; none where it says n/a", optional=True),
    Column("dataset", pa.string(), "what the row comes from: a repository, a file, a dataset of the config"),
    Column("file", pa.string(), "name of the file the row stands in"),
    Column("row", pa.int64(), "its row or line in it, from 1"),
    row_group=ROW_GROUP_OF_LONG_TEXTS,
)

PROBLEMS = Table(
    "problems",
    ITEM_ID,
    Column("problem", pa.string(), "the problem"),
    Column("answer", pa.string(), "its answer, where one is known", optional=True),
    Column("problem_type", pa.string(), "what is known of the answer, as its first row says it", optional=True),
    Column("problem_source", pa.string(), "where it comes from, as its first row says it", optional=True),
    Column("dataset", pa.string(), "what its first row comes from"),
    Column("rows", pa.int32(), "how many rows have it"),
)

ANSWER_CONFLICTS = Table(
    "conflicting answers",
    ITEM_ID,
    Column("problem", pa.string(), "the problem"),
    Column("answers", pa.list_(pa.string()), "the different answers, most frequent first"),
    Column("counts", pa.list_(pa.int32()), "how many rows have each"),
)

CHECKED_SOLUTIONS = Table(
    "checked solutions",
    ITEM_ID,
    Column("sample", pa.int32(), "index of the solution among those of its problem"),
    Column("answer", pa.string(), "the final answer found in the solution", optional=True),
    Column("verdict", pa.string(), "right, wrong or undecided"),
    Column("reason", pa.string(), "what decided, or why nothing did"),
)

PROBLEM_ANSWERS = Table(
    "problem answers",
    ITEM_ID,
    Column("answer", pa.string(), "the answer that solutions are held against", optional=True),
    Column("answer_origin", pa.string(), "given; majority: of the solutions; none"),
    Column("votes", pa.int32(), "how many solutions agree on a majority's answer; 0 for a given one"),
)

GRADED_SOLUTIONS = Table(
    "graded solutions",
    ITEM_ID,
    Column("sample", pa.int32(), "index of the solution among those of its problem"),
    Column("answer", pa.string(), "the final answer found in the solution", optional=True),
    Column("right", pa.bool_(), "whether it is the problem's answer; none where nothing decided", optional=True),
    Column("reason", pa.string(), "what decided, or why nothing did"),
)

GRADED_PROBLEMS = Table(
    "graded problems",
    ITEM_ID,
    Column("answer", pa.string(), "the answer that solutions were held against", optional=True),
    Column("answer_origin", pa.string(), "given; majority: of the solutions; none"),
    Column("samples", pa.int32(), "solutions that count: k of the pass rate"),
    Column("right", pa.int32(), "how many of them are right"),
    Column("pass_rate", pa.float64(), "right of samples, rounded to 1e-6; none where no sample counts", optional=True),
)

SOLUTIONS = Table(
    "solutions",
    ITEM_ID,
    Column("problem_id", pa.string(), "content hash of the problem: rows that share it have one problem"),
    Column("problem", pa.string(), "the problem"),
    Column("answer", pa.string(), "its answer: as the source says it, or that of most solutions", optional=True),
    Column("answer_origin", pa.string(), "given; majority: of the solutions; none"),
    Column("generated_solution", pa.string(), "a solution of it", optional=True),
    *_ABOUT_THE_SOLUTION,
    Column("pass_rate", pa.float64(), "share of right solutions: measured, or the source's", optional=True),
    Column(
        "pass_rate_samples", pa.int32(), "solutions that it was measured with; none for the source's", optional=True
    ),
    Column("right", pa.bool_(), "whether the solution has the problem's answer, where it was checked", optional=True),
    Column("sample", pa.int32(), "index of the sample, where the solution was made here", optional=True),
    Column("dataset", pa.string(), "what the row comes from: a repository, a file, a dataset of the config"),
    row_group=ROW_GROUP_OF_LONG_TEXTS,
)

REJECTED_SOLUTIONS = Table(
    "rejected solutions",
    *(column for column in SOLUTIONS.columns if column.name in ("item_id", "problem", "answer", "generated_solution")),
    Column("pass_rate", pa.float64(), "share of right solutions: measured, or the source's", optional=True),
    *(column for column in REJECTED.columns if column.name in ("reason", "reasons", "detail")),
    row_group=ROW_GROUP_OF_LONG_TEXTS,
)


SAMPLES = Table(
    "samples",
    ITEM_ID,
    Column("sample", pa.int32(), "index of the solution among those of its problem"),
    Column("generated_solution", pa.string(), "the solution"),
    Column("answer", pa.string(), "the final answer found in it", optional=True),
    Column("right", pa.bool_(), "whether it is the problem's answer; none where nothing decided", optional=True),
    row_group=ROW_GROUP_OF_LONG_TEXTS,
)

# --- the instructions recipe ---

_ABOUT_THE_INSTRUCTION = (
    Column("origin", pa.string(), "where the instruction comes from: the model that wrote it, or the file of a task"),
    Column("topic", pa.string(), "name of the topic whose system prompt it was asked under", optional=True),
    Column("reference", pa.string(), "a right response, where the task came with one", optional=True),
)
INSTRUCTIONS = Table(
    "instructions",
    ITEM_ID,
    Column("instruction", pa.string(), "what a user asks"),
    *_ABOUT_THE_INSTRUCTION,
    Column("sample_id", pa.string(), "id of the sample that it was, where a model made it up", optional=True),
    Column("system", pa.string(), "system prompt that goes with it, where there is one", optional=True),
    Column("temperature", pa.float64(), "temperature that it was sampled at", optional=True),
    Column("top_p", pa.float64(), "share of the probability that it was sampled from", optional=True),
)
TAGS = ("difficulty", "quality", "category", "language")
_RESPONSE = (
    Column("reward", pa.float64(), "its reward; higher is better", optional=True),
    *(Column(name, pa.string(), f"{name} of the instruction, as a model tagged it", optional=True) for name in TAGS),
)
RESPONSES = Table(
    "responses",
    ITEM_ID,
    Column("instruction", pa.string(), "what a user asks"),
    Column("response", pa.string(), "the response that was taken"),
    Column("messages", MESSAGES, "the same as a conversation, behind the system prompt where there is one"),
    *_RESPONSE,
    *_ABOUT_THE_INSTRUCTION,
    Column("generation_model", pa.string(), "the model that wrote the response"),
    Column("sample", pa.int32(), "index of the response among those to the instruction"),
    Column("candidates", pa.int32(), "how many responses could have been taken"),
    row_group=ROW_GROUP_OF_LONG_TEXTS,
)
REJECTED_RESPONSES = Table(
    "rejected responses",
    ITEM_ID,
    Column("instruction", pa.string(), "what a user asks"),
    Column("response", pa.string(), "the response, where there is one", optional=True),
    *_RESPONSE,
    *(column for column in REJECTED.columns if column.name in ("reason", "reasons", "detail")),
    row_group=ROW_GROUP_OF_LONG_TEXTS,
)


RESPONSE = pa.struct(
    [
        pa.field("sample", pa.int32()),
        pa.field("temperature", pa.float64()),
        pa.field("text", pa.string()),
        pa.field("score", pa.float64()),
    ]
)
_RESPONSES = (
    Column("prompt", MESSAGES, "the instruction, as a conversation"),
    Column("responses", pa.list_(RESPONSE), "all responses to it with their rewards"),
)

PREFERENCES = Table(
    "preferences",
    ITEM_ID,
    *_RESPONSES,
    Column("chosen", MESSAGES, "the better response, as the assistant's turn"),
    Column("rejected", MESSAGES, "the worse one"),
    Column("chosen_score", pa.float64(), "reward of the better one; higher is better"),
    Column("rejected_score", pa.float64(), "reward of the worse one"),
    Column("margin", pa.float64(), "the first minus the second"),
)

REJECTED_PREFERENCES = Table(
    "rejected preferences",
    ITEM_ID,
    *_RESPONSES,
    *(column for column in REJECTED.columns if column.name in ("reason", "reasons", "detail")),
)


@dataclass(frozen=True)
class RowTables:
    """The kinds of tables that the filters of a recipe read and write; texts: columns that a judge is shown."""

    kept: Table
    rejected: Table
    texts: tuple[str, ...]


# What programs that serve every recipe work on, by recipe. The first of the texts is what duplicates are known by.
ROWS = {
    "translation": RowTables(FILTERED, REJECTED, ("source", "target")),
    "instructions": RowTables(RESPONSES, REJECTED_RESPONSES, ("instruction", "response")),
    "maths": RowTables(SOLUTIONS, REJECTED_SOLUTIONS, ("problem", "answer", "generated_solution", "problem_type")),
}
