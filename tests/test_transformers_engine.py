"""The transformers engine against transformers' own generate and plain forward passes, on tiny random models."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.modules.module import register_module_forward_hook
from transformers import (
    AutoModelForCausalLM,
    LogitsProcessorList,
    PreTrainedTokenizerFast,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from corpusmith.engines.protocol import Answer, Prompt, Question, Sampling
from corpusmith.engines.transformers_engine import TransformersEngine
from corpusmith.errors import InputError
from corpusmith.requests import request
from corpusmith.toy.language_model import build_tokenizer
from toy_models import ARCHITECTURES, END, MAX_LENGTH, START, causal_model, chain_model, letter_tokenizer, save_causal

ITEM = "0" * 32
# As long as the window of the model with sliding windows, longer, and much longer than one another.
PROMPTS = ["a", "bc", "abcdef", "gfedcba", "aabbccddee" * 2, "abcdefg" * 5, "cab" * 20, "fg", "", "deadbeef"]
GREEDY = Sampling(0.0, 1.0, 0, 24)
SAMPLED = Sampling(1.0, 1.0, 0, 24)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each architecture over letters; `words`: a Qwen3 over words, characters and bytes."""
    tokenizer = letter_tokenizer()
    found = {
        name: save_causal(causal_model(tokenizer, name), tokenizer, tmp_path_factory.mktemp(name))
        for name in ARCHITECTURES
    }
    words = build_tokenizer(MAX_LENGTH)
    found["words"] = save_causal(causal_model(words), words, tmp_path_factory.mktemp("words"))
    return found


@pytest.fixture(scope="module")
def engine(folders: dict[str, Path]) -> TransformersEngine:
    return load(folders["qwen3"])


@pytest.fixture(scope="module")
def word_engine(folders: dict[str, Path]) -> TransformersEngine:
    return load(folders["words"], batch_size=64)


def load(folder: Path, batch_size: int = 16, dtype: str = "float64", **options: Any) -> TransformersEngine:
    return TransformersEngine(folder, device="cpu", dtype=dtype, batch_size=batch_size, **options)


