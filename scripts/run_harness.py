"""Serves a model on this machine, runs a harness against it, and collects its numbers.

    python scripts/run_harness.py --model resources/models/base/fetch.json --harness agentbench \\
        --folder ../AgentBench --command '["python", "run.py", "--out", "{output}/scores.json"]' \\
        --found '{output}/scores.json' --metrics '{"success": {"value": "overall.success_rate"}}' \\
        --result results/evals/base/agentbench.json

The command finds the model as OpenAI's API: OPENAI_BASE_URL, OPENAI_API_KEY and MODEL are in its environment. Its
words may hold {base_url}, {model} (what the server calls it) and {output} (an empty folder). From its file

    {"overall": {"success_rate": 0.4}}

this makes a result of the form that evaluate_model.py has:

    {"task": "agentbench", "metrics": {"success": {"value": 0.4, "stderr": null, "higher_is_better": true}}, …}
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from corpusmith.errors import InputError
from corpusmith.evaluations.harness_results import metrics_of, number_at
from corpusmith.evaluations.running import lora_rank
from corpusmith.evaluations.server import filled, run_against, serving
from corpusmith.evaluations.subjects import Subject, find_subject
from corpusmith.files import read_json, write_json
from corpusmith.gpu_claims import claimed_gpus
from corpusmith.program import argument_parser, json_object, log, run


def _arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--model", required=True, help="receipt of the model")
    parser.add_argument("--base", help="receipt of what the model stands on, where it is an adapter")
    parser.add_argument("--name", help="what the server calls the model (default: as its receipt says)")
    parser.add_argument("--harness", required=True, help="what the harness is called in the result")
    parser.add_argument("--command", required=True, help="words of the command, a JSON list")
    parser.add_argument("--folder", default=".", help="folder in which the command runs (default: %(default)s)")
    parser.add_argument("--found", required=True, help="JSON file that the command writes, relative to --folder")
    parser.add_argument(
        "--metrics", required=True, help="JSON object of names, each with value, stderr and higher_is_better"
    )
    parser.add_argument("--samples", help="where in that file the number of items is (default: nobody knows)")
    parser.add_argument("--server", default="[]", help="words of the server's command, a JSON list (default: [])")
    parser.add_argument("--health", default="/health", help="what is asked until it is up (default: %(default)s)")
    parser.add_argument(
        "--start-seconds", type=float, default=900.0, help="so long the server may take (default: %(default)s)"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda", help="where (default: %(default)s)")
    parser.add_argument("--dtype", default="bfloat16", help="number format of the weights (default: %(default)s)")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs that share the model (default: %(default)s)")
    parser.add_argument("--max-length", type=int, help="most tokens of prompt and answer (default: what the model has)")
    parser.add_argument("--trust-remote-code", action="store_true", help="whether the model's own code may run")
    parser.add_argument("--result", required=True, help="JSON file to write")
    return parser.parse_args()


def main() -> None:
    """Serves, runs, collects."""
    arguments = _arguments()
    subject = find_subject(arguments.model, arguments.base)
    name = arguments.name or subject.name
    own = _words(arguments.server, "--server")
    server = own or _vllm(subject, name, arguments)
    command = _words(arguments.command, "--command")
    if not command:
        raise InputError("--command is empty; give the words of the command that is run")
    wanted = json_object(arguments.metrics, "--metrics", 'write it as {"success": {"value": "overall.success_rate"}}')
    folder = Path(arguments.folder).resolve()
    if not folder.is_dir():
        raise InputError(f"--folder {arguments.folder}: there is no such folder; give that of the harness")
    gpus = arguments.gpus if arguments.device == "cuda" else 0
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as output, claimed_gpus(gpus, "--gpus"):
        (found_file,) = filled([arguments.found], {"output": output, "model": name})
        path = folder / found_file
        before = _state(path)
        values = {"model": str(subject.folder), "adapter": str(subject.adapter or ""), "name": name}
        with serving(server, values, arguments.health, arguments.start_seconds) as served:
            places = {"base_url": served.base_url, "model": name, "output": output}
            run_against(served, filled(command, places), folder, {"MODEL": name, "OUTPUT": output})
        if _state(path) in (None, before):
            raise InputError(f"{path}: the command {command[0]} did not write it; say with --found what it writes")
        found = read_json(path)
    samples = None if arguments.samples is None else int(number_at(found, arguments.samples, str(path)))
    metrics = metrics_of(found, wanted, str(path))
    settings = {key: getattr(arguments, key) for key in ("dtype", "max_length", "gpus", "device")}
    result = {
        "task": arguments.harness,
        "version": None,
        "metrics": metrics,
        "samples": samples,
        "model": subject.described() | {"name": name},
        "settings": {"backend": "server", "server": own or ["vllm"], "command": command, **settings},
        "seconds": round(time.monotonic() - start, 1),
    }
    write_json(arguments.result, result)
    shown = {name: metric["value"] for name, metric in metrics.items()}
    log.info("%s on %s: %s", name, arguments.harness, json.dumps(shown))


def _vllm(subject: Subject, name: str, arguments: argparse.Namespace) -> list[str]:
    """vLLM's own server, as `vllm serve` starts it, which vLLM's builds for CPUs do not have.

    https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
    """
    words = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", "{model}"]
    words += ["--host", "127.0.0.1", "--port", "{port}", "--dtype", arguments.dtype]
    words += ["--tensor-parallel-size", str(arguments.gpus)] if arguments.device == "cuda" else []
    words += ["--max-model-len", str(arguments.max_length)] if arguments.max_length is not None else []
    words += ["--trust-remote-code"] if arguments.trust_remote_code else []
    words += ["--tokenizer", str(subject.tokenizer)] if subject.tokenizer != subject.folder else []
    if subject.adapter is None:
        return [*words, "--served-model-name", name]
    rank = str(lora_rank(subject))
    words += ["--enable-lora", "--max-lora-rank", rank, "--lora-modules", "{name}={adapter}"]
    return [*words, "--served-model-name", f"{name}-base"]


def _words(text: str, flag: str) -> list[str]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(f'{flag} is no JSON: {text:.80} ({error}); write it as ["python", "run.py"]') from error
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise InputError(f'{flag} is no list of words: {text:.80}; write it as ["python", "run.py"]')
    return found


def _state(path: Path) -> Any:
    """What tells one version of a file from another; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


if __name__ == "__main__":
    run(main)
