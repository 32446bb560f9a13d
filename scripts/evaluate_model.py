"""Evaluates one model on one task of lm-evaluation-harness.

    python scripts/evaluate_model.py --model resources/models/base/fetch.json --task ifeval --chat-template \\
        --result results/evals/base/ifeval.json

Input: a model by its receipt, or an adapter with the receipt of its base; a task by name, or a YAML file of your own
with its data files beside it. Output, TASK.json (docs/evaluation-of-models.md says what each key is):

    {"task": "ifeval", "version": 4.0, "metrics": {"prompt_level_strict_acc": {"value": 0.52, "stderr": 0.021,
     "higher_is_better": true}, …}, "samples": 541, "model": {"name": "base", …}, "settings": {…}, …}

and beside it TASK.samples.parquet: what each item got. Where nothing may be downloaded (HF_HUB_OFFLINE=1
HF_DATASETS_OFFLINE=1), the task's data has to be in the cache: fetch_task.py puts it there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from corpusmith.devices import check_devices
from corpusmith.errors import InputError
from corpusmith.files import write_json
from corpusmith.gpu_claims import claimed_gpus
from corpusmith.program import argument_parser, json_object, log, run
from corpusmith.table_files import write_table


def _arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--model", required=True, help="receipt of the model; with --adapter that of its base")
    parser.add_argument("--base", help="receipt of what the model stands on, where it is an adapter")
    parser.add_argument("--adapter", help="folder of an adapter of PEFT that no receipt tells of")
    parser.add_argument("--name", help="what the model is called in the result (default: as its receipt says)")
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--task", help="name of a task or group of lm-evaluation-harness, such as ifeval or mmlu")
    task.add_argument("--task-file", help="YAML file of a task; its data files are relative to it")
    parser.add_argument("--metrics", nargs="+", default=[], help="metrics that the task has to have")
    parser.add_argument("--backend", choices=["hf", "vllm"], default="hf", help="what runs it (default: %(default)s)")
    parser.add_argument("--num-fewshot", type=int, help="examples in each prompt (default: as many as the task says)")
    parser.add_argument("--limit", type=int, help="only so many items of each task, for a try (default: all)")
    parser.add_argument("--chat-template", action="store_true", help="prompts go through the model's chat template")
    parser.add_argument("--system-instruction", help="system prompt, or a text before each prompt")
    parser.add_argument("--gen-kwargs", default="{}", help="JSON object: how answers are generated (default: {})")
    parser.add_argument("--seed", type=int, help="seed of all that is drawn (default: those of lm-evaluation-harness)")
    parser.add_argument("--batch-size", default="8", help="prompts at once, or auto (default: %(default)s)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda", help="where (default: %(default)s)")
    parser.add_argument("--dtype", default="bfloat16", help="number format of the weights (default: %(default)s)")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs that share the model (default: %(default)s)")
    parser.add_argument("--max-length", type=int, help="most tokens of prompt and answer (default: what the model has)")
    parser.add_argument(
        "--model-args", default="{}", help="JSON object: further arguments of the harness's class (default: {})"
    )
    parser.add_argument("--trust-remote-code", action="store_true", help="whether the model's own code may run")
    parser.add_argument(
        "--confirm-unsafe-code", action="store_true", help="whether tasks may run code that the model writes"
    )
    parser.add_argument("--result", required=True, help="JSON file to write; samples go to *.samples.parquet beside it")
    return parser.parse_args()


def main() -> None:
    """Evaluates it."""
    arguments = _arguments()
    if not sys.stderr.isatty():
        # The harness's bars, in a log: one line every ten seconds.
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    # Its answers to a task that runs code are asked for a second time by the library `evaluate`.
    os.environ |= {"HF_ALLOW_CODE_EVAL": "1"} if arguments.confirm_unsafe_code else {}
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    # Seconds that no call with wrong flags need wait.
    from corpusmith.evaluations.results import SAMPLES, sample_rows
    from corpusmith.evaluations.running import Settings, check_chat_template, evaluate, model_arguments
    from corpusmith.evaluations.subjects import find_subject
    from corpusmith.evaluations.tasks import check_allowed, check_metrics, find_task, load_task

    subject = find_subject(arguments.model, arguments.base, arguments.adapter)
    settings = Settings(
        backend=arguments.backend,
        num_fewshot=arguments.num_fewshot,
        limit=arguments.limit,
        chat_template=arguments.chat_template,
        system_instruction=arguments.system_instruction,
        gen_kwargs=json_object(arguments.gen_kwargs, "--gen-kwargs"),
        seed=arguments.seed,
        batch_size=_batch_size(arguments.batch_size),
        device=arguments.device,
        dtype=arguments.dtype,
        gpus=arguments.gpus,
        max_length=arguments.max_length,
        trust_remote_code=arguments.trust_remote_code,
        confirm_unsafe_code=arguments.confirm_unsafe_code,
        model_args=json_object(arguments.model_args, "--model-args"),
    )
    # What cannot be run is told before anything is loaded.
    model_arguments(subject, settings)
    check_chat_template(subject, settings)
    task = load_task(find_task(arguments.task, arguments.task_file))
    check_allowed(task, settings.confirm_unsafe_code)
    check_metrics(task, arguments.metrics)
    with claimed_gpus(settings.gpus if settings.device == "cuda" else 0, "--gpus"):
        check_devices(settings.device, settings.gpus, "--gpus")
        result, samples = evaluate(subject, task, settings)
    if arguments.name is not None:
        result["model"]["name"] = arguments.name
    path = Path(arguments.result)
    write_table(path.with_suffix(".samples.parquet"), SAMPLES, sample_rows(samples))
    write_json(path, result)
    shown = {name: metric["value"] for name, metric in result["metrics"].items()}
    log.info("%s on %s, %s items: %s", result["model"]["name"], result["task"], result["samples"], json.dumps(shown))


def _batch_size(text: str) -> int | str:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--batch-size {text}: is no number; allowed: a whole number, or auto") from None


if __name__ == "__main__":
    run(main)
