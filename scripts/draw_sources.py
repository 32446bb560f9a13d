"""Draws sources at random from the pool, to compare those that were selected with.

in:  the pool, item_id 9f…, text "…"
out: the same rows for `count` of them, by seed
"""

from __future__ import annotations

from corpusmith.program import argument_parser, run
from corpusmith.translation import draw_sources


def main() -> None:
    """Parses the flags and draws."""
    parser = argument_parser(__doc__)
    parser.add_argument("--segments", required=True, help="table of segments: the pool")
    parser.add_argument("--count", required=True, type=int, help="how many sources are drawn")
    parser.add_argument("--seed", type=int, default=1, help="seed of the drawing (default: 1)")
    parser.add_argument("--selected", required=True, help="table of selected sources to write")
    flags = parser.parse_args()
    draw_sources(flags.segments, flags.count, flags.seed, flags.selected)


if __name__ == "__main__":
    run(main)
