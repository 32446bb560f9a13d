"""Makes commands of the toy world with their right answers, one a line, to measure a model by.

out: {"instruction": "Write 342 in Korean", "answer": "삼백사십이", "kind": "numeral"}

No command comes twice. The same seed gives the same lines.
"""

from __future__ import annotations

import json
import random

from corpusmith.files import whole_file
from corpusmith.program import argument_parser, log, run
from corpusmith.toy.commands import draw_distinct


def main() -> None:
    """Parses the flags and writes the commands."""
    parser = argument_parser(__doc__)
    parser.add_argument("--commands", type=int, required=True, help="how many commands")
    parser.add_argument("--seed", type=int, required=True, help="seed of the commands")
    parser.add_argument("--commands-file", required=True, help="JSONL file to write")
    flags = parser.parse_args()
    with whole_file(flags.commands_file) as path, path.open("w", encoding="utf-8") as lines:
        for command in draw_distinct(random.Random(flags.seed), flags.commands):
            row = {"instruction": command.text, "answer": command.answer, "kind": command.kind.name}
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    log.info("wrote %d commands to %s", flags.commands, flags.commands_file)


if __name__ == "__main__":
    run(main)
