"""What the two programs of tuning share: their flags, and the way from rows and a base to a tuned model."""

from __future__ import annotations

import argparse
import glob
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corpusmith.errors import InputError
from corpusmith.files import whole_folder, write_json
from corpusmith.gpu_claims import claimed_gpus
from corpusmith.gpu_memory import find_model_config
from corpusmith.models import ModelReceipt, describe_files, describe_folder, folder_of, read_receipt, write_receipt
from corpusmith.program import json_object, log
from corpusmith.stopping import Stopping, job_end, parse_deadline
from corpusmith.tuning.checkpoints import others
from corpusmith.tuning.job import Job, read_earlier
from corpusmith.tuning.record import loss_rows, write_loss_picture, write_losses
from corpusmith.tuning.settings import ADAPTATIONS, PRESETS, quantization_of


def add_tuning_flags(parser: argparse.ArgumentParser, adaptations: tuple[str, ...] = ADAPTATIONS) -> None:
    """The flags."""
    parser.add_argument("--name", required=True, help="the tuning's name in the config")
    parser.add_argument("--base", required=True, help="receipt of the model to tune")
    parser.add_argument("--adapter", help="receipt or folder of an earlier tuning of the same base to go on with")
    parser.add_argument("--data", nargs="+", required=True, help="files of rows, as globs; Parquet or JSON lines")
    parser.add_argument("--evaluation-data", nargs="+", help="files of rows to evaluate on, as globs")
    parser.add_argument("--adaptation", choices=adaptations, default="lora", help="what is trained (default: lora)")
    parser.add_argument("--lora-r", type=int, default=8, help="rank of LoRA (default: 8)")
    parser.add_argument("--lora-alpha", type=float, default=16, help="LoRA counts alpha / r times (default: 16)")
    parser.add_argument("--lora-dropout", type=float, default=0.05, help="dropout of LoRA (default: 0.05)")
    parser.add_argument("--lora-targets", nargs="+", help="names of the layers with LoRA (default: all linear ones)")
    parser.add_argument("--prompt-tokens", type=int, default=16, help="length of a trained prompt (default: 16)")
    parser.add_argument("--prompt-text", help="text that a prompt begins as (default: tokens at random)")
    parser.add_argument("--max-length", type=int, default=1024, help="tokens, 0 for no end (default: 1024)")
    parser.add_argument("--seed", type=int, default=1, help="seed of new weights and of the order (default: 1)")
    parser.add_argument("--preset", choices=PRESETS, default="none", help="arguments for a card (default: none)")
    parser.add_argument(
        "--quantization",
        choices=("auto", "none", "4bit"),
        default="auto",
        help="of the base; auto is what the preset says (default: auto)",
    )
    parser.add_argument("--arguments", default="{}", help="arguments of TRL's trainer as JSON (default: {})")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="where it runs (default: cuda)")
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="arithmetic; auto is bfloat16 on a GPU, else float32 (default: auto)",
    )
    parser.add_argument("--gpus", type=int, default=1, help="GPUs, with a process and a copy each (default: 1)")
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="whether code that comes with the base may run"
    )
    parser.add_argument("--checkpoints", required=True, help="folder of checkpoints; gone when the training is done")
    parser.add_argument("--checkpoint-minutes", type=float, default=10.0, help="minutes between them (default: 10)")
    parser.add_argument("--deadline", help="when this job ends, such as 2030-12-31T23:30 (default: SLURM is asked)")
    parser.add_argument(
        "--drain-seconds", type=float, default=120.0, help="it stops so long before the deadline (default: 120)"
    )
    parser.add_argument("--folder", required=True, help="folder to write the model to")
    parser.add_argument("--receipt", required=True, help="its receipt to write")
    parser.add_argument("--training", required=True, help="training.json to write: what the training was like")
    parser.add_argument("--losses", required=True, help="table of losses to write")
    parser.add_argument("--picture", required=True, help="picture of the losses to write, PNG")


def add_sft_flags(parser: argparse.ArgumentParser) -> None:
    """Those of SFT alone."""
    parser.add_argument(
        "--loss-on", choices=("assistant", "all"), default="assistant", help="what is learnt (default: assistant)"
    )
    parser.add_argument("--row-prompt", help="prompt file that makes the question of a row, with its columns as names")
    parser.add_argument("--row-completion", help="column of the answer to it")
    parser.add_argument("--row-columns", default="{}", help="JSON: further names of columns there (default: {})")
    parser.add_argument("--row-values", default="{}", help="JSON: further names there (default: {})")
    parser.add_argument("--row-texts", action="store_true", help="rows become texts, without the chat template")


