"""Pairs released rows with right translations, and puts three answers to each source side by side for the scorers.

A released row is evaluated where its source is, character by character, that of a reference. References are rows of
.jsonl, .jsonl.gz or .parquet files:

    {"source": "Mina bought 3 books.", "reference": "미나는 책 세 권을 샀다."}

The answers are greedy (the prefilter's), sampled (sample 0 of the final step: one draw) and released (the best by the
metric that chose). They are copied with their keys from the tables of both steps:

    evaluation/requests/0000-of-0002.parquet      item_id 9f…, request greedy,   first_sample 0,  n 1, reference "…"
                                                  item_id 9f…, request sampled,  first_sample 0,  n 1, reference "…"
                                                  item_id 9f…, request released, first_sample 17, n 1, reference "…"
    evaluation/completions/0000-of-0002.parquet   item_id 9f…, request greedy,   sample 0, text "…", key …
    evaluation/bad_rows.parquet                   file refs.jsonl, line 12, reason "empty_text: reference"
    evaluation/pairing.json                       {"references": {"in": 9000, "kept": 940, "dropped": {…}}, …}
"""

from __future__ import annotations

import argparse
from pathlib import Path

from corpusmith.documents import DEFAULT_MAX_CHARACTERS
from corpusmith.errors import InputError
from corpusmith.files import write_json
from corpusmith.identity import shard_names
from corpusmith.paired_answers import Step, paired_answers, write_pairs
from corpusmith.program import argument_parser, log, run, track
from corpusmith.references import Pairing, ReferenceForm, match_references, reference_files
from corpusmith.table_files import open_table
from corpusmith.tables import BAD_ROWS


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argument_parser(__doc__)
    parser.add_argument("--folder", required=True, type=Path, help="folder of the dataset's results")
    parser.add_argument("--splits", required=True, nargs="+", help="names of the splits")
    parser.add_argument("--prefilter-shards", required=True, type=int, help="shards of the prefilter step")
    parser.add_argument("--final-shards", required=True, type=int, help="shards of the final step")
    parser.add_argument(
        "--references", required=True, nargs="+", type=Path, metavar="FILE", help=".jsonl, .jsonl.gz or .parquet"
    )
    parser.add_argument(
        "--source-field", default="source", help="field of a reference with the source (default: %(default)s)"
    )
    parser.add_argument(
        "--reference-field",
        default="reference",
        help="field of a reference with the right translation (default: %(default)s)",
    )
    parser.add_argument(
        "--max-bad-share", type=float, default=0.01, help="fail where more of the references are bad (default: 0.01)"
    )
    parser.add_argument(
        "--max-document-characters",
        type=int,
        default=DEFAULT_MAX_CHARACTERS,
        help=f"set aside references with a longer text (default: {DEFAULT_MAX_CHARACTERS:,})",
    )
    parser.add_argument("--shards", required=True, type=int, help="how many shards to write")
    parser.add_argument("--evaluation", required=True, type=Path, help="folder to write")
    flags = parser.parse_args()
    for flag in ("prefilter_shards", "final_shards", "shards", "max_document_characters"):
        if getattr(flags, flag) < 1:
            raise InputError(f"--{flag.replace('_', '-')} {getattr(flags, flag)}: must be 1 or more")
    if not 0 <= flags.max_bad_share <= 1:
        raise InputError(f"--max-bad-share {flags.max_bad_share}: must be from 0 to 1")
    if flags.source_field == flags.reference_field:
        raise InputError(f"--source-field and --reference-field are both {flags.source_field}: name two fields")
    return flags


def main() -> None:
    """Matches, then copies the answers."""
    flags = parse_arguments()
    files = reference_files(flags.references)
    form = ReferenceForm(flags.source_field, flags.reference_field, flags.max_document_characters)
    splits = [flags.folder / "filtered" / f"{split}.parquet" for split in flags.splits]
    prefilter = Step(flags.folder / "prefilter", shard_names(flags.prefilter_shards))
    final = Step(flags.folder / "final", shard_names(flags.final_shards))
    pairing = Pairing()
    with open_table(flags.evaluation / "bad_rows.parquet", BAD_ROWS) as bad_rows:
        released = match_references(splits, files, form, flags.max_bad_share, bad_rows, pairing)
    pairs = track(paired_answers(released, prefilter, final), "pairing", len(released), "sources")
    write_pairs(pairs, len(released), flags.shards, flags.evaluation, pairing)
    summary = pairing.as_json()
    write_json(flags.evaluation / "pairing.json", summary)
    for name in ("references", "released"):
        counts = summary[name]
        dropped = ", ".join(f"{reason} {count:,}" for reason, count in counts["dropped"].items()) or "none"
        log.info("%s: %s in, %s kept; dropped: %s", name, f"{counts['in']:,}", f"{counts['kept']:,}", dropped)
    for system, counts in summary["answers"].items():
        log.info("%s: %s answers failed, %s were cut off", system, f"{counts['failed']:,}", f"{counts['cut_off']:,}")


if __name__ == "__main__":
    run(main)