def reference_model(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()


def prepare(engine: TransformersEngine, **what: Any) -> Prompt:
    return engine.prepare(request(ITEM, "test", max_tokens=1, **what))


def questions(engine: TransformersEngine, sampling: Sampling, seeds: Iterable[int] = (0,)) -> list[Question]:
    """One question for each of the prompts and seeds; handles from 0."""
    prompts = [prepare(engine, prompt=text) for text in PROMPTS]
    pairs = [(prompt, seed) for prompt in prompts for seed in seeds]
    return [Question(handle, prompt, sampling, seed) for handle, (prompt, seed) in enumerate(pairs)]


def ask(engine: TransformersEngine, asked: Sequence[Question]) -> list[Answer]:
    """The answers in the order of the questions, asked as the caller of an engine has to."""
    waiting, found = list(asked), {}
    in_flight = 0
    while waiting or in_flight:
        while waiting and in_flight < engine.capacity:
            engine.submit(waiting.pop(0))
            in_flight += 1
        answers = engine.collect()
        assert answers
        in_flight -= len(answers)
        found.update({answer.handle: answer for answer in answers})
    assert engine.collect() == []
    assert len(found) == len(asked)
    return [found[question.handle] for question in asked]


def ask_one(engine: TransformersEngine, prompt: Prompt, sampling: Sampling, seed: int = 0, **constraint: Any) -> Answer:
    return ask(engine, [Question(0, prompt, sampling, seed, **constraint)])[0]


@contextmanager
def recorded_logits() -> Iterator[list[torch.Tensor]]:
    """The logits (rows, 1, vocabulary) of every forward pass of a language model inside the block."""
    found: list[torch.Tensor] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        if getattr(output, "logits", None) is not None:
            found.append(output.logits.detach().clone())

    hook = register_module_forward_hook(keep)
    try:
        yield found
    finally:
        hook.remove()


def chi_square_p(counts: Mapping[Any, int], probabilities: Mapping[Any, float]) -> float:
    """The probability of counts at least as far from the expected ones; rare outcomes are taken together."""
    assert set(counts) <= {outcome for outcome, probability in probabilities.items() if probability > 0}
    total = sum(counts.values())
    cells = [(counts.get(outcome, 0), total * probability) for outcome, probability in probabilities.items()]
    rare = [cell for cell in cells if cell[1] < 5]
    cells = [cell for cell in cells if cell[1] >= 5]
    if sum(expected for _, expected in rare) >= 5:
        cells.append((sum(seen for seen, _ in rare), sum(expected for _, expected in rare)))
    statistic = sum((seen - expected) ** 2 / expected for seen, expected in cells)
    halves = torch.tensor([(len(cells) - 1) / 2, statistic / 2], dtype=torch.float64)
    return torch.special.gammaincc(halves[0], halves[1]).item()


# --- a sample depends on its prompt, its sampling and its seed alone ---


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_neither_batch_size_nor_order_nor_company_changes_a_sample(folders: dict[str, Path], architecture: str) -> None:
    engine = load(folders[architecture], batch_size=1)
    asked = questions(engine, SAMPLED, range(3)) + questions(engine, replace(SAMPLED, top_k=4, top_p=0.9), range(3))
    asked = [replace(question, handle=handle) for handle, question in enumerate(asked)]
    expected = ask(engine, asked)
    assert len({answer.text for answer in expected}) > len(asked) / 3
    assert {answer.finish_reason for answer in expected} == {"stop", "length"}
    for batch_size in (3, 64):
        engine = load(folders[architecture], batch_size)
        for seed in range(2):
            order = random.Random(seed).sample(range(len(asked)), len(asked))
            assert ask(engine, [asked[place] for place in order]) == [expected[place] for place in order]
        some = random.Random(2).sample(range(len(asked)), len(asked) // 3)
        assert ask(engine, [asked[place] for place in some]) == [expected[place] for place in some]


def test_equal_seeds_give_equal_texts_and_other_seeds_other_ones(engine: TransformersEngine) -> None:
    prompt = prepare(engine, prompt="abc")
    asked = [Question(handle, prompt, SAMPLED, handle % 40) for handle in range(80)]
    texts = [(answer.text, answer.completion_tokens) for answer in ask(engine, asked)]
    assert texts[:40] == texts[40:]
    # Short answers may be equal by chance.
    assert len(set(texts)) > 30


def test_the_largest_seed_is_a_seed(engine: TransformersEngine) -> None:
    assert ask_one(engine, prepare(engine, prompt="abc"), SAMPLED, seed=2**63 - 1).error is None


def test_a_prompt_that_is_asked_many_times_is_read_once(engine: TransformersEngine) -> None:
    prompts = [prepare(engine, prompt=text) for text in ("abc", "defg")]
    with recorded_logits() as logits:
        asked = [Question(handle, prompts[handle % 2], SAMPLED, handle) for handle in range(16)]
        going_on = sum(answer.completion_tokens > 1 for answer in ask(engine, asked))
    assert [len(step) for step in logits[:2]] == [2, going_on]
    assert going_on > 10


# --- the model is asked rightly ---


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_answers_are_those_of_generate_at_batch_1(folders: dict[str, Path], architecture: str) -> None:
    engine, model = load(folders[architecture]), reference_model(folders[architecture])
    tokenizer = letter_tokenizer()
    asked = questions(engine, GREEDY)
    for question, answer in zip(asked, ask(engine, asked), strict=True):
        prompt = torch.tensor([question.prompt.token_ids])
        written = model.generate(prompt, do_sample=False, max_new_tokens=24)[0, prompt.shape[1] :].tolist()
        assert answer.text == tokenizer.decode(written, skip_special_tokens=True)
        assert answer.completion_tokens == len(written)
        assert answer.finish_reason == ("stop" if written[-1] == tokenizer.eos_token_id else "length")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-4)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_left_padding_leaves_the_logits_as_they_are_without_it(
    folders: dict[str, Path], architecture: str, dtype: str, tolerance: float
) -> None:
    engine, model = load(folders[architecture], dtype=dtype), reference_model(folders[architecture])
    asked = questions(engine, replace(GREEDY, max_tokens=1))
    with recorded_logits() as steps:
        ask(engine, asked)
    assert len(steps) == 1
    padded = steps[0][:, -1].double()
    for question in asked:
        alone = model(input_ids=torch.tensor([question.prompt.token_ids])).logits[0, -1]
        assert (padded - alone).abs().amax(dim=1).min() < tolerance


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [
        (1.0, 0, 1.0),
        (0.5, 0, 1.0),
        (2.0, 0, 1.0),
        (1.0, 4, 1.0),
        (1.0, 0, 0.6),
        (1.5, 6, 0.7),
        (1.0, 1, 1.0),
        (1.0, 0, 1e-6),
    ],
)
def test_first_tokens_are_as_frequent_as_the_softmax_says(
    folders: dict[str, Path], temperature: float, top_k: int, top_p: float
) -> None:
    engine, model, tokenizer = load(folders["qwen3"], 512), reference_model(folders["qwen3"]), letter_tokenizer()
    prompt = prepare(engine, prompt="fade")
    sampling = Sampling(temperature, top_p, top_k, max_tokens=1)
    answers = ask(engine, [Question(seed, prompt, sampling, seed) for seed in range(3000)])
    tokens = torch.tensor([prompt.token_ids])
    scores = sampling_of_transformers(temperature, top_k, top_p)(tokens, model(input_ids=tokens).logits[:, -1])
    expected: Counter[tuple[str, str]] = Counter()
    for token, probability in enumerate(scores[0].softmax(-1).tolist()):
        reason = "stop" if token == tokenizer.eos_token_id else "length"
        expected[tokenizer.decode([token], skip_special_tokens=True), reason] += probability
    seen = Counter((answer.text, answer.finish_reason) for answer in answers)
    possible = [outcome for outcome, probability in expected.items() if probability > 0]
    if len(possible) == 1:
        assert list(seen) == possible
    else:
        assert chi_square_p(seen, expected) > 0.001


