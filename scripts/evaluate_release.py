"""Says how good a release is against references: BLEU, chrF, chrF++ and the means of any metrics' scores.

Compares three systems on the same rows: released, sampled (one draw) and greedy; and the first two with greedy, row by
row. BLEU and chrF are sacrebleu's, BLEU with the tokenizer for the target language; their differences have the standard
error and the p-value of a paired bootstrap.

in:  evaluation/requests and evaluation/completions, as pair_references.py writes them; for each metric its scores
out: {"rows": {"in": 950, "kept": 947, "dropped": {"no_answer": 3}},
      "corpus_metrics": {"BLEU": {"direction": "higher", "signature": "nrefs:1|…",
                                  "systems": {"greedy": {"score": 31.2}, …},
                                  "against_greedy": {"released": {"difference": 1.2, "standard_error": 0.2, …}, …}}, …},
      "metrics": {"metricx-xl": {"direction": "lower",
                                 "systems": {"greedy": {"mean": 2.9, "standard_error": 0.05, "rows": 947, …}, …},
                                 "against_greedy": {"released": {"difference": -0.4, "standard_error": 0.03, …}, …}}}}
"""

from __future__ import annotations

from pathlib import Path

from corpusmith.errors import InputError
from corpusmith.evaluation import MetricScores, evaluate
from corpusmith.evaluation_lines import evaluation_lines
from corpusmith.files import write_json
from corpusmith.program import argument_parser, log, run


def main() -> None:
    """Parses the flags and evaluates."""
    parser = argument_parser(__doc__)
    parser.add_argument("--evaluation", required=True, type=Path, help="folder of requests and completions")
    parser.add_argument("--shards", required=True, type=int, help="how many shards they are in")
    parser.add_argument("--target-language", required=True, help="ISO 639-1 code of the answers' language, such as ko")
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        nargs=3,
        metavar=("NAME", "DIRECTION", "SCORES"),
        help="a metric, whether lower or higher is better, and the folder of its scores, in as many shards; repeatable",
    )
    parser.add_argument("--metrics", required=True, help="JSON to write")
    flags = parser.parse_args()
    if flags.shards < 1:
        raise InputError(f"--shards {flags.shards}: must be 1 or more")
    metrics = [MetricScores(name, direction, Path(scores)) for name, direction, scores in flags.metric]
    results = evaluate(flags.evaluation, flags.shards, flags.target_language, metrics)
    write_json(flags.metrics, results)
    for line in evaluation_lines(results):
        log.info(line)


if __name__ == "__main__":
    run(main)