def tune(flags: argparse.Namespace, method: str) -> None:
    """Does it all. method: sft or dpo."""
    # Nobody is to be told what is trained here. It is read when the libraries are imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    deadline = parse_deadline(flags.deadline) if flags.deadline else job_end()
    # One process sees its GPUs alone: the trainer would take all that it sees.
    gpus = flags.gpus if flags.device == "cuda" else 0
    with Stopping(deadline, flags.drain_seconds) as stopping, claimed_gpus(gpus, "--gpus"):
        base = read_receipt(flags.base)
        earlier = read_earlier(flags.adapter, base, flags.adaptation) if flags.adapter else None
        job, counts = _prepare(flags, method, base, earlier)
        checkpoints = Path(flags.checkpoints)
        for other in others(checkpoints, job.fingerprint):
            log.info("checkpoints of other rows or settings stay aside until this is done: %s", checkpoints / other)
        with whole_folder(flags.folder) as folder:
            outcome = _train(job, folder, checkpoints, stopping)
            if outcome is None:
                stopping.check()
                raise AssertionError("a training stops for a reason")
        write_receipt(flags.receipt, _described(flags, job))
        losses = loss_rows(outcome.history, method)
        write_losses(flags.losses, losses, method)
        write_loss_picture(flags.picture, losses, flags.name)
        write_json(flags.training, _record(flags, job, base, earlier, counts, outcome))
        shutil.rmtree(checkpoints, ignore_errors=True)
    log.info(
        "%s steps in %.1f s, %s of %s parameters trained, %s MB at most",
        f"{outcome.steps:,}", outcome.seconds, f"{outcome.trainable_parameters:,}", f"{outcome.parameters:,}",
        f"{outcome.peak_memory_mb:,}",
    )  # fmt: skip


def _prepare(
    flags: argparse.Namespace, method: str, base: ModelReceipt, earlier: tuple[str, dict[str, Any]] | None
) -> tuple[Job, dict[str, Any]]:
    """All that the training needs, with its rows as tokens in a file; and what became of the rows."""
    quantization = quantization_of(vars(flags))
    if quantization == "4bit" and flags.adaptation == "full":
        raise InputError("weights in 4 bits cannot be trained; give --quantization none, or --adaptation lora")
    given = json_object(flags.arguments, "--arguments")
    folder = folder_of(base)
    evaluation_data = [pattern for pattern in flags.evaluation_data or [] if glob.glob(pattern)]
    if flags.evaluation_data and not evaluation_data:
        log.warning("there is no row in %s: nothing is evaluated on", ", ".join(flags.evaluation_data))
    # Below what is cheap to check: these take seconds.
    from corpusmith.tuning.adaptation import check_gpus, load_tokenizer
    from corpusmith.tuning.arguments import resolve_arguments

    arguments = resolve_arguments(
        method, flags.adaptation, flags.device, flags.preset, given, evaluated=bool(evaluation_data)
    )
    check_gpus(flags.device, flags.gpus, quantization)
    tokenizer = load_tokenizer(folder, flags.trust_remote_code)
    rows = Path(flags.checkpoints) / "rows"
    cut_by_trainer = arguments.get("packing") and arguments.get("packing_strategy") in ("bfd_split", "wrapped")
    longest = _longest(flags, base)
    max_length = None if cut_by_trainer else longest
    counts = _write_rows(flags, method, tokenizer, max_length, flags.data, rows / "train.arrow")
    evaluated: Mapping[str, Any] | None = None
    if evaluation_data:
        evaluated = _write_rows(flags, method, tokenizer, max_length, evaluation_data, rows / "evaluation.arrow")
    dtype = {"cpu": "float32", "cuda": "bfloat16"}[flags.device] if flags.dtype == "auto" else flags.dtype
    of_lora = {key: getattr(flags, f"lora_{key}") for key in ("r", "alpha", "dropout", "targets")}
    job = Job(
        name=flags.name,
        method=method,
        base=str(folder),
        base_name=base.repo or base.name,
        base_identity=base.identity,
        stored_dtype=base.dtype,
        adapter=earlier[0] if earlier is not None else None,
        adapter_identity=earlier[1]["identity"] if earlier is not None else None,
        adaptation=flags.adaptation,
        lora=of_lora if flags.adaptation == "lora" and earlier is None else {},
        prompt={"tokens": flags.prompt_tokens, "text": flags.prompt_text} if flags.adaptation == "prompt" else {},
        rows=str(rows / "train.arrow"),
        rows_digest=counts["sha256"],
        evaluation_rows=str(rows / "evaluation.arrow") if evaluated is not None else None,
        evaluation_digest=evaluated["sha256"] if evaluated is not None else None,
        arguments=arguments,
        max_length=longest,
        seed=flags.seed,
        device=flags.device,
        dtype=dtype,
        quantization=quantization,
        gpus=flags.gpus,
        trust_remote_code=flags.trust_remote_code,
        checkpoint_minutes=flags.checkpoint_minutes,
    )
    return job, counts


