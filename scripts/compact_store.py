"""Makes the files of the store few: journals of processes that died are sealed, small segments merged.

No answer is changed, and builds may read and write meanwhile.

in:  store/completions/hub-owner-model-3f9a…/: 412 segments, 3 journals of the dead
out: the same answers in 2 segments
"""

from __future__ import annotations

from pathlib import Path

from corpusmith.plain_text import table_lines
from corpusmith.program import argument_parser, run
from corpusmith.store import Store
from corpusmith.store_report import names_by_identity, names_of


def main() -> None:
    """Parses the flags, compacts and prints what was done."""
    parser = argument_parser(__doc__)
    parser.add_argument("--store", required=True, type=Path, help="folder of the store")
    parser.add_argument(
        "--models", nargs="*", default=[], metavar="NAME=RECEIPT", help="what a config calls its models and scorers"
    )
    flags = parser.parse_args()
    names = names_by_identity(flags.models)
    done = Store(flags.store).compact()
    if not done:
        print(f"{flags.store}: nothing is in it yet")
        return
    rows = [
        (
            model.kind,
            ", ".join(names_of(model.model, names)) or "-",
            model.sealed,
            f"{model.merged:,} into {model.written:,}" if model.merged else "-",
            model.model,
        )
        for model in done
    ]
    print("\n".join(table_lines(["kind", "name", ">journals sealed", ">segments merged", "model"], rows)))


if __name__ == "__main__":
    run(main)
