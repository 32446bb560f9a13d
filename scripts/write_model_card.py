"""Describes a model that is to be published: its files with their checksums, and a card, README.md for the Hub.

in:  receipt.json of a model that was built here, with the training.json of one that was tuned; or a local folder, which
     may hold an adapter
out: a receipt: name, identity, files, parameters, dtype
     a card: YAML for the Hub (license, base_model, library_name, tags) and a few lines for people
"""

from __future__ import annotations

import json
from pathlib import Path

from corpusmith.files import read_json, write_text
from corpusmith.model_card import model_card
from corpusmith.models import describe_files, folder_of, read_receipt, write_receipt
from corpusmith.program import argument_parser, log, run


def main() -> None:
    """Parses the flags and writes the card."""
    parser = argument_parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", type=Path, help="receipt of a model that was built here")
    what.add_argument("--folder", type=Path, help="local folder with a model or an adapter")
    parser.add_argument("--training", type=Path, help="training.json of a tuning, for the card")
    parser.add_argument("--name", required=True, help="the model's name in the config")
    parser.add_argument("--licence", required=True, help="its licence, as the Hub names it, or unknown")
    parser.add_argument(
        "--terms",
        default="null",
        help="JSON object: parts, a list of role, name, licence and note of what it was made of and by; conflicts, a"
        " list of what contradicts its licence; override, the reason why it stands (default: null)",
    )
    parser.add_argument("--receipt", required=True, type=Path, help="the receipt to write")
    parser.add_argument("--card", required=True, type=Path, help="the Markdown file to write")
    flags = parser.parse_args()
    if flags.folder is not None:
        receipt = describe_files(flags.folder, flags.name)
    else:
        receipt = read_json(flags.model)
        receipt["folder"] = str(folder_of(read_receipt(flags.model)))
    write_receipt(flags.receipt, receipt)
    training = read_json(flags.training) if flags.training is not None else None
    write_text(flags.card, model_card(read_receipt(flags.receipt), flags.licence, training, json.loads(flags.terms)))
    log.info("model %s: %d files, %s", flags.name, len(receipt["files"]), receipt["identity"])


if __name__ == "__main__":
    run(main)
