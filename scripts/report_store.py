"""Says what is in the store of answers, and what the last builds asked for beside what it had.

in:  store/, resources/models/*/fetch.json, results/news/*/completions/*.run-stats.json, …
out: store: 12,800 answers, 9.1 MB

     kind         name     answers   bytes  segments  journals  set aside  model
     completions  teacher   12,800  9.1 MB         3         0          0  hub:owner/model@…
"""

from __future__ import annotations

from pathlib import Path

from corpusmith.files import write_json
from corpusmith.program import argument_parser, run
from corpusmith.store import Store
from corpusmith.store_report import describe_builds, describe_models, names_by_identity, report_lines


def main() -> None:
    """Parses the flags and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--store", required=True, type=Path, help="folder of the store")
    parser.add_argument(
        "--models", nargs="*", default=[], metavar="NAME=RECEIPT", help="what a config calls its models and scorers"
    )
    parser.add_argument(
        "--tables",
        nargs="*",
        default=[],
        metavar="FOLDER=SHARDS",
        help="folders of tables that models and scorers made (DATASET/STEP/KIND), each with its number of shards",
    )
    parser.add_argument("--json", type=Path, help="file to write the same into, for programs")
    flags = parser.parse_args()
    models = describe_models(Store(flags.store), names_by_identity(flags.models))
    builds = describe_builds(flags.tables)
    if flags.json is not None:
        write_json(flags.json, {"store": str(flags.store), "models": models, "datasets": builds})
    print("\n".join(report_lines(flags.store, models, builds)))


if __name__ == "__main__":
    run(main)