def sampling_of_transformers(temperature: float, top_k: int, top_p: float) -> LogitsProcessorList:
    """What generate() does to logits before it samples, in its order."""
    steps = LogitsProcessorList([TemperatureLogitsWarper(temperature)] if temperature != 1 else [])
    if top_k:
        steps.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        steps.append(TopPLogitsWarper(top_p))
    return steps


def test_the_second_token_is_drawn_anew(tmp_path: Path) -> None:
    tokenizer = letter_tokenizer(list("abcdef"))
    engine = load(save_causal(causal_model(tokenizer, spread=1.0), tokenizer, tmp_path), 512)
    model = reference_model(tmp_path)
    prompt = prepare(engine, prompt="fade")
    answers = ask(engine, [Question(seed, prompt, replace(SAMPLED, max_tokens=2), seed) for seed in range(6000)])
    expected: Counter[tuple[str, int]] = Counter()
    first = next_token(model, prompt.token_ids)
    for token, probability in enumerate(first):
        if token == tokenizer.eos_token_id:
            expected["", 1] += probability
            continue
        for following, then in enumerate(next_token(model, (*prompt.token_ids, token))):
            expected[tokenizer.decode([token, following], skip_special_tokens=True), 2] += probability * then
    assert chi_square_p(Counter((answer.text, answer.completion_tokens) for answer in answers), expected) > 0.001


def next_token(model: Any, tokens: Sequence[int]) -> list[float]:
    return model(input_ids=torch.tensor([tokens])).logits[0, -1].softmax(-1).tolist()


def test_a_model_whose_logits_overflow_fails_its_answers(tmp_path: Path) -> None:
    tokenizer = letter_tokenizer()
    model = causal_model(tokenizer)
    with torch.no_grad():
        model.get_output_embeddings().weight[5] = float("nan")
    engine = load(save_causal(model, tokenizer, tmp_path))
    for sampling in (GREEDY, SAMPLED):
        answer = ask_one(engine, prepare(engine, prompt="abc"), sampling)
        assert (answer.text, answer.finish_reason) == ("", "error")
        assert "overflow" in (answer.error or "")


