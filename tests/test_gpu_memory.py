"""Whether a model fits on its GPUs: weights and the cache of one answer, with worked-out figures of real models."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import try_to_load_from_cache
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.config import resolve_config
from corpusmith.errors import InputError
from corpusmith.gpu_memory import cache_bytes, check_memory, find_model_config, memory_problem, placement_settings
from corpusmith.models import ModelReceipt
from test_config import small

GIB = 2**30
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CACHE_VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME")

# What their config.json says.
LLAMA_8B = {
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
    "max_position_embeddings": 131072,
}  # fmt: skip
LLAMA_8B_PARAMETERS = 8_030_261_248
GEMMA_27B = {
    "num_hidden_layers": 62, "num_attention_heads": 32, "num_key_value_heads": 16, "hidden_size": 5376,
    "head_dim": 128, "sliding_window": 1024,
}  # fmt: skip
GEMMA_LAYERS = ["sliding_attention" if layer % 6 else "full_attention" for layer in range(1, 63)]
MISTRAL_7B = {
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
    "sliding_window": 4096, "max_position_embeddings": 32768,
}  # fmt: skip
DEEPSEEK_V3 = {
    "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128, "hidden_size": 7168,
    "kv_lora_rank": 512, "qk_rope_head_dim": 64, "max_position_embeddings": 163840,
}  # fmt: skip
DEEPSEEK_V3_PARAMETERS = 684_531_386_000
QWEN3_NEXT = {
    "num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 2, "hidden_size": 2048, "head_dim": 256,
    "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 12,
}  # fmt: skip


def entry_of(kind: str, gpu_gb: float | None, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a model or scorer with every default, on GPUs of so much memory."""
    config = small()
    config[kind]["it"] = {**entry, "resources": {"gpu_memory_gb": gpu_gb}}
    return resolve_config(config)[kind]["it"]


def model(gpu_gb: float | None, **changes: Any) -> dict[str, Any]:
    return entry_of("models", gpu_gb, {"engine": "vllm", "repo": "owner/model", **changes})


def scorer(gpu_gb: float | None, **changes: Any) -> dict[str, Any]:
    return entry_of("scorers", gpu_gb, {"metric": "metricx-24", "repo": "owner/scorer", **changes})


def receipt(
    parameters: int | None = LLAMA_8B_PARAMETERS, dtype: str | None = "bfloat16", **changes: Any
) -> ModelReceipt:
    values: dict[str, Any] = {
        "name": "teacher", "origin": "hub", "repo": "owner/model", "revision": COMMIT, "identity": "hub:owner/model",
        "files": (), "parameters": parameters, "dtype": dtype, "folder": None, "source": Path("fetch.json"),
    }  # fmt: skip
    return ModelReceipt(**(values | changes))


def fits(
    entry: Mapping[str, Any], parameters: int = LLAMA_8B_PARAMETERS, config: Any = None, dtype: str = "bfloat16"
) -> bool:
    return memory_problem(entry, receipt(parameters, dtype), config) is None


def remedies(problem: str | None) -> str:
    """What of a refusal says what may be changed."""
    assert problem is not None
    return problem.split("allowed:")[1]


# --- the cache ---


