"""Candidate segments of a document: its sentences, or blobs of consecutive sentences; never both.

Which of the two, and how long each blob is to be, follow from hashes of the seed and the document's text alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from corpusmith.documents import Document, normalise_line_breaks, pad_line_breaks
from corpusmith.errors import InputError
from corpusmith.identity import fraction, item_id
from corpusmith.splitting import Span, split_sentences

SENTENCE, BLOB = "sentence", "blob"
KINDS = (SENTENCE, BLOB)


@dataclass(frozen=True)
class Buckets:
    """Length buckets between edges in tokens: the bucket 10-20 holds 10 <= tokens < 20."""

    edges: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.edges) < 2 or self.edges[0] < 0 or any(a >= b for a, b in pairwise(self.edges)):
            raise InputError(
                f"edges {' '.join(map(str, self.edges))}: must be two or more whole numbers from 0 that climb,"
                " such as 0 10 20 40"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The buckets' names, shortest first."""
        return tuple(f"{lower}-{upper}" for lower, upper in pairwise(self.edges))

    def of(self, tokens: int) -> str | None:
        """The bucket of a length, None outside all."""
        for lower, upper in pairwise(self.edges):
            if lower <= tokens < upper:
                return f"{lower}-{upper}"
        return None


@dataclass(frozen=True)
class SegmentSettings:
    """What segments depend on besides the document.

    blob_share: share of documents that give blobs; blob_tokens: most tokens of a blob.
    """

    language: str
    buckets: Buckets
    seed: int
    blob_share: float = 0.5
    blob_tokens: int = 512


class Segment(NamedTuple):
    """A candidate. start and end: characters in the document's text as stored, the end excluded."""

    item_id: str
    text: str
    kind: str
    tokens: int
    bucket: str
    start: int
    end: int


@dataclass
class DocumentSegments:
    """The segments of one document, and how many were dropped, by reason."""

    segments: list[Segment] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, or of a folder with one. Raises InputError where there is none."""
    path = Path(path)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file}: no such tokenizer; give a tokenizer.json or a folder that holds one")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing more particular
        raise InputError(f"{file}: is no tokenizer of the tokenizers library ({error}); fetch it again") from error
    # A tokenizer.json may hold both, and either would make the counts wrong.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def count_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """The number of tokens of each text by itself, without the special tokens of a model's input."""
    return [len(encoding) for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def segment_document(document: Document, tokenizer: Tokenizer, settings: SegmentSettings) -> DocumentSegments:
    """All candidate segments of a document, in order.

    A document that is drawn for blobs but has one sentence only gives that sentence.
    """
    spans = split_sentences(pad_line_breaks(document.text, document.line_breaks), settings.language)
    lengths = count_tokens(tokenizer, [document.text[start:end] for start, end in spans])
    key = item_id(document.text)
    result = DocumentSegments()
    if len(spans) > 1 and fraction(f"blobs {settings.seed}", key) < settings.blob_share:
        kind, candidates = BLOB, _pack(document, key, spans, lengths, tokenizer, settings)
    else:
        kind, candidates = SENTENCE, [(*span, length) for span, length in zip(spans, lengths, strict=True)]
    for start, end, tokens in candidates:
        bucket = settings.buckets.of(tokens)
        if bucket is None:
            result.dropped["outside_buckets"] += 1
            continue
        text = normalise_line_breaks(document.text[start:end], document.line_breaks)
        result.segments.append(Segment(item_id(text), text, kind, tokens, bucket, start, end))
    return result


def _pack(
    document: Document,
    key: str,
    spans: Sequence[Span],
    lengths: Sequence[int],
    tokenizer: Tokenizer,
    settings: SegmentSettings,
) -> list[tuple[int, int, int]]:
    """Blobs (start, end, tokens) of two sentences or more, none above settings.blob_tokens.

    The length that a blob may reach is drawn uniformly from 1 to blob_tokens, so that every bucket gets some: always
    packing to the limit would leave the short ones empty. Two sentences are taken even where they are longer than
    that; where they are longer than blob_tokens, the first is passed over.
    """
    blobs = []
    first = 0
    while first + 1 < len(spans):
        drawn = fraction(f"blob length {settings.seed}", f"{key} {first}")
        target = 1 + int(drawn * settings.blob_tokens)
        # The sum over sentences says where to end; only the count of the blob's own text is exact.
        last, total = first + 1, lengths[first] + lengths[first + 1]
        while last + 1 < len(spans) and total + lengths[last + 1] <= target:
            last += 1
            total += lengths[last]
        while True:
            start, end = spans[first][0], spans[last][1]
            text = normalise_line_breaks(document.text[start:end], document.line_breaks)
            (tokens,) = count_tokens(tokenizer, [text])
            if last == first + 1 or tokens <= target:
                break
            last -= 1
        if tokens > settings.blob_tokens:
            first += 1
            continue
        blobs.append((start, end, tokens))
        first = last + 1
    return blobs