# --- where an answer ends ---


@settings(max_examples=25)
@given(seed=st.integers(0, 2**63 - 1), most=st.integers(1, 30), text=st.sampled_from(PROMPTS))
def test_max_tokens_cuts_the_same_answer_shorter(engine: TransformersEngine, seed: int, most: int, text: str) -> None:
    prompt = prepare(engine, prompt=text)
    whole = ask_one(engine, prompt, replace(SAMPLED, max_tokens=30), seed)
    cut = ask_one(engine, prompt, replace(SAMPLED, max_tokens=most), seed)
    if whole.completion_tokens <= most:
        assert cut == whole
    else:
        assert (cut.finish_reason, cut.completion_tokens) == ("length", most)
        assert whole.text.startswith(cut.text)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**63 - 1), stop=st.lists(st.text("abcd", min_size=1, max_size=3), min_size=1, max_size=3))
def test_an_answer_ends_before_the_first_stop_string_in_it(
    engine: TransformersEngine, seed: int, stop: list[str]
) -> None:
    prompt = prepare(engine, prompt="abc")
    lengths = [
        Question(most, prompt, replace(SAMPLED, max_tokens=most), seed) for most in range(1, SAMPLED.max_tokens + 1)
    ]
    answers = ask(engine, lengths)
    expected = answers[-1]
    # The stop strings are looked for after each token: several can come to be in the text with the same one.
    for growing in answers:
        places = [growing.text.index(text) for text in stop if text in growing.text]
        if places:
            expected = replace(growing, handle=0, text=growing.text[: min(places)], finish_reason="stop")
            break
    assert ask_one(engine, prompt, replace(SAMPLED, stop=tuple(stop)), seed) == replace(expected, handle=0)


def test_a_stop_string_across_tokens_and_one_inside_a_token_both_cut(tmp_path: Path) -> None:
    # A model that goes on from "a" to the token "bcd" and then to "e", over and over.
    tokenizer = letter_tokenizer()
    follows = {START: "a", "a": "bcd", "bcd": "e", "e": "a"}
    engine = load(save_causal(chain_model(tokenizer, follows), tokenizer, tmp_path))
    prompt = prepare(engine, prompt="")
    assert ask_one(engine, prompt, replace(GREEDY, max_tokens=4)).text == "abcdea"
    for stop, text, tokens in (
        (["de"], "abc", 3),
        (["c"], "ab", 2),
        (["a"], "", 1),
        (["eab"], "abcd", 5),
        (["d", "x", "b"], "a", 2),  # both come with the same token: the first in the text counts
    ):
        answer = ask_one(engine, prompt, replace(GREEDY, max_tokens=6, stop=tuple(stop)))
        assert (answer.text, answer.completion_tokens, answer.finish_reason) == (text, tokens, "stop")
    answer = ask_one(engine, prompt, replace(GREEDY, max_tokens=6, stop=("x",)))
    assert (answer.text, answer.completion_tokens, answer.finish_reason) == ("abcdeabcde", 6, "length")


def test_every_end_token_of_the_model_ends_an_answer_and_is_not_part_of_it(tmp_path: Path) -> None:
    tokenizer = letter_tokenizer()
    model = chain_model(tokenizer, {START: "a", "a": "b", "b": "c", "c": "d", "d": END})
    prompt_tokens, c = 1, tokenizer.convert_tokens_to_ids("c")
    engine = load(save_causal(model, tokenizer, tmp_path / "one"))
    answer = ask_one(engine, prepare(engine, prompt=""), GREEDY)
    assert answer == Answer(0, "abcd", "stop", prompt_tokens, completion_tokens=5)
    # As models of chat have it: one end of a turn and one of a text, the second known to the model alone.
    model.generation_config.eos_token_id = [c, tokenizer.eos_token_id]
    engine = load(save_causal(model, tokenizer, tmp_path / "two"))
    assert ask_one(engine, prepare(engine, prompt=""), GREEDY).completion_tokens == 3