@pytest.mark.parametrize(
    ("config", "length", "tp", "expected"),
    [
        # 32 layers, a key and a value of 128 numbers for each of 8 heads: 131,072 bytes a token, 16 GiB in all.
        pytest.param(LLAMA_8B, 1, 1, 131072, id="one token of Llama 8B"),
        pytest.param(LLAMA_8B, 131072, 1, 16 * GIB, id="a whole context of Llama 8B"),
        pytest.param(LLAMA_8B, 131072, 8, 2 * GIB, id="a head on each of 8 GPUs"),
        pytest.param(LLAMA_8B, 131072, 16, 2 * GIB, id="no less than a head on each of 16 GPUs"),
        # 10 of 62 layers see everything, 52 see 1,024 tokens; 8,192 bytes a token and layer.
        pytest.param(GEMMA_27B | {"layer_types": GEMMA_LAYERS}, 131072, 1,
                     (10 * 131072 + 52 * 1024) * 8192, id="Gemma"),
        pytest.param({"text_config": GEMMA_27B | {"layer_types": GEMMA_LAYERS}}, 131072, 4,
                     (10 * 131072 + 52 * 1024) * 2048, id="Gemma with pictures, on 4 GPUs"),
        pytest.param({"text_config": GEMMA_27B | {"sliding_window_pattern": 6}}, 131072, 1,
                     (10 * 131072 + 52 * 1024) * 8192, id="Gemma by its pattern"),
        pytest.param(GEMMA_27B | {"sliding_window_pattern": 6}, 512, 1, 62 * 512 * 8192, id="shorter than the window"),
        # The file in google/gemma-3-27b-it tells of the window alone: no more is certain.
        pytest.param({"text_config": GEMMA_27B}, 131072, 1, 62 * 1024 * 8192, id="Gemma without a word about layers"),
        pytest.param(MISTRAL_7B, 32768, 1, 4096 * 131072, id="a window in all layers"),
        pytest.param(MISTRAL_7B | {"sliding_window": None}, 32768, 1, 32768 * 131072, id="a window switched off"),
        # 512 + 64 numbers a layer, for all heads: 61 · 576 · 2 = 70,272 bytes a token on every GPU.
        pytest.param(DEEPSEEK_V3, 163840, 1, 163840 * 70272, id="latent attention"),
        pytest.param(DEEPSEEK_V3, 163840, 8, 163840 * 70272, id="latent attention is shared by no GPUs"),
        # 12 layers of 48 with attention, 2 heads of 256 numbers: 2,048 bytes a token and layer.
        pytest.param(QWEN3_NEXT, 262144, 1, 12 * 262144 * 2048, id="layers without attention"),
        # As many heads of keys as of queries where nothing else is said: Pythia 1.4B, 24 layers of 16 heads of 128.
        pytest.param({"num_hidden_layers": 24, "num_attention_heads": 16, "hidden_size": 2048}, 2048, 1,
                     24 * 2 * 2048 * 2 * 2048, id="heads of keys are not told"),
        pytest.param({}, 131072, 1, 0, id="a config that tells nothing"),
    ],
)  # fmt: skip
def test_the_cache_of_an_answer_is_as_large_as_the_model_s_attention_makes_it(
    config: dict[str, Any], length: int, tp: int, expected: int
) -> None:
    assert cache_bytes(config, length, tp, 2) == expected
    assert cache_bytes(config, length, tp, 1) == expected / 2


# --- weights and cache on GPUs ---


def test_the_longest_answer_that_fits_is_found_to_the_token() -> None:
    # 24 GiB · 0.9 less 2 · 8,030,261,248 bytes of weights is 7,132,300,902 bytes: 54,415 tokens of 131,072.
    assert fits(model(24, max_length=54415), config=LLAMA_8B)
    problem = memory_problem(model(24, max_length=54416), receipt(), LLAMA_8B)
    assert "54,416" in (problem or "")
    assert "15.0 GB" in (problem or "")
    assert all(key in remedies(problem) for key in ("resources.gpu_memory_gb", "tp", "max_length"))


def test_without_a_greatest_length_of_ours_the_model_s_counts() -> None:
    # 14.96 GiB of weights and 16 GiB of cache want 34.4 GiB of which 0.9 may be used.
    assert not fits(model(34), config=LLAMA_8B)
    assert fits(model(35), config=LLAMA_8B)


def test_gpus_share_weights_and_heads() -> None:
    # Of the same 30.96 GiB a half is on each of two GPUs.
    assert not fits(model(17, tp=2), config=LLAMA_8B)
    assert fits(model(18, tp=2), config=LLAMA_8B)


