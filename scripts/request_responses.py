"""Asks for responses to instructions: from a table of instructions, or of rows, to one shard of a table of requests.

    python scripts/request_responses.py --instructions instructions.parquet --shard 0000-of-0004 --n 1 \\
        --temperatures 0 --max-tokens 2048 --requests requests.parquet

in:  item_id 9c…, instruction "Name three rivers in Peru."
out: item_id 9c…, request response, messages [user: "Name three rivers in Peru."], temperature 0, n 1

With --rows, those that passed the filters are asked anew, for preference pairs: their conversations up to the response.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from corpusmith.instructions.responding import Responding, response_requests, turns_of
from corpusmith.program import argument_parser, log, run
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import INSTRUCTIONS, REQUESTS, RESPONSES


def main() -> None:
    """Parses the flags and writes the shard."""
    parser = argument_parser(__doc__)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--instructions", type=Path, help="table of instructions")
    asked.add_argument("--rows", type=Path, help="table of rows with responses, to ask for others")
    parser.add_argument("--shard", required=True, help="which shard, such as 0007-of-0064")
    parser.add_argument("--n", type=int, default=1, help="responses at each temperature (default: 1)")
    parser.add_argument(
        "--temperatures", type=float, nargs="+", default=[0.0], help="of the responses; 0 is greedy (default: 0)"
    )
    parser.add_argument("--top-p", type=float, default=1.0, help="of the responses (default: 1.0)")
    parser.add_argument("--top-k", type=int, default=0, help="of the responses; 0 is all (default: 0)")
    parser.add_argument("--max-tokens", type=int, required=True, help="most tokens of a response")
    parser.add_argument(
        "--with-system", action="store_true", help="put the system prompt of an instruction before it, too"
    )
    parser.add_argument("--requests", required=True, help="table of requests to write")
    flags = parser.parse_args()
    responding = Responding(flags.n, flags.temperatures, flags.top_p, flags.top_k, flags.max_tokens)
    conversations = _of_instructions(flags.instructions, flags.with_system) if flags.instructions else _of(flags.rows)
    rows = response_requests(conversations, flags.shard, responding)
    log.info("%s requests in shard %s", f"{write_table(flags.requests, REQUESTS, rows):,}", flags.shard)


def _of_instructions(path: Path, with_system: bool) -> Iterator[tuple[str, Sequence[Mapping[str, str]]]]:
    for row in read_rows(path, INSTRUCTIONS, ["item_id", "instruction", "system"]):
        yield row["item_id"], turns_of(row["instruction"], row["system"] if with_system else None)


def _of(path: Path) -> Iterator[tuple[str, Sequence[Mapping[str, str]]]]:
    for row in read_rows(path, RESPONSES, ["item_id", "messages"]):
        yield row["item_id"], row["messages"][:-1]


if __name__ == "__main__":
    run(main)