def test_prompt_and_answer_together_never_exceed_what_the_model_takes(folders: dict[str, Path]) -> None:
    # A GPT-2 has a table of positions, and fails beyond it.
    engine = load(folders["gpt2"])
    prompts = [prepare(engine, prompt="a" * length) for length in (MAX_LENGTH - 2, MAX_LENGTH - 3, MAX_LENGTH - 11)]
    for seed in range(10):
        asked = [
            Question(handle, prompt, replace(SAMPLED, max_tokens=MAX_LENGTH), seed)
            for handle, prompt in enumerate(prompts)
        ]
        for answer, room in zip(ask(engine, asked), (1, 2, 10), strict=True):
            assert answer.completion_tokens <= room
            assert answer.finish_reason == "stop" or answer.completion_tokens == room


def test_a_prompt_without_room_for_an_answer_cannot_be_asked(
    folders: dict[str, Path], engine: TransformersEngine
) -> None:
    assert prepare(engine, prompt="a" * (MAX_LENGTH - 2)).error is None
    assert prepare(engine, prompt="a" * (MAX_LENGTH - 1)).error == "the prompt has 256 tokens, the model takes 256"
    short = load(folders["qwen3"], max_length=10)
    assert prepare(short, prompt="a" * 8).error is None
    assert prepare(short, prompt="a" * 9).error == "the prompt has 10 tokens, the model takes 10"
    asked = [Question(seed, prepare(short, prompt="a" * 6), SAMPLED, seed) for seed in range(20)]
    longest = max(ask(short, asked), key=lambda answer: answer.completion_tokens)
    assert (longest.finish_reason, longest.prompt_tokens, longest.completion_tokens) == ("length", 7, 3)


# --- prompts ---


def test_a_raw_prompt_gets_the_start_token_and_a_conversation_only_what_its_template_writes(
    engine: TransformersEngine,
) -> None:
    ids = engine_ids([START, "a", "b"])
    raw = prepare(engine, prompt="ab")
    assert (raw.rendered, raw.token_ids, raw.error) == ("ab", ids, None)
    chat = prepare(engine, messages=[{"role": "user", "content": "ab"}])
    assert chat.rendered == f"{START}ab{END}{START}"
    assert chat.token_ids == (*ids, *engine_ids([END, START]))
    given = prepare(engine, token_ids=list(ids))
    assert given.token_ids == ids
    assert len({raw.rendered, chat.rendered, given.rendered}) == 3
    assert ask_one(engine, given, GREEDY) == ask_one(engine, raw, GREEDY)
    assert ask_one(engine, chat, GREEDY).prompt_tokens == 5


def engine_ids(tokens: list[str]) -> tuple[int, ...]:
    return tuple(letter_tokenizer().convert_tokens_to_ids(tokens))


def test_a_conversation_that_the_template_refuses_is_one_prompt_with_an_error(engine: TransformersEngine) -> None:
    messages = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    assert "no system messages here" in (prepare(engine, messages=messages).error or "")


def test_a_model_without_a_template_can_only_be_asked_with_raw_prompts(tmp_path: Path) -> None:
    tokenizer = letter_tokenizer()
    tokenizer.chat_template = None
    engine = load(save_causal(causal_model(tokenizer), tokenizer, tmp_path))
    assert "no chat template" in (prepare(engine, messages=[{"role": "user", "content": "a"}]).error or "")
    assert prepare(engine, prompt="a").error is None


@pytest.mark.parametrize("token_ids", [[3, 13], [-1], [3, 2**31 - 1]])
def test_token_ids_that_the_model_does_not_have_are_an_error_of_their_prompt(
    engine: TransformersEngine, token_ids: list[int]
) -> None:
    assert prepare(engine, token_ids=[3, 12]).error is None
    assert "token id" in (prepare(engine, token_ids=token_ids).error or "")


def test_an_empty_prompt_is_an_error(engine: TransformersEngine, word_engine: TransformersEngine) -> None:
    # A tokenizer that puts a start token before everything has something to go on from.
    assert prepare(engine, prompt="").error is None
    assert prepare(word_engine, prompt="").error == "the prompt is empty"
    assert prepare(engine, token_ids=[]).error == "the prompt is empty"