def test_more_gpus_than_heads_share_weights_alone() -> None:
    # On each of 16: 0.93 GiB of weights, and 2 GiB of cache as on each of 8.
    assert not fits(model(3.2, tp=16), config=LLAMA_8B)
    assert fits(model(3.3, tp=16), config=LLAMA_8B)


def test_the_share_of_memory_that_vllm_takes_is_all_there_is() -> None:
    utilisation = {"gpu_memory_utilization": 0.5}
    assert fits(model(32, max_length=8192, vllm=utilisation), config=LLAMA_8B)  # 14.96 + 1 of 16 GiB
    assert not fits(model(31, max_length=8192, vllm=utilisation), config=LLAMA_8B)


def test_without_the_model_s_config_weights_alone_count() -> None:
    problem = memory_problem(model(16), receipt(), None)
    assert "max_length" not in remedies(problem)
    assert fits(model(17), config=None)


@pytest.mark.parametrize("kind", ["fp8", "fp8_e4m3", "fp8_e5m2"])
def test_a_cache_in_fp8_is_half_as_large(kind: str) -> None:
    # 14.96 + 8 GiB of 0.9 · 26 GiB.
    assert fits(model(26, vllm={"options": {"kv_cache_dtype": kind}}), config=LLAMA_8B)
    assert not fits(model(26, vllm={"options": {"kv_cache_dtype": "auto"}}), config=LLAMA_8B)


def test_a_wider_number_format_makes_weights_and_cache_wider() -> None:
    # 29.92 GiB of weights and 32 GiB of cache.
    assert not fits(model(68, dtype="float32"), config=LLAMA_8B)
    assert fits(model(69, dtype="float32"), config=LLAMA_8B)


def test_a_quantised_model_is_refused_only_where_four_bits_a_weight_are_too_many() -> None:
    # 70.6 billion weights: 131.5 GiB in bfloat16, 32.9 in 4 bits.
    seventy = 70_553_706_496
    assert not fits(model(80), seventy)
    assert fits(model(80, vllm={"quantization": "awq"}), seventy)
    assert not fits(model(36, vllm={"quantization": "awq"}), seventy)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "uint8"])
def test_weights_that_are_stored_in_a_byte_take_one_also_where_nobody_asked_for_it(dtype: str) -> None:
    # DeepSeek V3 in FP8 on 8 GPUs: 79.7 GiB on each; two bytes a weight would be 159.4. gpt-oss packs two into a byte.
    assert fits(model(141, tp=8), DEEPSEEK_V3_PARAMETERS, dtype=dtype)
    assert not fits(model(88, tp=8), DEEPSEEK_V3_PARAMETERS, dtype=dtype)
    assert not fits(model(141, tp=8), DEEPSEEK_V3_PARAMETERS, dtype="bfloat16")


@pytest.mark.parametrize(
    ("entry", "bytes_of_weight"),
    [
        (model(15, engine="transformers", tp=4), 2),
        (model(30, engine="transformers", dtype="float32"), 4),
        (model(60, engine="transformers", dtype="float64"), 8),
        (scorer(15, metric="reward", reward={"form": "chat"}, tp=4), 2),
        (scorer(15, metric="reward", reward={"form": "chat"}), 2),
        (scorer(15, metric="comet", tokenizer={"repo": "owner/encoder"}, tp=2), 2),
    ],
)  # fmt: skip
def test_what_every_gpu_must_hold_whole_is_not_helped_by_more_gpus(entry: dict[str, Any], bytes_of_weight: int) -> None:
    room = int(entry["resources"]["gpu_memory_gb"] * GIB / bytes_of_weight)
    assert fits(entry, room)
    problem = memory_problem(entry, receipt(room + 1), None)
    assert "resources.gpu_memory_gb" in remedies(problem)
    assert "tp" not in remedies(problem)