def _longest(flags: argparse.Namespace, base: ModelReceipt) -> int | None:
    """Most tokens of a row: what is asked for, as far as the base has positions. None where nobody knows an end."""
    config = find_model_config(base) or {}
    positions = config.get("text_config", config).get("max_position_embeddings")
    limits = [flags.max_length] if flags.max_length else []
    if positions:
        # A trained prompt takes some.
        limits.append(positions - (flags.prompt_tokens if flags.adaptation == "prompt" else 0))
    return min(limits, default=None)


def _write_rows(
    flags: argparse.Namespace, method: str, tokenizer: Any, max_length: int | None, patterns: list[str], path: Path
) -> dict[str, Any]:
    from corpusmith.tuning.rows import read_tuning_rows
    from corpusmith.tuning.tokens import DpoEncoder, SftEncoder, check_template, write_tokens

    found = read_tuning_rows(patterns, method, _asking(flags) if method == "sft" else None)
    rows = check_template(found, tokenizer, read_receipt(flags.base).name)
    learning = SftEncoder(tokenizer, max_length, flags.loss_on) if method == "sft" else None
    encoder = learning or DpoEncoder(tokenizer, max_length)
    counts = write_tokens(path, rows, encoder)
    encoder.counts.warn(max_length)
    return counts


def _asking(flags: argparse.Namespace) -> Any:
    """How rows without conversations become some; None where they hold them."""
    from corpusmith.prompts import load_prompt
    from corpusmith.tuning.rows import Asking

    if (flags.row_prompt is None) != (flags.row_completion is None):
        raise InputError("--row-prompt and --row-completion go together; give both, or neither")
    if flags.row_prompt is None:
        return None
    return Asking(
        prompt=load_prompt(flags.row_prompt),
        completion=flags.row_completion,
        columns=json_object(flags.row_columns, "--row-columns"),
        values=json_object(flags.row_values, "--row-values"),
        texts=flags.row_texts,
    )


def _train(job: Job, folder: Path, checkpoints: Path, stopping: Stopping) -> Any:
    """Trains, here or in several processes. folder: where the model goes."""
    from dataclasses import replace

    state = checkpoints / job.fingerprint
    state.mkdir(parents=True, exist_ok=True)
    job = replace(job, state=str(state.absolute()), model=str(folder.absolute()), rows=str(Path(job.rows).absolute()))
    if job.evaluation_rows is not None:
        job = replace(job, evaluation_rows=str(Path(job.evaluation_rows).absolute()))
    if job.gpus > 1:
        from corpusmith.tuning.processes import train_in_processes

        with tempfile.TemporaryDirectory() as told:
            return train_in_processes(job, Path(told), stopping)
    from corpusmith.tuning.training import train

    return train(job, lambda: stopping.reason is not None, stopping.attended)


def _described(flags: argparse.Namespace, job: Job) -> dict[str, Any]:
    """The receipt. An adapter has no config.json of its own."""
    if job.adaptation == "full":
        return describe_folder(flags.folder, flags.name, "built")
    return describe_files(flags.folder, flags.name) | {"origin": "built"}


def _record(
    flags: argparse.Namespace,
    job: Job,
    base: ModelReceipt,
    earlier: tuple[str, dict[str, Any]] | None,
    counts: Mapping[str, Any],
    outcome: Any,
) -> dict[str, Any]:
    """training.json."""
    where = f"{base.repo}@{base.revision}" if base.repo else os.path.relpath(job.base, Path(flags.training).parent)
    return {
        "name": flags.name,
        "method": job.method,
        "adaptation": job.adaptation,
        "identity": read_receipt(flags.receipt).identity,
        "base": base.name,
        "base_identity": base.identity,
        "base_folder_or_repo": Path(where).as_posix() if not base.repo else where,
        "adapter_of": earlier[1]["name"] if earlier is not None else None,
        "steps": outcome.steps,
        "epochs": outcome.epochs,
        "seconds": outcome.seconds,
        "parameters": outcome.parameters,
        "trainable_parameters": outcome.trainable_parameters,
        "peak_memory_mb": outcome.peak_memory_mb,
        "rows": counts["rows"],
        "truncated_rows": counts["truncated"],
        "dropped_rows": counts["dropped"],
        "longest_row": counts["longest"],
        "unlearnt_turns": counts["unlearnt_turns"],
        "max_length": job.max_length,
        "device": job.device,
        "gpus": job.gpus,
        "dtype": job.dtype,
        "quantization": job.quantization,
        "seed": job.seed,
        "lora": job.lora or (earlier[1]["lora"] if earlier is not None else None) or None,
        "prompt": job.prompt or None,
        "arguments": job.arguments,
        "fingerprint": job.fingerprint,
    }
