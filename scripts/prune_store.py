"""Removes from the store the answers that no build uses. Without --delete it only says what would go.

What is used: all that a table of completions or scores names, below the results of this config, with a limit or
without, and below those named by --keep. A build that is not finished has answers that no table names yet: where a
table is not there that should be, nothing is removed.

in:  store/, results/*/*/completions/*.parquet, results/*/*/scores/*.parquet
out: the store without the 1,204 answers of the teacher that no table names
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from corpusmith.layout import expand
from corpusmith.plain_text import size_text, table_lines
from corpusmith.program import argument_parser, run
from corpusmith.store import Store
from corpusmith.store.pruning import Pruned
from corpusmith.store_report import Names, names_by_identity, names_of
from corpusmith.used_answers import used_keys


def main() -> None:
    """Parses the flags, prunes and prints what goes."""
    parser = argument_parser(__doc__)
    parser.add_argument("--store", required=True, type=Path, help="folder of the store")
    parser.add_argument("--results", required=True, help="folder of the config's results, without a limit")
    parser.add_argument(
        "--tables",
        nargs="*",
        default=[],
        metavar="FOLDER=SHARDS",
        help="folders of tables that the config asks for, each with its number of shards; all have to be there",
    )
    parser.add_argument("--keep", nargs="*", default=[], help="results of other configs whose answers stay")
    parser.add_argument(
        "--models", nargs="*", default=[], metavar="NAME=RECEIPT", help="what a config calls its models and scorers"
    )
    parser.add_argument("--delete", action="store_true", help="remove it; without, it is only said what would go")
    flags = parser.parse_args()
    used = {}

    def look_up() -> dict:
        used.update(used_keys(flags.results, flags.keep, expand("", flags.tables, ".parquet")))
        return used

    pruned = Store(flags.store).prune(look_up, dry=not flags.delete)
    folders = " and ".join([flags.results, *flags.keep])
    counts = " and ".join(f"{len(keys):,} {kind}" for kind, keys in used.items())
    print(f"Tables below {folders}, with a limit and without, name {counts}.")
    print("\n".join(_lines(pruned, names_by_identity(flags.models), flags.delete)))


def _lines(pruned: list[Pruned], names: Names, delete: bool) -> Iterable[str]:
    if not pruned:
        yield "There is nothing else in the store: nothing to remove."
        return
    rows = [
        (
            model.kind,
            ", ".join(names_of(model.model, names)) or "-",
            model.answers,
            size_text(model.bytes),
            "all of the model" if model.whole else "what is not used",
            model.model,
        )
        for model in pruned
    ]
    yield ""
    yield from table_lines(["kind", "name", ">answers", ">bytes", "goes", "model"], rows)
    yield ""
    answers, size = sum(model.answers for model in pruned), size_text(sum(model.bytes for model in pruned))
    if living := sum(model.living for model in pruned):
        yield f"Answers in {living:,} journals of processes that may still write stay."
    if delete:
        yield f"Removed: {answers:,} answers, about {size}."
    else:
        yield f"Nothing is removed yet. Would be: {answers:,} answers, about {size}. For real:"
        yield "snakemake store_prune --config 'store_prune={delete: true}'"


if __name__ == "__main__":
    run(main)
