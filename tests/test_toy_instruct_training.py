"""The toy instruct model and the toy reward model: what they are taught, equal bytes for equal seeds."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkout import bytes_of
from corpusmith import layout
from corpusmith.config import resolve_config
from corpusmith.identity import item_id
from corpusmith.models import read_receipt
from corpusmith.pairs import Pair
from corpusmith.pre_query import FAMILIES, pre_query_ids
from corpusmith.requests import request
from corpusmith.reward import RewardModel
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import COMPLETIONS, REQUESTS, SCORES
from corpusmith.toy import commands, instruct_model, reward_model
from corpusmith.toy.language_model import END, START, build_tokenizer
from scoring_tables import answers, run_scorer
from translation_tables import run_program

TOKENIZER = build_tokenizer(1024, commands.words(), largest=0)
REWARD_TOKENIZER = reward_model.build_tokenizer()
TINY = reward_model.Shape(layers=1, width=16, heads=2, feed_forward=16)


def write_instruct_model(folder: Path, seed: int) -> Path:
    model, tokenizer = instruct_model.train(3, seed, batch_size=2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_reward_model(folder: Path, seed: int, steps: int = 3) -> Path:
    model, tokenizer = reward_model.train(steps, seed, pairs=2, shape=TINY)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("write", [write_instruct_model, write_reward_model])
def test_equal_seeds_give_equal_bytes_and_other_seeds_other_weights(
    write: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    first, second, third = (write(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert bytes_of(first) == bytes_of(second)
    assert bytes_of(first)["model.safetensors"] != bytes_of(third)["model.safetensors"]


def test_the_tokens_of_the_reward_model_have_an_order_that_no_process_changes() -> None:
    vocabulary = REWARD_TOKENIZER.get_vocab()
    words = [token for token in sorted(vocabulary, key=lambda token: vocabulary[token]) if token.strip() in WORDS]
    assert words == [word + space for word in sorted(WORDS, key=len, reverse=True) for space in ("", " ")]


# In the order in which the wordings have them, each once.
WORDS = list(dict.fromkeys(word.strip() for word in commands.words()))


# --- the instruct model ---


def test_the_instruct_model_learns_the_conversation_as_the_template_writes_it() -> None:
    text, answer = commands.draw_command(random.Random(8))
    batch = next(instruct_model.batches(TOKENIZER, 8, 1, lambda _: (text, answer)))
    tokens, weights = batch["tokens"][0], batch["weights"][0]
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    assert TOKENIZER.decode(tokens) == TOKENIZER.apply_chat_template(turns, tokenize=False)
    assert TOKENIZER.decode(tokens[weights == 1]) == answer + END
    assert TOKENIZER.decode(tokens[weights == instruct_model.USER_WEIGHT]) == text + END
    # Behind these tokens the model is asked for instructions.
    asked = pre_query_ids(TOKENIZER.backend_tokenizer, FAMILIES["qwen3"].plain)
    assert tokens[: len(asked)].tolist() == asked
    assert TOKENIZER.decode(asked) == instruct_model.PRE_QUERY == f"{START}user\n"


@given(st.integers(0, 10**9))
def test_the_tokenizers_give_every_command_and_answer_back(seed: int) -> None:
    for text in commands.draw_careless(random.Random(seed)):
        assert TOKENIZER.decode(TOKENIZER.encode(text, add_special_tokens=False)) == text
    for text in reward_model.draw_group(random.Random(seed))[:3]:
        tokens = REWARD_TOKENIZER.tokenize(text)
        assert reward_model.UNKNOWN not in tokens
        # Korean digits are the Arabic ones.
        assert "".join(tokens) == text.translate({ord(digit): str(value) for value, digit in DIGITS})


DIGITS = list(enumerate("영일이삼사오육칠팔구"))


def test_the_program_trains_the_instruct_model_where_it_is_told_to(tmp_path: Path) -> None:
    folder, receipt = tmp_path / "model", tmp_path / "receipt.json"
    run_program(
        *("train_toy_language_model.py", "--learns", "commands", "--steps", 1, "--seed", 1, "--name", "toy-instruct"),
        *("--folder", folder, "--receipt", receipt),
    )
    tokens = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    words = {token["content"] for token in tokens}
    assert " backwards" in words
    assert " Mina" not in words
    assert read_receipt(receipt).origin == "built"


# --- the reward model ---


def test_the_reward_model_is_shown_which_tokens_are_wrong_and_what_is_right() -> None:
    rng = random.Random(5)
    groups = [reward_model.draw_group(rng) for _ in range(16)]
    known: dict[tuple[int, ...], tuple[str, bool]] = {}
    for command, right, wrong, readable in groups:
        assert readable == (commands.answer_of(command) is not None)
        if readable:
            assert commands.answer_of(command) == right != wrong
        for answer in (right, wrong):
            known[tuple(REWARD_TOKENIZER(command, answer)["input_ids"])] = right, readable and answer == right
    for batch in itertools.islice(reward_model.batches(REWARD_TOKENIZER, 5, 1), 16):
        for tokens, mask, types, marks, corrected, right in zip(*batch.values(), strict=True):
            answer, is_right = known[tuple(tokens[mask == 1].tolist())]
            assert bool(right) == is_right
            assert (marks == 1).any() == (not is_right)
            # Marks lie on the answer and on what ends it.
            assert torch.equal(marks != -100, (types == 1) & (mask == 1))
            places = corrected != -100
            expected = REWARD_TOKENIZER(answer, add_special_tokens=False)["input_ids"]
            assert corrected[places].tolist() == [*expected, REWARD_TOKENIZER.sep_token_id][: int(places.sum())]


def test_the_scorer_s_program_reads_the_toy_reward_model(tmp_path: Path) -> None:
    run_program(
        *("train_toy_reward_model.py", "--steps", 1, "--seed", 1, "--name", "toy-reward"),
        *("--folder", tmp_path / "model", "--receipt", tmp_path / "receipt.json"),
    )
    text = "Add 12 and 30"
    row = request(
        item_id(text), "sampled", messages=[{"role": "user", "content": text}], source=text,
        temperature=1.0, n=2, max_tokens=8,
    )  # fmt: skip
    write_table(tmp_path / "requests.parquet", REQUESTS, [row])
    write_table(tmp_path / "completions.parquet", COMPLETIONS, answers(row, ["42", "32"]))
    receipt = tmp_path / "receipt.json"
    result = run_scorer("score_reward.py", tmp_path, receipt, receipt, "--form", "pair", "--dtype", "float32")
    assert result.returncode == 0, result.stderr
    scores = [row["score"] for row in read_rows(tmp_path / "scores.parquet", SCORES)]
    model = RewardModel(tmp_path / "model", form="pair")
    assert scores == pytest.approx(
        [scored.score for scored in model.score([Pair(text, "42"), Pair(text, "32")])], abs=1e-5
    )


def test_toy_scorers_are_told_apart_by_their_metric() -> None:
    scorers: dict[str, Any] = {
        "estimator": {"metric": "metricx-24", "toy": {}},
        "reward": {"metric": "reward", "toy": {"steps": 700}, "reward": {"form": "pair"}},
        "fetched": {"metric": "reward", "repo": "owner/reward", "reward": {"form": "pair"}},
    }
    datasets = {"some": {"recipe": "maths", "sources": {"files": ["problems.jsonl"]}}}
    config = resolve_config({"models": {}, "scorers": scorers, "datasets": datasets})
    assert layout.toy_scorers(config, "metricx-24") == ["estimator"]
    assert layout.toy_scorers(config, "reward") == ["reward"]


@pytest.mark.slow
@pytest.mark.thorough
def test_the_trained_reward_model_knows_plain_mistakes() -> None:
    model, tokenizer = reward_model.train(700, 1)
    rng = random.Random(77)
    drawn = [commands.draw(rng) for _ in range(400)]
    mistaken = [command for command in drawn if command.kind.habit(command.parts) != command.answer]
    others = [commands.draw(rng) for _ in mistaken]
    with torch.inference_mode():

        def rewards(said: list[str]) -> torch.Tensor:
            texts = [command.text for command in mistaken]
            rewarded: torch.Tensor = model(**tokenizer(texts, said, padding=True, return_tensors="pt")).logits[:, 0]
            return rewarded

        right = rewards([str(command.answer) for command in mistaken])
        habits = rewards([command.kind.habit(command.parts) for command in mistaken])
        elsewhere = rewards([str(command.answer) for command in others])
    different = torch.tensor([one.answer != other.answer for one, other in zip(mistaken, others, strict=True)])
    assert (right > habits).double().mean() >= 0.95
    assert (right > elsewhere)[different].double().mean() >= 0.92