def test_the_digest_of_the_template_changes_with_the_template(folders: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = letter_tokenizer()
    shutil.copytree(folders["qwen3"], tmp_path, dirs_exist_ok=True)
    assert load(tmp_path).template == load(folders["llama"]).template
    tokenizer.chat_template += "\n"
    tokenizer.save_pretrained(tmp_path)
    assert load(tmp_path).template != load(folders["llama"]).template


# --- constraints ---


def test_choices_are_as_frequent_as_masking_token_by_token_makes_them(tmp_path: Path) -> None:
    tokenizer = letter_tokenizer(list("abcdef"))
    engine = load(save_causal(causal_model(tokenizer), tokenizer, tmp_path), 512)
    prompt = prepare(engine, prompt="ce")
    choices = ("ab", "abc", "aff", "b", "fed", "fee")
    expected = choice_probabilities(reference_model(tmp_path), tokenizer, prompt.token_ids, choices)
    assert sum(expected.values()) == pytest.approx(1)
    asked = [Question(seed, prompt, SAMPLED, seed, choices=choices) for seed in range(1500)]
    answers = ask(engine, asked)
    assert {answer.finish_reason for answer in answers} == {"stop"}
    assert chi_square_p(Counter(answer.text for answer in answers), expected) > 0.001
    greedy = ask_one(engine, prompt, GREEDY, choices=choices)
    assert greedy.text in choices


def choice_probabilities(
    model: Any, tokenizer: PreTrainedTokenizerFast, prompt: tuple[int, ...], choices: Sequence[str], begun: str = ""
) -> dict[str, float]:
    """The probability of each choice that begins so, where each letter, or the end, is drawn from those possible."""
    left = [choice for choice in choices if choice.startswith(begun)]
    if left == [begun]:
        return {begun: 1.0}
    scores = next_token(model, (*prompt, *tokenizer.convert_tokens_to_ids(list(begun))))
    options = {choice[len(begun) : len(begun) + 1] or END for choice in left}
    weights = {option: scores[tokenizer.convert_tokens_to_ids(option)] for option in options}
    found: dict[str, float] = {}
    for option, weight in weights.items():
        share = weight / sum(weights.values())
        rest = (
            {begun: 1.0} if option == END else choice_probabilities(model, tokenizer, prompt, choices, begun + option)
        )
        found |= {choice: share * probability for choice, probability in rest.items()}
    return found


CHOICES = st.sampled_from(["Yes", "No", "예", "아니오", "A😀", " ", '{"', "Yes, but", "\n"])
CHOICES |= st.text(min_size=1, max_size=4)


@settings(max_examples=20)
@given(choices=st.lists(CHOICES, min_size=1, max_size=4, unique=True), seed=st.integers(0, 2**63 - 1))
def test_an_answer_is_always_one_of_the_choices(word_engine: TransformersEngine, choices: list[str], seed: int) -> None:
    prompt = prepare(word_engine, prompt="Korean: Mina")
    for sampling in (SAMPLED, replace(GREEDY, max_tokens=30), replace(SAMPLED, temperature=3.0, top_k=2)):
        answer = ask_one(word_engine, prompt, sampling, seed, choices=tuple(choices))
        assert answer.text in choices
        assert answer.finish_reason == "stop"


def test_a_constrained_answer_that_is_cut_off_says_so(word_engine: TransformersEngine) -> None:
    prompt = prepare(word_engine, prompt="Korean: Mina")
    choices = ("아니오 😀😀",)
    answer = ask_one(word_engine, prompt, replace(GREEDY, max_tokens=3), choices=choices)
    assert (answer.finish_reason, answer.completion_tokens) == ("length", 3)
    assert choices[0].startswith(answer.text)


SCHEMA = {
    "type": "object",
    "properties": {
        "verdict": {"enum": ["good", "나쁨"]},
        "score": {"type": "integer", "minimum": 0, "maximum": 25},
        "spans": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 2},
        "sure": {"type": "boolean"},
    },
    "required": ["verdict", "score", "spans", "sure"],
    "additionalProperties": False,
}