def test_a_metricx_is_split_among_its_gpus() -> None:
    # 13 billion weights: 24.2 GiB in bfloat16, and a scorer takes all memory there is.
    thirteen = 12_921_057_280
    problem = memory_problem(scorer(24), receipt(thirteen), None)
    assert "tp" in remedies(problem)
    assert fits(scorer(24, tp=2), thirteen)
    assert fits(scorer(24.1), thirteen)


# --- what is known, and when ---


def test_where_something_is_not_known_nothing_is_refused() -> None:
    huge = 10**15
    assert memory_problem(model(None, parameters_b=1e6), receipt(huge), LLAMA_8B) is None
    assert memory_problem(model(1), None, None) is None
    assert memory_problem(model(1), receipt(None, None), LLAMA_8B) is None
    assert memory_problem(model(1, device="cpu", parameters_b=1e6), receipt(huge), None) is None
    server = {"engine": "openai", "openai": {"base_url": "https://example.org/v1", "model": "large"}}
    assert memory_problem(entry_of("models", 1, {**server, "parameters_b": 1e6}), None, None) is None


def test_before_it_is_fetched_parameters_b_counts_and_then_its_files_do() -> None:
    said_too_large, said_too_small = model(24, parameters_b=70.6), model(24, parameters_b=0.5)
    assert memory_problem(said_too_large, None, None) is not None
    assert memory_problem(said_too_large, receipt(), None) is None
    assert memory_problem(said_too_small, None, None) is None
    assert memory_problem(said_too_small, receipt(70_553_706_496), None) is not None
    # *.bin files do not tell.
    assert memory_problem(said_too_large, receipt(None, None), None) is not None


def test_a_job_is_told_all_that_decides(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    local = receipt(origin="local", repo=None, revision=None, folder=tmp_path)
    entries = [
        model(34), model(35), model(34, max_length=4096), model(17, tp=2), model(69, dtype="float32"),
        model(26, vllm={"options": {"kv_cache_dtype": "fp8"}}), model(5, vllm={"quantization": "awq"}, max_length=10),
        model(15, engine="transformers", tp=2), model(14, engine="transformers", tp=2), model(1, device="cpu"),
        scorer(15), scorer(14), scorer(14, metric="reward", reward={"form": "pair"}, tp=2),
    ]  # fmt: skip
    verdicts = []
    for entry in entries:
        problem = memory_problem(entry, local, LLAMA_8B)
        if problem is None:
            check_memory(json.dumps(placement_settings(entry)), local)
        else:
            with pytest.raises(InputError) as refused:
                check_memory(json.dumps(placement_settings(entry)), local)
            assert str(refused.value) == f"teacher {problem}"
        verdicts.append(problem is None)
    assert verdicts == [False, True, True, False, True, True, True, True, False, True, True, False, False]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
ON_24_GB = model(24)
KEYS = sorted({"sliding_window_pattern", *GEMMA_27B, *DEEPSEEK_V3, *QWEN3_NEXT})
ANY_CONFIG = st.dictionaries(
    st.sampled_from([*KEYS, "text_config"]), JSON | st.dictionaries(st.sampled_from(KEYS), JSON)
)


@given(config=ANY_CONFIG, max_length=st.none() | st.integers(1, 10**7), tp=st.integers(1, 16))
def test_no_config_of_a_model_s_however_odd_ends_a_build(config: Any, max_length: int | None, tp: int) -> None:
    entry = ON_24_GB | {"max_length": max_length, "tp": tp}
    memory_problem(entry, receipt(), config)
    # What cannot be read is not counted: with nothing but the odd, the weights fit.
    assert memory_problem(entry, receipt(), {"layer_types": config, "num_hidden_layers": "32"}) is None


@given(
    config=st.sampled_from([LLAMA_8B, MISTRAL_7B, DEEPSEEK_V3, QWEN3_NEXT, GEMMA_27B | {"layer_types": GEMMA_LAYERS}]),
    lengths=st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)).map(sorted),
    tps=st.tuples(st.integers(1, 32), st.integers(1, 32)).map(sorted),
)
def test_longer_answers_never_take_less_and_more_gpus_never_more(
    config: dict[str, Any], lengths: list[int], tps: list[int]
) -> None:
    assert cache_bytes(config, lengths[0], tps[0], 2) <= cache_bytes(config, lengths[1], tps[0], 2)
    on_each = [cache_bytes(config, lengths[1], tp, 2) for tp in (1, *tps)]
    assert on_each == sorted(on_each, reverse=True)
    assert on_each[1] * tps[0] >= on_each[0] * (1 - 1e-9)


