"""Publishes a release, or a model, on the Hub in one visible change, and writes a receipt of what the Hub then holds.

in:  release/manifest.json, and every file that it lists
out: upload.json: repo, branch, commit, rows, and each file with its checksum as the Hub reports it

The token comes from the environment; HF_ENDPOINT is heeded where --endpoint is not given.
"""

from __future__ import annotations

import os
from pathlib import Path

from corpusmith.errors import InputError
from corpusmith.files import write_json
from corpusmith.program import argument_parser, log, run


def main() -> None:
    """Parses the flags and publishes."""
    parser = argument_parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--manifest", type=Path, help="manifest.json of a release, which lies in its folder")
    what.add_argument("--model", type=Path, help="receipt of a model that was built here, or of a local folder")
    parser.add_argument("--card", type=Path, help="README.md of a model whose folder has none")
    parser.add_argument("--name", required=True, help="what the commit calls it")
    parser.add_argument("--repo", required=True, help="repo on the Hub, owner/name; it is made where it is missing")
    parser.add_argument("--public", action="store_true", help="a public repo (default: a private one)")
    parser.add_argument("--branch", default="main", help="branch of the repo (default: main)")
    parser.add_argument("--pull-request", action="store_true", help="propose it to main, in place of changing main")
    parser.add_argument("--replaces", help="commit of someone else's that may be replaced (default: none)")
    parser.add_argument("--endpoint", help="address of the Hub (default: HF_ENDPOINT, or the Hub's own)")
    parser.add_argument(
        "--token-variable", default="HF_TOKEN", help="environment variable with the token (default: HF_TOKEN)"
    )
    parser.add_argument("--no-xet", action="store_true", help="send files as Git LFS does, to Hubs that know no Xet")
    parser.add_argument("--record", required=True, type=Path, help="commits that are ours; a line is added")
    parser.add_argument("--receipt", required=True, type=Path, help="the JSON file to write")
    flags = parser.parse_args()
    if flags.pull_request and flags.branch != "main":
        parser.error("--pull-request is made to main: leave out --branch")
    if flags.model and not flags.card:
        parser.error("--model needs --card")
    if flags.no_xet:
        os.environ["HF_HUB_DISABLE_XET"] = "1"
    # Only now: what is imported reads the environment.
    from corpusmith.published_files import model_content, release_content
    from corpusmith.publishing import publish
    from corpusmith.upload_target import Target

    target = Target(
        repo=flags.repo,
        kind="model" if flags.model else "dataset",
        private=not flags.public,
        branch=flags.branch,
        pull_request=flags.pull_request,
        replaces=flags.replaces,
        endpoint=flags.endpoint,
        token_variable=flags.token_variable,
    )
    if not os.environ.get(target.token_variable):
        raise InputError(f"{target.place}: {target.token_variable} is not set; set it to a token that may write there")
    if flags.model:
        content = model_content(flags.model, flags.card)
    else:
        content = release_content(flags.manifest, flags.name)
        metadata = flags.manifest.parent / "croissant.json"
        if metadata.exists():
            from corpusmith.croissant_check import validate

            validate(metadata)
    receipt = publish(content, target, flags.record)
    write_json(flags.receipt, receipt)
    log.info("published: %s, commit %s, %d files", target.place, receipt["commit"], len(receipt["files"]))


if __name__ == "__main__":
    run(main)
