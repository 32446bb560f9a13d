"""The engine that a model's config asks for, by the flags of a program."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from corpusmith.devices import check_devices
from corpusmith.engines.hosted import HostedWorker
from corpusmith.engines.protocol import ENGINES, Answer, Question, Renderer, Worker
from corpusmith.engines.supervised import SupervisedEngine
from corpusmith.errors import InputError
from corpusmith.gpu_claims import claimed_when_asked
from corpusmith.models import folder_of, read_receipt
from corpusmith.program import json_object, log
from corpusmith.stopping import Stopping


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say which model is asked, and how: they decide what its answers are known by."""
    parser.add_argument("--model", required=True, help="receipt of the model")
    parser.add_argument("--engine", required=True, choices=ENGINES, help="what runs the model")
    parser.add_argument("--dtype", default="bfloat16", help="number format, as torch names it (default: bfloat16)")
    parser.add_argument("--max-length", type=int, help="most tokens of prompt and answer (default: the model's)")
    parser.add_argument("--trust-remote-code", action="store_true", help="let code that comes with the model run")
    parser.add_argument("--settings", default="{}", help="JSON: what changes the answers of the engine (default: {})")
    parser.add_argument("--tuning", default="{}", help="JSON: its other settings, such as base_url (default: {})")


def choose_renderer(flags: argparse.Namespace) -> Renderer:
    """What makes the prompts of the model, and the keys of their answers, without starting anything."""
    settings = _settings(flags)
    if flags.engine == "openai":
        from corpusmith.engines.openai_engine import OpenAIEngine

        if not {"base_url", "model"} <= set(settings):
            raise InputError('--engine openai wants --tuning \'{"base_url": "https://…/v1", "model": "…"}\'')
        return OpenAIEngine(**settings)
    from corpusmith.engines.rendering import ModelRenderer

    if flags.engine == "vllm":
        from corpusmith.engines import vllm_engine

        family = vllm_engine.family_of(flags.dtype, settings.get("quantization"), settings.get("options") or {})
    else:
        from corpusmith.engines import transformers_engine

        family = transformers_engine.family_of(flags.dtype)
    folder = folder_of(read_receipt(flags.model))
    return ModelRenderer(folder, family, flags.max_length, flags.trust_remote_code)


def choose_engine(
    flags: argparse.Namespace, *, stall_timeout: float, stopping: Stopping, resources: ExitStack
) -> SupervisedEngine:
    """The engine, which starts with the first question: GPUs are claimed then, and held until `resources` closes."""
    wanted = flags.tp if flags.engine != "openai" and flags.device == "cuda" else 0
    claim, settings = claimed_when_asked(wanted, resources), _settings(flags)

    def start(share: float) -> Worker[Question, Answer]:
        claim()
        return _start(flags, settings, share)

    engine = SupervisedEngine(choose_renderer(flags), start, stall_timeout=stall_timeout, stopping=stopping)
    resources.callback(engine.close)
    return engine


def _start(flags: argparse.Namespace, settings: dict[str, Any], share: float) -> Worker[Question, Answer]:
    """Starts the engine. share: of the batch that the config asks for."""
    if flags.engine == "openai":
        from corpusmith.engines.openai_engine import OpenAIEngine

        log.info("asking %s at %s", settings["model"], settings["base_url"])
        return OpenAIEngine(**settings)
    folder = folder_of(read_receipt(flags.model))
    log.info("loading %s", folder)
    model = {name: getattr(flags, name) for name in ("device", "dtype", "max_length", "trust_remote_code")}
    if flags.engine == "vllm":
        from corpusmith.engines.vllm_engine import MAX_NUM_SEQS, VllmEngine

        check_devices(flags.device, flags.tp)
        most = max(1, int(share * settings.get("max_num_seqs", MAX_NUM_SEQS)))
        return VllmEngine(folder, tp=flags.tp, **model, **settings | {"max_num_seqs": most})
    batch_size = max(1, int(share * flags.batch_size))
    return HostedWorker(partial(_make_transformers, folder, flags.tp, batch_size, model))


def _make_transformers(folder: Path, tp: int, batch_size: int, model: dict[str, Any]) -> Worker[Question, Answer]:
    check_devices(model["device"], tp)
    from corpusmith.engines.transformers_engine import TransformersEngine

    return TransformersEngine(folder, batch_size=batch_size, **model)


def _settings(flags: argparse.Namespace) -> dict[str, Any]:
    return {**json_object(flags.settings, "--settings"), **json_object(flags.tuning, "--tuning")}
