"""Puts the data of a task of lm-evaluation-harness into the cache, for machines without internet.

    python scripts/fetch_task.py --task mmlu --receipt resources/tasks/mmlu.json

Input: a task or group by name, or a YAML file of your own. Output: the caches of the Hugging Face libraries (HF_HOME)
hold what the task reads, and the receipt says what that is:

    {"task": "mmlu", "datasets": ["cais/mmlu"], "items": 14042, "metrics": ["acc"], "lm_eval": "0.4.13"}

Evaluations then run with HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 on nodes that see the same HF_HOME.
"""

from __future__ import annotations

import argparse
from importlib.metadata import version

from corpusmith.files import write_json
from corpusmith.program import argument_parser, log, run


def _arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--task", help="name of a task or group of lm-evaluation-harness, such as ifeval or mmlu")
    task.add_argument("--task-file", help="YAML file of a task; its data files are relative to it")
    parser.add_argument("--metrics", nargs="+", default=[], help="metrics that the task has to have")
    parser.add_argument(
        "--confirm-unsafe-code", action="store_true", help="whether tasks may run code that a model writes"
    )
    parser.add_argument("--receipt", help="JSON file to write (default: none)")
    return parser.parse_args()


def main() -> None:
    """Fetches it."""
    arguments = _arguments()
    from corpusmith.evaluations.tasks import check_allowed, check_metrics, find_task, load_task

    found = find_task(arguments.task, arguments.task_file)
    log.info("%s: reading %s", found.name, ", ".join(found.datasets) or "its files")
    loaded = load_task(found)
    check_allowed(loaded, arguments.confirm_unsafe_code)
    check_metrics(loaded, arguments.metrics)
    receipt = {
        "task": found.name,
        "datasets": list(found.datasets),
        "items": sum(len(task.eval_docs) for task in loaded.tasks.values()),
        "metrics": loaded.metrics,
        "lm_eval": version("lm_eval"),
    }
    if arguments.receipt is not None:
        write_json(arguments.receipt, receipt)
    log.info("%s: %s items", found.name, f"{receipt['items']:,}")


if __name__ == "__main__":
    run(main)
