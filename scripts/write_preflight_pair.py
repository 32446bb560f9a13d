"""Writes the smallest thing to score: a source, a reference and an answer, as tables of requests and completions.

out: requests: item_id 9f…, source "Hello", reference "Hello"   completions: item_id 9f…, sample 0, text "Hello"
"""

from __future__ import annotations

from corpusmith.identity import digest, item_id
from corpusmith.program import argument_parser, run
from corpusmith.requests import request
from corpusmith.table_files import write_table
from corpusmith.tables import COMPLETIONS, REQUESTS

_TEXT = "Hello"


def main() -> None:
    """Parses the flags and writes a row each."""
    parser = argument_parser(__doc__)
    parser.add_argument("--requests", required=True, help="table of requests to write")
    parser.add_argument("--completions", required=True, help="table of completions to write")
    flags = parser.parse_args()
    item = item_id(_TEXT)
    write_table(
        flags.requests,
        REQUESTS,
        [request(item, "preflight", prompt=_TEXT, max_tokens=1, source=_TEXT, reference=_TEXT)],
    )
    answer = {
        "item_id": item,
        "request": "preflight",
        "sample": 0,
        "text": _TEXT,
        "finish_reason": "stop",
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "error": None,
        "key": digest("preflight", _TEXT),
    }
    write_table(flags.completions, COMPLETIONS, [answer])


if __name__ == "__main__":
    run(main)