# --- config.json ---


def test_a_fetched_model_s_config_is_found_wherever_huggingface_hub_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments = [
        {},
        {"XDG_CACHE_HOME": str(tmp_path / "xdg")},
        {"HF_HOME": str(tmp_path / "home of hf"), "XDG_CACHE_HOME": str(tmp_path / "not here")},
        {"HF_HOME": "~/hf"},
        {"HF_HOME": "$SCRATCH/hf"},
        {"HUGGINGFACE_HUB_CACHE": str(tmp_path / "old name"), "HF_HOME": str(tmp_path / "not here")},
        {"HF_HUB_CACHE": "~/$SCRATCH_NAME/hub", "HUGGINGFACE_HUB_CACHE": str(tmp_path / "not here")},
    ]
    always = {"HOME": str(tmp_path / "user"), "SCRATCH": str(tmp_path / "scratch"), "SCRATCH_NAME": "folder"}
    # What huggingface_hub itself makes of them; it reads them once, when it is imported.
    code = "import importlib, json, os, sys; from huggingface_hub import constants\n"
    code += "for given in json.load(sys.stdin):\n"
    code += f"    [os.environ.pop(name, None) for name in {CACHE_VARIABLES}]; os.environ.update(given)\n"
    code += "    print(importlib.reload(constants).HF_HUB_CACHE)\n"
    caches = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps([always | changes for changes in environments]),
        check=True, capture_output=True, text=True, timeout=300,
    ).stdout.splitlines()  # fmt: skip
    assert len(set(caches)) == len(environments)
    for cache, changes in zip(caches, environments, strict=True):
        with monkeypatch.context() as patch:
            for name in CACHE_VARIABLES:
                patch.delenv(name, raising=False)
            for name, value in {**always, **changes}.items():
                patch.setenv(name, value)
            assert find_model_config(receipt()) is None, changes
            file = Path(cache) / "models--owner--model" / "snapshots" / COMMIT / "config.json"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps({"found": cache}))
            assert try_to_load_from_cache("owner/model", "config.json", cache_dir=cache, revision=COMMIT) == str(file)
            assert find_model_config(receipt()) == {"found": cache}, changes
            assert find_model_config(receipt(revision="f" * 40)) is None


@pytest.mark.parametrize("origin", ["local", "built"])
def test_a_model_in_a_folder_has_its_config_there(tmp_path: Path, origin: str) -> None:
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 2}')
    assert find_model_config(receipt(origin=origin, folder=tmp_path)) == {"num_hidden_layers": 2}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1, 2]", b"null", b'"text"', b"\xff\xfe{}", b"[" * 100_000, b"{}{}"],
    ids=lambda text: text[:4],
)
def test_a_broken_config_tells_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    assert find_model_config(receipt(origin="local", folder=tmp_path)) is None


def test_a_model_without_a_config_on_this_machine_has_none(tmp_path: Path) -> None:
    assert find_model_config(None) is None
    assert find_model_config(receipt(None, None, origin="api")) is None
    assert find_model_config(receipt(origin="local", folder=None)) is None
    assert find_model_config(receipt(origin="local", folder=tmp_path / "gone")) is None
    (tmp_path / "config.json").mkdir()
    assert find_model_config(receipt(origin="local", folder=tmp_path)) is None
