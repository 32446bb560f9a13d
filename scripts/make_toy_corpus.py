"""Makes documents of the toy language, in MADLAD-400's form: one JSON object a line, gzip.

Line breaks are the two characters backslash and n in most documents, real ones in some; a few lines are broken,
as they are in real corpora.

out: {"text": "Mina bought 342 apples.\\\\nThen Juno lost 7 books at school."}
"""

from __future__ import annotations

from corpusmith.program import argument_parser, log, run
from corpusmith.toy.corpus import write_corpus


def main() -> None:
    """Parses the flags and writes the corpus."""
    parser = argument_parser(__doc__)
    parser.add_argument("--documents", type=int, required=True, help="how many documents")
    parser.add_argument("--seed", type=int, required=True, help="seed of the drawing")
    parser.add_argument("--corpus", required=True, help="file to write, .jsonl.gz")
    flags = parser.parse_args()
    write_corpus(flags.documents, flags.seed, flags.corpus)
    log.info("%s documents", flags.documents)


if __name__ == "__main__":
    run(main)
