"""The training of the toy models: equal bytes for equal seeds, in the form that the engines and scorers read."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from checkout import bytes_of
from corpusmith.metricx_form import SCORE_TOKEN, as_input
from corpusmith.pairs import Pair
from corpusmith.toy import language_model, quality_estimator, tasks, translation


def write_estimator(folder: Path, steps: int, seed: int) -> Path:
    folder.mkdir()
    quality_estimator.save_as_metricx(*quality_estimator.train(steps, seed, groups=2), folder)
    return folder


def write_language_model(folder: Path, steps: int, seed: int) -> Path:
    model, tokenizer = language_model.train(steps, seed, batch_size=2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("write", [write_estimator, write_language_model])
def test_equal_seeds_give_equal_bytes_and_other_seeds_other_weights(write, tmp_path: Path):
    first, second, third = (write(tmp_path / name, 3, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert bytes_of(first) == bytes_of(second)
    assert bytes_of(first)["model.safetensors"] != bytes_of(third)["model.safetensors"]


def test_the_estimator_has_the_tables_and_the_score_row_of_metricx(tmp_path: Path):
    model, tokenizer = quality_estimator.train(2, 1, groups=2)
    quality_estimator.save_as_metricx(model, tokenizer, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert weights["shared.weight"].shape[0] == weights["lm_head.weight"].shape[0] == 250_112
    assert SCORE_TOKEN == 250_089
    assert torch.equal(weights["lm_head.weight"][250_089], model.lm_head.weight[-1])


@given(st.integers(0, 10**9))
def test_every_example_of_the_estimator_is_wrong_as_often_as_it_says(seed: int):
    source, right, wrong, errors = quality_estimator.draw_group(random.Random(seed), 3)
    assert translation.translate(source) == right
    assert (errors == 0) == (wrong == right)


@pytest.mark.parametrize("most_sentences", [1, 3])
def test_the_estimator_learns_from_what_a_scorer_reads_with_and_without_reference(most_sentences: int):
    drawn = random.Random(5)
    groups = [quality_estimator.draw_group(drawn, most_sentences) for _ in range(64)]
    rows = {
        tuple(encode(as_input(Pair(source, candidate, reference)))): (source, candidate, reference, candidate == right)
        for source, right, wrong, _ in groups
        for candidate in (right, wrong)
        for reference in (None, right)
    }
    found = []
    batches = quality_estimator.batches(TOKENIZER, 5, 4, most_sentences)
    for batch in itertools.islice(batches, 16):
        for tokens, mask, wrong, parts, score in zip(*batch.values(), strict=True):
            source, candidate, reference, right = rows[tuple(tokens[mask == 1].tolist())]
            assert tokens[parts == 0].tolist() == encode(f"source: {source} candidate:")
            assert tokens[parts == 1].tolist() == encode(candidate)
            assert tokens[parts == 2].tolist() == ([] if reference is None else encode(f"reference: {reference}"))
            # Marks lie on the translation alone, and only a wrong one is marked.
            assert torch.equal(wrong != -100, parts == 1)
            assert (score == 0) == right
            assert (wrong == 1).any() == (not right)
            found.append((source, right, reference is not None))
    # Every translation once, and both of a source with a reference or neither.
    sources = {source for source, *_ in groups}
    referenced = {source for source, _, has_reference in found if has_reference}
    assert len(found) == 2 * len(groups)
    assert {source for source, *_ in found} == sources
    assert not referenced & {source for source, _, has_reference in found if not has_reference}
    assert 0.2 < len(referenced) / len(sources) < 0.5
    assert TOKENIZER.unk_token_id not in encode("source: candidate: reference:")


def encode(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@given(st.integers(0, 10**9))
def test_a_numeral_s_digits_are_the_same_tokens_in_both_languages(seed: int):
    tokenizer = TOKENIZER
    sentence = translation.draw_sentence(random.Random(seed))
    english, korean = (
        tokenizer.convert_ids_to_tokens(tokenizer(write(sentence), add_special_tokens=False)["input_ids"])
        for write in (translation.english, translation.korean)
    )
    assert "<unk>" not in [*english, *korean]
    digits = [token for token in english if token.isdigit() and token not in "01"]
    assert [token for token in korean if token.isdigit() and token != "1"] == digits
    assert {clause.thing for clause in sentence.clauses} <= set(korean)


TOKENIZER = quality_estimator.build_tokenizer()


@given(st.sampled_from(tasks.TASKS), st.integers(0, 10**9))
def test_the_base_model_s_tokenizer_gives_every_example_back(task: tasks.Task, seed: int):
    message, answer = task.draw(random.Random(seed))
    for text in (message, answer, "Żółw 漢字 🙂 café"):
        assert LANGUAGE_TOKENIZER.decode(LANGUAGE_TOKENIZER.encode(text, add_special_tokens=False)) == text


LANGUAGE_TOKENIZER = language_model.build_tokenizer(1024)
