"""Fetches a model from the Hub, or takes one from a local folder, and writes its receipt.

    python scripts/fetch_model.py --name teacher --repo google/gemma-3-4b-it --revision main \\
        --receipt resources/models/teacher/fetch.json

writes what the build knows the model by:

    {"name": "teacher", "origin": "hub", "repo": "google/gemma-3-4b-it", "revision": "<commit>",
     "identity": "hub:google/gemma-3-4b-it@<commit>",
     "files": [{"path": "config.json", "size": 855, "sha256": "…"}, …],
     "parameters": 4300079472, "dtype": "bfloat16"}

The files go to the cache of huggingface_hub (HF_HOME); its token is HF_TOKEN, its endpoint HF_ENDPOINT.
Of weights in several formats only safetensors are fetched.
"""

from __future__ import annotations

from corpusmith.hub import fetch_model
from corpusmith.models import describe_folder, write_receipt
from corpusmith.program import argument_parser, log, run


def main() -> None:
    """Fetches or describes one model."""
    parser = argument_parser(__doc__)
    parser.add_argument("--name", required=True, help="the model's name in the config")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--repo", help="repo on the Hub, owner/name")
    source.add_argument("--path", help="a local folder with config.json, weights and tokenizer, in place of a repo")
    parser.add_argument("--revision", default="main", help="branch, tag or commit of the repo (default: main)")
    parser.add_argument(
        "--tokenizer-only",
        action="store_true",
        help="take only the tokenizer and configuration: for models that answer over HTTP",
    )
    parser.add_argument("--receipt", required=True, help="the JSON file to write")
    arguments = parser.parse_args()

    if arguments.path is not None:
        receipt = describe_folder(arguments.path, arguments.name, "local", tokenizer_only=arguments.tokenizer_only)
    else:
        receipt = fetch_model(
            arguments.name, arguments.repo, arguments.revision, tokenizer_only=arguments.tokenizer_only
        )
    write_receipt(arguments.receipt, receipt)
    log.info(
        "model %s: %d files, %s bytes, %s parameters, %s",
        receipt["name"],
        len(receipt["files"]),
        f"{sum(file['size'] for file in receipt['files']):,}",
        "unknown" if receipt["parameters"] is None else f"{receipt['parameters']:,}",
        receipt["identity"],
    )


if __name__ == "__main__":
    run(main)
