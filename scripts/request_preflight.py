"""Writes the smallest question to a model: one request, greedy, answered with a few tokens.

in:  the model's receipt: with a chat template, or behind an API, it is asked with a message, else with a raw prompt
out: item_id 9f…, request preflight, messages [user: "Hello"], temperature 0, max_tokens 16, n 1
"""

from __future__ import annotations

from corpusmith.chat_templates import takes_messages
from corpusmith.identity import item_id
from corpusmith.models import read_receipt
from corpusmith.program import argument_parser, run
from corpusmith.requests import request
from corpusmith.table_files import write_table
from corpusmith.tables import REQUESTS

_TEXT = "Hello"
_MAX_TOKENS = 16


def main() -> None:
    """Parses the flags and writes one request."""
    parser = argument_parser(__doc__)
    parser.add_argument("--model", required=True, help="receipt of the model")
    parser.add_argument("--requests", required=True, help="table of requests to write")
    flags = parser.parse_args()
    chat = takes_messages(read_receipt(flags.model))
    row = request(
        item_id(_TEXT),
        "preflight",
        messages=[{"role": "user", "content": _TEXT}] if chat else None,
        prompt=None if chat else _TEXT,
        max_tokens=_MAX_TOKENS,
        source=_TEXT,
    )
    write_table(flags.requests, REQUESTS, [row])


if __name__ == "__main__":
    run(main)
