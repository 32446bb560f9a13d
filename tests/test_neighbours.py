"""Neighbours by embedding: who goes and for whom, whatever index finds them; embeddings; the program."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer

import drop_neighbours
from corpusmith import neighbours
from corpusmith.accounting import read_account
from corpusmith.embedding import EmbeddingModel
from corpusmith.errors import InputError
from corpusmith.identity import item_id
from corpusmith.models import describe_folder, write_receipt
from corpusmith.neighbours import find_neighbours
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import REJECTED_RESPONSES, RESPONSES
from toy_models import chain_model, letter_tokenizer, save_causal
from translation_tables import call_program

Vectors = NDArray[np.float32]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def at_degrees(*angles: float) -> Vectors:
    """Vectors of length 1 in a plane: the cosine of two is that of the angle between them."""
    radians = np.radians(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def clusters(rows: int, width: int, seed: int, spread: float = 0.15) -> Vectors:
    """Vectors of length 1, several around each of some centres."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((rows // 5, width))
    vectors = centres[rng.integers(0, len(centres), rows)] + spread * rng.standard_normal((rows, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def by_loop(vectors: Vectors, visits: NDArray[np.int64], similarity: float) -> dict[int, tuple[int, float]]:
    """The rule as it is said: one row after the other, held against each that stays, in their order."""
    stay: list[int] = []
    gone: dict[int, tuple[int, float]] = {}
    exact = vectors.astype(np.float64)
    exact /= np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-30)
    for row in visits.tolist():
        found = np.round(exact[stay] @ exact[row], 6) if stay else np.empty(0)
        near = np.flatnonzero(found >= similarity)
        if len(near):
            gone[row] = stay[near[0]], float(found[near[0]])
        else:
            stay.append(row)
    return gone


# --- who goes ---


def test_a_row_goes_for_a_row_that_stays_and_not_for_one_that_went() -> None:
    vectors = at_degrees(0, 10, 20)
    # cos 10° = 0.984808, cos 20° = 0.939693
    assert find_neighbours(vectors, np.arange(3), 0.98) == {1: (0, 0.984808)}
    assert find_neighbours(vectors, np.array([1, 0, 2]), 0.98) == {0: (1, 0.984808), 2: (1, 0.984808)}
    assert find_neighbours(vectors, np.arange(3), 0.93) == {1: (0, 0.984808), 2: (0, 0.939693)}
    assert find_neighbours(vectors, np.arange(3), 0.985) == {}


def test_of_several_that_stay_the_first_is_named_and_not_the_nearest() -> None:
    assert find_neighbours(at_degrees(0, 16, 9), np.arange(3), 0.985) == {2: (0, 0.987688)}


def test_a_row_without_an_embedding_is_nobodys_neighbour_and_equal_ones_are() -> None:
    vectors = np.concatenate([at_degrees(30, 30), np.zeros((2, 2), np.float32), at_degrees(30)])
    assert find_neighbours(vectors, np.arange(5), 1.0) == {1: (0, 1.0), 4: (0, 1.0)}


@pytest.mark.parametrize("similarity", [0.0, -0.5, 1.01, math.nan])
def test_a_similarity_that_nothing_can_have_is_refused(similarity: float) -> None:
    with pytest.raises(InputError, match="above 0 and at most 1"):
        find_neighbours(at_degrees(0), np.arange(1), similarity)


@pytest.mark.parametrize("similarity", [0.5, 0.9, 0.975])
@pytest.mark.parametrize("block", [7, 1024])
def test_what_goes_is_what_a_plain_loop_over_all_rows_finds(
    similarity: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    vectors = clusters(1500, 16, seed=3)
    vectors[[5, 700]] = 0
    visits = np.random.default_rng(4).permutation(1500)
    expected = by_loop(vectors, visits, similarity)
    assert 100 < len(expected) < 1450
    told: list[int] = []
    assert find_neighbours(vectors, visits, similarity, advance=told.append) == expected
    assert sum(told) == 1500


def test_with_cells_none_is_made_up_and_few_are_missed() -> None:
    vectors, visits = clusters(3000, 32, seed=5), np.arange(3000)
    expected = by_loop(vectors, visits, 0.95)
    found = find_neighbours(vectors, visits, 0.95, exact_up_to=2999)
    for row, (kept, similarity) in found.items():
        assert kept not in found
        assert 0.95 <= similarity == neighbours.cosine(vectors[row], vectors[kept])
    assert len(expected) > 1000
    assert len(found) >= 0.98 * len(expected)
    assert found == find_neighbours(vectors, visits, 0.95, exact_up_to=2999)


# --- embeddings ---

SHAPE = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": SHAPE | {"max_position_embeddings": 40},
    # Of 42 positions the first two are not for tokens.
    "roberta": SHAPE | {"max_position_embeddings": 42, "pad_token_id": 1},
    "qwen3": SHAPE | {"num_key_value_heads": 2, "head_dim": 8},
    "t5": {"d_model": 24, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
}
TEXTS = ["abc", "gfedcba" * 4, "a", "", "bcdbcd", "abcdefg" * 5, "dd"]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def make(architecture: str) -> Path:
        if architecture not in made:
            tokenizer = letter_tokenizer()
            config = AutoConfig.for_model(architecture, vocab_size=len(tokenizer), **ARCHITECTURES[architecture])
            torch.manual_seed(1)
            model = AutoModel.from_config(config).eval()
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.dim() > 1:
                        parameter.normal_(0.0, 0.4)
            made[architecture] = save_causal(model, tokenizer, tmp_path_factory.mktemp(architecture))
        return made[architecture]

    return make


@torch.inference_mode()
def alone(folder: Path, text: str) -> Vectors:
    """The mean over a text's tokens, computed by itself."""
    model, tokens = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    hidden = model(input_ids=torch.tensor([tokens])).last_hidden_state[0].double()
    mean = hidden.mean(0)
    return (mean / mean.norm()).numpy()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_embeddings_in_padded_batches_are_the_means_of_texts_alone(
    architecture: str, folder_of: Callable[[str], Path]
) -> None:
    folder = folder_of(architecture)
    model = EmbeddingModel(folder, tokens_per_batch=80)
    found = model.embed(TEXTS)
    assert (found.vectors.dtype, found.vectors.shape, found.truncated) == (np.float32, (len(TEXTS), 24), 0)
    np.testing.assert_allclose(found.vectors, [alone(folder, text) for text in TEXTS], atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)
    assert model.embed([]).vectors.shape == (0, 24)


def test_what_is_too_long_loses_its_end_and_is_counted(folder_of: Callable[[str], Path]) -> None:
    model = EmbeddingModel(folder_of("qwen3"), max_length=5, prefix="ab")
    # A token begins each text, and the prefix takes two.
    found = model.embed(["cd", "cde", "cdg"])
    assert found.truncated == 2
    np.testing.assert_allclose(found.vectors[1:], found.vectors[[0, 0]], atol=1e-6)
    for architecture in ("bert", "roberta"):
        assert EmbeddingModel(folder_of(architecture)).embed(["g" * 39, "g" * 40]).truncated == 1
    with pytest.raises(InputError, match="at most 1 tokens"):
        EmbeddingModel(folder_of("bert"), max_length=1)


def test_a_language_model_without_a_pooler_embeds_and_one_without_a_layer_does_not(tmp_path: Path) -> None:
    tokenizer = letter_tokenizer()
    config = AutoConfig.for_model("bert", vocab_size=len(tokenizer), **ARCHITECTURES["bert"])
    folder = save_causal(AutoModelForMaskedLM.from_config(config), tokenizer, tmp_path / "masked")
    assert EmbeddingModel(folder).embed(["abc"]).vectors.any()
    config.num_hidden_layers = 3
    config.save_pretrained(folder)
    with pytest.raises(InputError, match=r"the weights lack 16 tensors of the model, such as encoder\.layer\.2"):
        EmbeddingModel(folder)


def test_numbers_that_overflow_are_refused(tmp_path: Path) -> None:
    tokenizer = letter_tokenizer()
    model = AutoModel.from_config(AutoConfig.for_model("qwen3", vocab_size=len(tokenizer), **ARCHITECTURES["qwen3"]))
    with torch.no_grad():
        model.norm.weight.fill_(1e6)
    folder = save_causal(model, tokenizer, tmp_path)
    assert np.isfinite(EmbeddingModel(folder).embed(["abc"]).vectors).all()
    with pytest.raises(InputError, match=r"overflow in torch\.float16"):
        EmbeddingModel(folder, dtype="float16").embed(["abc"])


# --- the program ---


def response(number: int, instruction: str, reward: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {column.name: None for column in RESPONSES.columns}
    messages = [{"role": "user", "content": instruction}, {"role": "assistant", "content": "g"}]
    found |= {"item_id": item_id(str(number)), "instruction": instruction, "response": "g", "messages": messages}
    return found | {"reward": reward, "origin": "made", "generation_model": "made", "sample": 0, "candidates": 1}


@pytest.fixture(scope="module")
def counting_letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose embedding of a text is how often each token stands in it, with one that begins each text."""
    tokenizer = letter_tokenizer()
    folder = tmp_path_factory.mktemp("counting")
    save_causal(chain_model(tokenizer, {}), tokenizer, folder / "model")
    write_receipt(folder / "receipt.json", describe_folder(folder / "model", "counting", "built"))
    return folder / "receipt.json"


def flags_of(folder: Path, receipt: Path, *flags: str) -> list[str]:
    paths = ["--rows", folder / "rows", "--model", receipt, "--kept", folder / "kept"]
    paths += ["--rejected", folder / "rejected", "--account", folder / "account"]
    return [*map(str, paths), "--recipe", "instructions", "--column", "instruction", "--device", "cpu", *flags]


@pytest.fixture
def kept_ids(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Runs the program in this process, where torch is loaded; what it keeps."""

    def drop(folder: Path, receipt: Path, *flags: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["drop_neighbours.py", *flags_of(folder, receipt, *flags)])
        drop_neighbours.main()
        return [row["item_id"] for row in read_rows(folder / "kept", RESPONSES)]

    return drop


def test_the_program_keeps_the_best_of_neighbours_and_names_it(
    tmp_path: Path, counting_letters: Path, kept_ids: Callable[..., list[str]]
) -> None:
    # Tokens counted, the one that begins a text first: "aab" (1, 2, 1), "abb" (1, 1, 2): a cosine of 5 / 6.
    rows = [
        response(0, "aab", 1.0),
        response(1, "abb", 2.0),
        response(2, "baa", 0.5),
        response(3, "ccc", None),
        response(4, " ", 9.0),
        response(5, "ccc", -1.0),
    ]
    write_table(tmp_path / "rows", RESPONSES, rows)
    best = ("--similarity", "0.83", "--keep", "reward", "highest")
    done = call_program("drop_neighbours.py", *flags_of(tmp_path, counting_letters, *best))
    assert done.returncode == 0, done.stderr
    assert "neighbours: 3 of 6 rows kept; rejected: near_neighbour 3" in done.stderr
    assert list(read_rows(tmp_path / "kept", RESPONSES)) == [rows[1], rows[4], rows[5]]
    rejected = list(read_rows(tmp_path / "rejected", REJECTED_RESPONSES))
    ids = [row["item_id"] for row in rows]
    assert [(row["item_id"], row["reason"], row["detail"]) for row in rejected] == [
        (ids[0], "near_neighbour", f"similarity 0.833 with {ids[1]}"),
        (ids[2], "near_neighbour", f"similarity 0.833 with {ids[1]}"),
        (ids[3], "near_neighbour", f"similarity 1.000 with {ids[5]}"),
    ]
    account = read_account(tmp_path / "account")
    assert (account.stage, account.taken.count, account.kept.count) == ("neighbours", 6, 3)
    # The embeddings are gone.
    assert {path.name for path in tmp_path.iterdir()} == {"rows", "kept", "rejected", "account"}

    first = (tmp_path / "kept").read_bytes(), (tmp_path / "rejected").read_bytes()
    assert kept_ids(tmp_path, counting_letters, *best) == [ids[1], ids[4], ids[5]]
    assert ((tmp_path / "kept").read_bytes(), (tmp_path / "rejected").read_bytes()) == first
    # In their order 0 stays, and 1 and 2 go for it; with a higher threshold only what is equal goes.
    assert kept_ids(tmp_path, counting_letters, "--similarity", "0.83") == [ids[0], ids[3], ids[4]]
    assert kept_ids(tmp_path, counting_letters, "--similarity", "0.84") == [ids[0], ids[1], ids[3], ids[4]]


def test_an_empty_table_needs_no_model_and_a_wrong_column_is_refused(
    tmp_path: Path, kept_ids: Callable[..., list[str]]
) -> None:
    write_table(tmp_path / "rows", RESPONSES, [])
    assert kept_ids(tmp_path, tmp_path / "none.json") == []
    with pytest.raises(InputError, match="no numbers in 'instruction'; those with numbers: reward, sample, candidates"):
        kept_ids(tmp_path, tmp_path / "none.json", "--keep", "instruction", "highest")
