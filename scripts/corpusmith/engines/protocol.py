"""What an engine is: questions in, answers out in any order, a bounded number in flight.

A worker is any such thing, a scorer too; an engine is a worker that makes the prompts of its questions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

ENGINES = ("transformers", "vllm", "openai")
# How torch, CUDA and the system say it.
OUT_OF_MEMORY = re.compile(
    r"OutOfMemoryError|out of memory|can't allocate memory|not enough memory|cudaErrorMemoryAllocation|MemoryError"
)

# llguidance's layout of JSON, its separators as regular expressions: weak models get lost in white space.
JSON_ON_ONE_LINE: Any = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}


class EngineDied(Exception):
    """The engine is gone: what was in flight has no answer, and nothing more can be asked of it.

    close() still frees what it holds; then another one may be started.
    """


class OutOfMemory(EngineDied):
    """A device's memory did not hold what the engine was working on: fewer answers at once may fit."""


@dataclass(frozen=True)
class Prompt:
    """A request as the engine sees it.

    rendered: text that stands for the prompt in the key of its answers; token_ids: its tokens, where the
    engine works on tokens; error: why it cannot be asked.
    """

    rendered: str
    token_ids: tuple[int, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn. temperature 0 is greedy; top_p 1 and top_k 0 sample from everything."""

    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    stop: tuple[str, ...] = ()

    def as_key(self) -> dict[str, Any]:
        """The parameters as they enter the key of an answer; those that cannot matter are left out."""
        key: dict[str, Any] = {"temperature": self.temperature, "max_tokens": self.max_tokens, "stop": list(self.stop)}
        if self.temperature > 0:
            key |= {"top_p": self.top_p, "top_k": self.top_k}
        return key


@dataclass(frozen=True)
class Question:
    """One sample that is wanted.

    handle: the caller's number for it; seed: decides the sample, whatever else is asked beside it; label: what a log
    calls it.
    """

    handle: int
    prompt: Prompt
    sampling: Sampling
    seed: int
    choices: tuple[str, ...] | None = None
    json_schema: str | None = None
    label: str = ""


@dataclass(frozen=True)
class Answer:
    """What came back. finish_reason: stop, length or error; error says why there is no text."""

    handle: int
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    error: str | None = None


def failure(question: Question, error: str) -> Answer:
    """The answer to a question that has none. error: why, on one line."""
    return Answer(question.handle, "", "error", len(question.prompt.token_ids), 0, " ".join(error.split()))


class Asked(Protocol):
    """What a worker is asked, as far as those know it who only pass it on."""

    @property
    def handle(self) -> int:
        """The caller's number for it."""

    @property
    def label(self) -> str:
        """What a log calls it."""


class Answered(Protocol):
    """What a worker answers."""

    @property
    def handle(self) -> int:
        """That of the question."""

    @property
    def error(self) -> str | None:
        """Why there is no answer."""


Q = TypeVar("Q", bound=Asked)
A = TypeVar("A", bound=Answered)
Q_in = TypeVar("Q_in", bound=Asked, contravariant=True)
A_out = TypeVar("A_out", bound=Answered, covariant=True)


class Worker(Protocol[Q_in, A_out]):
    """Whatever answers questions."""

    @property
    def capacity(self) -> int:
        """How many questions may be in flight."""

    @property
    def retries(self) -> int:
        """How often a question was asked again."""

    @property
    def heard(self) -> float:
        """When it last gave a sign of life, by time.monotonic: an answer, or a step on the way to one."""

    def submit(self, question: Q_in) -> None:
        """Takes a question; the caller keeps to `capacity`."""

    def collect(self, timeout: float | None = None) -> Sequence[A_out]:
        """Waits until some answers are there and gives them.

        Empty where nothing is in flight, or where none came within so many seconds. Raises EngineDied where none
        will come.
        """

    def close(self) -> None:
        """Frees what it holds; drops what is in flight."""


class Renderer(Protocol):
    """What makes prompts, and with them the keys of their answers.

    family: engines of one family give the same answer to the same question; it enters the key.
    template: digest of the chat template, empty where the engine has none of its own.
    """

    family: str
    template: str

    def prepare(self, request: Mapping[str, Any]) -> Prompt:
        """The prompt of a row of a requests table."""


class Engine(Renderer, Worker[Question, Answer], Protocol):
    """A language model that answers."""
