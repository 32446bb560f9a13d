"""What a model takes of a GPU's memory at the least, so that one that cannot fit is told before it waits in a queue.

A bound from below: weights, and for vLLM the cache of one answer of the greatest length; what a model computes with
comes on top. Imported by the Snakefile: nothing heavy here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corpusmith.errors import InputError
from corpusmith.models import ModelReceipt

GIB = 2**30
BYTES_OF_NUMBER = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
# Nothing in use keeps a weight in fewer than four bits.
_BYTES_QUANTISED = 0.5
# Weights that are stored so are kept so, whatever dtype says: those in FP8, or two of them in a byte.
_BYTES_STORED = {"float8_e4m3fn": 1, "float8_e5m2": 1, "int8": 1, "uint8": 1}
# vLLM's kv_cache_dtype: fp8 in all its spellings.
_BYTES_FP8 = 1
# What runs a model that every GPU must hold whole.
_WHOLE = ("reward", "comet")
_DECIDES = ("engine", "metric", "device", "dtype", "tp", "max_length", "parameters_b", "resources", "vllm")


def check_memory(placement: str, receipt: ModelReceipt) -> None:
    """Raises InputError where a fetched model cannot run on its GPUs. placement: its `placement_settings` as JSON."""
    problem = memory_problem(json.loads(placement), receipt, find_model_config(receipt))
    if problem is not None:
        raise InputError(f"{receipt.name} {problem}")


def placement_settings(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What of the config of a model or scorer decides whether it fits on its GPUs."""
    return {key: entry[key] for key in _DECIDES if key in entry}


def memory_problem(
    entry: Mapping[str, Any], receipt: ModelReceipt | None, model_config: Mapping[str, Any] | None
) -> str | None:
    """Why a model or scorer cannot run on its GPUs, as far as anybody knows; None where nothing speaks against it.

    entry: its config with defaults; receipt: None before it is fetched, where `parameters_b` counts; model_config: its
    config.json, None where it is not at hand.
    """
    gpu_gb, parameters = entry["resources"]["gpu_memory_gb"], _parameters(entry, receipt)
    if entry["device"] != "cuda" or gpu_gb is None or parameters is None:
        return None
    vllm = entry.get("vllm")
    whole = entry.get("metric") in _WHOLE or entry.get("engine") == "transformers"
    weights = parameters * _bytes_of_weight(entry, receipt) / (1 if whole else entry["tp"])
    cache, length = 0.0, 0
    if vllm is not None and model_config is not None:
        length = entry["max_length"] or _count(_config_of_text(model_config), "max_position_embeddings")
        cache = cache_bytes(model_config, length, entry["tp"], _bytes_of_cache(entry))
    room = gpu_gb * GIB * (vllm["gpu_memory_utilization"] if vllm is not None else 1.0)
    if weights + cache <= room:
        return None
    needs = f"{weights / GIB:,.1f} GB of each GPU for its weights"
    if cache:
        needs += f" and {cache / GIB:,.1f} GB for the cache of one answer of {length:,} tokens"
    what = "larger GPUs (resources.gpu_memory_gb)"
    what += "" if whole else ", a larger tp"
    what += ", a smaller max_length" if cache else ""
    return f"needs {needs}, and there are {room / GIB:,.1f} GB; allowed: {what}"


def cache_bytes(model_config: Mapping[str, Any], length: int, tp: int, bytes_of_number: float) -> float:
    """Bytes that keys and values of an answer of so many tokens take on each of `tp` GPUs, at the least.

    Per token and layer: a key and a value for each head of keys, at least one head on each GPU; with latent attention
    (kv_lora_rank, DeepSeek's) one vector for all heads, on each GPU. Layers that look back a window keep no more than
    it; layers without attention keep nothing that grows.
    """
    config = _config_of_text(model_config)
    layers, queries = _count(config, "num_hidden_layers"), _count(config, "num_attention_heads")
    heads = _count(config, "num_key_value_heads") or queries
    if not layers or not heads:
        return 0.0
    latent = _count(config, "kv_lora_rank")
    if latent:
        numbers: float = latent + _count(config, "qk_rope_head_dim")
    else:
        size = _count(config, "head_dim") or _count(config, "hidden_size") // (queries or 1)
        numbers = 2 * max(1.0, heads / tp) * size
    return _tokens_of_layers(config, layers, length) * numbers * bytes_of_number


def _tokens_of_layers(config: Mapping[str, Any], layers: int, length: int) -> int:
    """Tokens that are kept, over all layers."""
    window = min(length, _count(config, "sliding_window") or length)
    kinds, pattern = config.get("layer_types"), _count(config, "sliding_window_pattern")
    if kinds and isinstance(kinds, list):
        kept = {"full_attention": length, "sliding_attention": window, "chunked_attention": window}
        return sum(kept.get(str(kind), 0) for kind in kinds)
    if pattern:
        whole = layers // pattern
        return whole * length + (layers - whole) * window
    # A window without a word about layers may hold for all of them, or be switched off.
    return layers * window


def find_model_config(receipt: ModelReceipt | None) -> dict[str, Any] | None:
    """A fetched model's config.json; None where it is not on this machine."""
    if receipt is None or receipt.origin == "api":
        return None
    folder = receipt.folder
    if receipt.origin == "hub":
        name = f"models--{(receipt.repo or '').replace('/', '--')}"
        folder = _cache_of_hub() / name / "snapshots" / (receipt.revision or "")
    if folder is None:
        return None
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _cache_of_hub() -> Path:
    """Where huggingface_hub, which takes long to import, keeps what it has fetched."""
    given = os.environ.get
    home = given("HF_HOME") or f"{given('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    hub = given("HF_HUB_CACHE") or given("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(hub)).expanduser()


def _count(config: Mapping[str, Any], key: str) -> int:
    """A number of something; 0 where the config, which anybody may have written, has none."""
    value = config.get(key)
    return value if isinstance(value, int) and value > 0 else 0


def _config_of_text(model_config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Models that see pictures, too, keep what is asked here one level down."""
    text = model_config.get("text_config")
    return text if isinstance(text, Mapping) else model_config


def _parameters(entry: Mapping[str, Any], receipt: ModelReceipt | None) -> float | None:
    if receipt is not None and receipt.parameters is not None:
        return receipt.parameters
    billions = entry["parameters_b"]
    return None if billions is None else billions * 1e9


def _bytes_of_weight(entry: Mapping[str, Any], receipt: ModelReceipt | None) -> float:
    if (entry.get("vllm") or {}).get("quantization"):
        return _BYTES_QUANTISED
    stored = None if receipt is None or receipt.parameters is None else receipt.dtype
    return min(BYTES_OF_NUMBER[entry["dtype"]], _BYTES_STORED.get(stored or "", 8))


def _bytes_of_cache(entry: Mapping[str, Any]) -> float:
    kind = str(entry["vllm"]["options"].get("kv_cache_dtype", "auto"))
    return _BYTES_FP8 if kind.startswith("fp8") else BYTES_OF_NUMBER[entry["dtype"]]