def test_json_answers_parse_and_validate_against_their_schema(word_engine: TransformersEngine) -> None:
    prompt = prepare(word_engine, prompt="Korean: Mina")
    # Enough even where every space is as wide as allowed.
    sampling = replace(SAMPLED, max_tokens=400)
    schema = json.dumps(SCHEMA)
    asked = [Question(seed, prompt, sampling, seed, json_schema=schema) for seed in range(48)]
    values = []
    for answer in ask(word_engine, asked):
        assert answer.finish_reason == "stop"
        values.append(json.loads(answer.text))
        jsonschema.validate(values[-1], SCHEMA)
    assert {value["verdict"] for value in values} == {"good", "나쁨"}


def test_constraints_bind_their_own_answers_alone(word_engine: TransformersEngine) -> None:
    prompt = prepare(word_engine, prompt="Korean: Mina")
    free = [Question(seed, prompt, SAMPLED, seed) for seed in range(6)]
    bound = [Question(6 + seed, prompt, SAMPLED, seed, choices=("Yes", "No")) for seed in range(6)]
    together = ask(word_engine, free + bound)
    assert together == ask(word_engine, free) + ask(word_engine, bound)
    assert not {answer.text for answer in together[:6]} & {"Yes", "No"}


@pytest.mark.parametrize(
    "constraint",
    [{"json_schema": '{"type": "frob"}'}, {"json_schema": "{"}, {"choices": ("abx",)}, {"choices": ("x", "y")}],
)
@pytest.mark.parametrize("company", [0, 5])
def test_a_constraint_that_cannot_be_met_fails_its_own_answer_alone(
    engine: TransformersEngine, constraint: dict[str, Any], company: int
) -> None:
    prompt = prepare(engine, prompt="abc")
    others = [Question(1 + seed, prompt, SAMPLED, seed) for seed in range(company)]
    bad, *rest = ask(engine, [Question(0, prompt, GREEDY, 0, **constraint), *others])
    assert (bad.text, bad.finish_reason, bad.prompt_tokens) == ("", "error", 4)
    assert bad.error
    assert "\n" not in bad.error
    assert rest == ask(engine, others)


# --- text ---


@pytest.mark.parametrize(
    "text", ["예😀", "e\u0301 \u200d\U0001f468\u200d\U0001f469", "naïve\t— “x”", "\x00\x7f", "日本語"]
)
def test_what_the_vocabulary_lacks_is_read_and_written_in_bytes(word_engine: TransformersEngine, text: str) -> None:
    known = build_tokenizer(MAX_LENGTH).get_vocab()
    prompt = prepare(word_engine, prompt=text)
    assert len(prompt.token_ids) == sum(1 if character in known else len(character.encode()) for character in text)
    answer = ask_one(word_engine, prompt, replace(GREEDY, max_tokens=100), choices=(text,))
    assert answer.text == text


def test_random_bytes_still_give_text_that_can_be_written(word_engine: TransformersEngine) -> None:
    prompt = prepare(word_engine, prompt="x")
    # Hot enough that tokens of single bytes, which rarely make up a character, are drawn often.
    sampling = Sampling(50.0, 1.0, 0, 40)
    texts = [answer.text for answer in ask(word_engine, [Question(seed, prompt, sampling, seed) for seed in range(20)])]
    assert any("\ufffd" in text for text in texts)
    assert all(text.encode().decode() == text for text in texts)


# --- folders that hold no model ---


def remove(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def add_a_layer(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] += 1
    config.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config))


def no_json(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": ')


@pytest.mark.parametrize(
    "damage",
    [shutil.rmtree, remove("config.json"), remove("model.safetensors"), cut_weights, add_a_layer, no_json],
    ids=["no folder", "no config", "no weights", "cut weights", "a layer without weights", "config is no JSON"],
)
def test_a_folder_without_a_whole_model_is_an_input_error_that_names_it(
    folders: dict[str, Path], tmp_path: Path, damage: Any
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(folders["qwen3"], folder)
    load(folder)
    damage(folder)
    with pytest.raises(InputError) as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
