"""Fetches files of a dataset repo on the Hub and writes a receipt that pins their commit.

    python scripts/fetch_source.py --repo allenai/MADLAD-400 --revision main \\
        --pattern 'data-v1p5/en/clean_docs_v2-0000*' --receipt resources/sources/madlad.json

writes

    {"repo": "allenai/MADLAD-400", "revision": "main", "commit": "<commit>",
     "files": [{"path": "data-v1p5/en/clean_docs_v2-00000-of-05000.jsonl.gz", "size": 1234, "sha256": "…",
                "local": "<path on this machine>"}, …]}

With --split nvidia/OpenMathReasoning:default:cot it fetches the files of one split, as `datasets` finds them.

The files go to the cache of huggingface_hub (HF_HOME); its token is HF_TOKEN, its endpoint HF_ENDPOINT.
Those that are there already are not fetched again.
"""

from __future__ import annotations

import glob

from corpusmith.files import write_json
from corpusmith.hub import fetch_source, split_files
from corpusmith.program import argument_parser, log, run


def main() -> None:
    """Fetches the files of one source."""
    parser = argument_parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--repo", help="dataset repo on the Hub, owner/name, of which --pattern says the files")
    what.add_argument("--split", help="a split of one instead, repo:config:split")
    parser.add_argument("--revision", default="main", help="branch, tag or commit of the repo (default: main)")
    parser.add_argument(
        "--pattern",
        nargs="+",
        help="patterns of files in the repo: * for any characters (slashes too), ? for one, [ab] for one of them",
    )
    parser.add_argument("--receipt", required=True, help="the JSON file to write")
    arguments = parser.parse_args()

    if bool(arguments.repo) != bool(arguments.pattern):
        parser.error("--repo and --pattern go together")
    repo, patterns = arguments.repo, arguments.pattern
    if arguments.split:
        repo, files = split_files(arguments.split, arguments.revision)
        patterns = [glob.escape(path) for path in files]
    receipt = fetch_source(repo, arguments.revision, patterns)
    write_json(arguments.receipt, receipt)
    log.info(
        "source %s at %s: %d files, %s bytes",
        *(receipt["repo"], receipt["commit"], len(receipt["files"])),
        f"{sum(file['size'] for file in receipt['files']):,}",
    )


if __name__ == "__main__":
    run(main)
