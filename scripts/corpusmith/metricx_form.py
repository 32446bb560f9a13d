"""The form of MetricX-24 as its authors published it (google-research/metricx): what it reads, and where its score is.

Apart from what computes it, so that a faster scorer makes nothing due that only knows the form.
"""

from __future__ import annotations

from corpusmith.pairs import Pair

# The extra token <extra_id_10> of mT5: what the authors trained to hold the score.
SCORE_TOKEN = 250_089
LOWEST, HIGHEST = 0.0, 25.0
# The published length limit, the end token counted, which is dropped afterwards.
MAX_LENGTH = 1536


def as_input(pair: Pair) -> str:
    """The text that the model reads."""
    text = f"source: {pair.source} candidate: {pair.hypothesis}"
    return text if pair.reference is None else f"{text} reference: {pair.reference}"
