"""Draws a pool of source segments, sentences and blobs of sentences, from MADLAD-shaped files of documents.

Input, one document a line, its line breaks real ones or (as in MADLAD-400) the two characters backslash and n:

    {"text": "The depot opened in 1931. It holds 40 buses.\\nOn Sundays it is closed."}

Output, a table of segments, in the order in which they were read:

    item_id  text                           kind      tokens  bucket  file               line  start  end
    9c1f…    The depot opened in 1931.      sentence       7  0-10    en_0000.jsonl.gz      1      0   25
    05b2…    It holds 40 buses.\\nOn Sun…    blob          14  10-20   en_0001.jsonl.gz     12     26   67

Each kind and length bucket has a quota, filled with the segments of lowest rank, a hash of --seed and the text: the
same sample by any number of workers. A document gives sentences or blobs, never both. Example:

    python scripts/sample_sources.py --glob 'corpus/en_*.jsonl.gz' --language en --tokenizer models/teacher \\
        --tokenizer-name google/gemma-3-27b-it --edges 0 10 20 40 80 120 200 400 800 --pool 10000 --seed 1 \\
        --segments segments.parquet --bad-rows bad-rows.parquet --read-account read.json \\
        --sample-account sample.json --summary summary.json
"""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import Any

from corpusmith.accounting import Account
from corpusmith.documents import (
    DEFAULT_MAX_CHARACTERS,
    Source,
    check_sources,
    expand_globs,
    max_line_bytes,
    name_sources,
    read_lines,
    read_receipt,
)
from corpusmith.errors import InputError
from corpusmith.files import write_json
from corpusmith.models import folder_of
from corpusmith.models import read_receipt as read_model_receipt
from corpusmith.program import argument_parser, log, run
from corpusmith.sampling import (
    Sample,
    ScanReport,
    ScanSettings,
    Stratum,
    cut_units,
    fill,
    open_sample,
    quotas,
    scan,
)
from corpusmith.segments import Buckets, SegmentSettings, load_tokenizer
from corpusmith.splitting import split_sentences
from corpusmith.table_files import open_table
from corpusmith.tables import BAD_ROWS, SEGMENTS


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argument_parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--glob", nargs="+", metavar="PATTERN", help="files to read, .jsonl or .jsonl.gz, in name order"
    )
    source.add_argument("--fetched", type=Path, metavar="RECEIPT", help="receipt of fetched files to read instead")
    parser.add_argument("--text-field", default="text", help="field of a row that holds the text (default text)")
    parser.add_argument("--language", required=True, help="code of the language, for splitting into sentences")
    tokenizer = parser.add_mutually_exclusive_group(required=True)
    tokenizer.add_argument("--tokenizer", type=Path, help="tokenizer.json that counts, or its folder")
    tokenizer.add_argument("--tokenizer-of", type=Path, metavar="RECEIPT", help="receipt of the model whose counts")
    parser.add_argument("--tokenizer-name", help="name of the tokenizer, for the summary (default: from the receipt)")
    parser.add_argument("--edges", type=int, nargs="+", required=True, help="edges of the length buckets, in tokens")
    parser.add_argument(
        "--bucket-shares", type=float, nargs="+", metavar="SHARE", help="weight of each bucket (default equal ones)"
    )
    parser.add_argument("--pool", type=int, required=True, help="how many segments to draw")
    parser.add_argument("--blob-share", type=float, default=0.5, help="share of the pool that is blobs (default 0.5)")
    parser.add_argument("--blob-tokens", type=int, default=512, help="most tokens of a blob (default 512)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything that is drawn (default 0)")
    parser.add_argument(
        "--stop-when-full",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="stop reading as soon as every quota is filled (default), or read on and draw from all",
    )
    parser.add_argument(
        "--max-scan-docs", type=int, default=5_000_000, help="read so many documents at most (default 5,000,000)"
    )
    parser.add_argument(
        "--max-bad-share", type=float, default=0.01, help="fail where more of the rows are bad (default 0.01)"
    )
    parser.add_argument(
        "--max-document-characters",
        type=int,
        default=DEFAULT_MAX_CHARACTERS,
        help=f"set aside documents that are longer (default {DEFAULT_MAX_CHARACTERS:,})",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes to split and count with (default 1)")
    parser.add_argument("--segments", type=Path, required=True, help="the table of segments to write")
    parser.add_argument("--bad-rows", type=Path, required=True, help="the table of rows that were set aside to write")
    parser.add_argument("--read-account", type=Path, required=True, help="the account of documents to write")
    parser.add_argument("--sample-account", type=Path, required=True, help="the account of segments to write")
    parser.add_argument("--summary", type=Path, required=True, help="JSON to write of what was read and drawn")
    arguments = parser.parse_args()
    for flag in ("pool", "blob_tokens", "max_scan_docs", "max_document_characters", "workers"):
        if getattr(arguments, flag) < 1:
            raise InputError(f"--{flag.replace('_', '-')} {getattr(arguments, flag)}: must be 1 or more")
    for flag in ("blob_share", "max_bad_share"):
        if not 0 <= getattr(arguments, flag) <= 1:
            raise InputError(f"--{flag.replace('_', '-')} {getattr(arguments, flag)}: must be from 0 to 1")
    return arguments


def report_unfilled(wanted: dict[Stratum, int], sample: Sample) -> list[dict[str, Any]]:
    """Quotas that stayed unfilled, each with a warning."""
    unfilled = []
    for (kind, bucket), quota in wanted.items():
        got = sample.counts[kind, bucket]
        if got < quota:
            log.warning("not enough %ss of %s tokens: wanted %d, got %d", kind, bucket, quota, got)
            unfilled.append({"kind": kind, "bucket": bucket, "wanted": quota, "got": got})
    return unfilled


def summary_of(
    arguments: argparse.Namespace,
    sources: list[Source],
    wanted: dict[Stratum, int],
    sample: Sample,
    scanned: ScanReport,
) -> dict[str, Any]:
    """What was read and drawn, as it is written."""
    return {
        "tokenizer": arguments.tokenizer_name,
        "language": arguments.language,
        "seed": arguments.seed,
        "edges": arguments.edges,
        "files": [source.name for source in sources],
        "documents": scanned.read.kept.count,
        "line_breaks": scanned.line_break_shares,
        "stopped_at": {
            "file": scanned.last[0],
            "line": scanned.last[1],
            "because": scanned.stopped_because,
        },
        "quotas": [
            {"kind": kind, "bucket": bucket, "wanted": quota, "got": sample.counts[kind, bucket]}
            for (kind, bucket), quota in wanted.items()
        ],
        "unfilled": report_unfilled(wanted, sample),
    }


def main() -> None:
    """Checks everything, scans, writes."""
    arguments = parse_arguments()
    buckets = Buckets(tuple(arguments.edges))
    wanted = quotas(arguments.pool, arguments.blob_share, arguments.blob_tokens, buckets, arguments.bucket_shares)
    if arguments.tokenizer_of is not None:
        receipt = read_model_receipt(arguments.tokenizer_of)
        arguments.tokenizer = folder_of(receipt)
        arguments.tokenizer_name = arguments.tokenizer_name or f"{receipt.name} ({receipt.identity})"
    elif arguments.tokenizer_name is None:
        raise InputError("--tokenizer wants --tokenizer-name: the name of what counts, for the summary")
    load_tokenizer(arguments.tokenizer)
    split_sentences("The library for the language is there.", arguments.language)
    sources = read_receipt(arguments.fetched) if arguments.fetched else name_sources(expand_globs(arguments.glob))
    check_sources(sources)
    settings = ScanSettings(
        arguments.tokenizer,
        arguments.text_field,
        arguments.max_document_characters,
        SegmentSettings(arguments.language, buckets, arguments.seed, arguments.blob_share, arguments.blob_tokens),
    )
    lines = read_lines(sources, max_line_bytes(arguments.max_document_characters))
    units = cut_units(lines, arguments.max_scan_docs)
    with (
        open_table(arguments.segments, SEGMENTS) as segments,
        open_table(arguments.bad_rows, BAD_ROWS) as bad_rows,
        open_sample(wanted, arguments.seed, arguments.segments.parent) as sample,
    ):
        with closing(scan(units, settings, arguments.workers)) as results:
            scanned = fill(
                sample,
                results,
                bad_rows,
                stop_when_full=arguments.stop_when_full,
                max_scan_docs=arguments.max_scan_docs,
                max_bad_share=arguments.max_bad_share,
            )
        segments.write_all(sample.rows())
        account = Account("sample", "segments")
        account.taken.count = sample.taken + scanned.segments_outside
        account.kept.count = segments.count
        account.reasons.update(sample.dropped)
        if scanned.segments_outside:
            account.reasons["outside_buckets"] = scanned.segments_outside
        account.dropped.count = account.reasons.total()
        if not segments.count:
            raise InputError(
                f"nothing could be drawn: {scanned.read.kept.count} documents gave {account.taken.count} segments,"
                f" {scanned.segments_outside} of them outside the buckets {', '.join(buckets.names)};"
                " correct --edges or the files"
            )
        summary = summary_of(arguments, sources, wanted, sample, scanned)
    scanned.read.write(arguments.read_account)
    account.write(arguments.sample_account)
    write_json(arguments.summary, summary)
    shares = ", ".join(f"{form} {value['share']:.1%}" for form, value in summary["line_breaks"].items())
    log.info(
        "%d segments of %d drawn from %d documents (%d rows set aside); line breaks: %s; stopped at %s line %d: %s",
        segments.count,
        account.taken.count,
        scanned.read.kept.count,
        scanned.read.dropped.count,
        shares,
        *scanned.last,
        scanned.stopped_because.replace("_", " "),
    )


if __name__ == "__main__":
    run(main)
