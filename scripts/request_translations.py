"""Asks for translations: from a table of sources to one shard of a table of requests.

in:  item_id 9f…, text "Mina bought 3 books."
out: item_id 9f…, request greedy,  messages [user: "Translate …"], temperature 0, n 1
     item_id 9f…, request sampled, messages [user: "Translate …"], temperature 1, n 128
"""

from __future__ import annotations

import pyarrow as pa

from corpusmith.program import argument_parser, log, run
from corpusmith.prompts import load_prompt
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import ITEM_ID, REQUESTS, Column, Table
from corpusmith.translation import Asking, Language, translation_requests

# Segments of the pool and selected sources have these two in common.
_TEXTS = Table("sources", ITEM_ID, Column("text", pa.string(), "the source"))


def main() -> None:
    """Parses the flags and writes the shard."""
    parser = argument_parser(__doc__)
    parser.add_argument("--sources", required=True, help="table with item_id and text")
    parser.add_argument("--shard", required=True, help="which shard, such as 0007-of-0064")
    parser.add_argument("--prompt", required=True, help="file of the prompt, a jinja template")
    parser.add_argument(
        "--source-language", required=True, nargs=2, metavar=("CODE", "NAME"), help="such as en English"
    )
    parser.add_argument("--target-language", required=True, nargs=2, metavar=("CODE", "NAME"), help="such as ko Korean")
    parser.add_argument("--n", type=int, required=True, help="sampled answers for each source")
    parser.add_argument("--greedy", action="store_true", help="ask for one greedy answer as well")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the sampled answers (default: 1.0)")
    parser.add_argument("--top-p", type=float, default=1.0, help="of the sampled answers (default: 1.0)")
    parser.add_argument("--top-k", type=int, default=0, help="of the sampled answers; 0 is all (default: 0)")
    parser.add_argument("--max-tokens", type=int, required=True, help="most tokens of an answer")
    parser.add_argument("--requests", required=True, help="table of requests to write")
    flags = parser.parse_args()
    languages = (
        Language(flags.source_language[1], flags.source_language[0]),
        Language(flags.target_language[1], flags.target_language[0]),
    )
    asking = Asking(flags.n, flags.greedy, flags.temperature, flags.top_p, flags.top_k, flags.max_tokens)
    rows = translation_requests(
        read_rows(flags.sources, _TEXTS, ["item_id", "text"]), flags.shard, load_prompt(flags.prompt), languages, asking
    )
    log.info("%s requests in shard %s", write_table(flags.requests, REQUESTS, rows), flags.shard)


if __name__ == "__main__":
    run(main)
