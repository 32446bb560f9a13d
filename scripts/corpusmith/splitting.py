"""Sentences of a text, with rules for its language.

sentencex (Wikimedia) splits all languages but Thai, which ends no sentence with a mark: there pythainlp's crfcut does,
a conditional random field over words. A line break always ends a sentence. sentencex also ends one at a closing
quotation mark behind a full stop, so that 「行く。」と言った。 would fall apart; in Japanese, Chinese and Korean the
two are joined again where what follows can only go on with the sentence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

Span = tuple[int, int]

# crfcut takes a few kilobytes of memory a word, so longer lines are cut at white space first. No Thai sentence is
# near as long; what has no white space for so long is no prose and stays whole.
THAI_PIECE_CHARACTERS = 4_000

_LINE = re.compile("[^\n\r\x85\u2028\u2029]+")
_CLOSING = tuple("」』”’）)》〉】\"'")
_CONTINUES = {
    # Quotative and case particles, but not the adverbs and conjunctions that begin like them.
    "ja": re.compile("と(?!ても|ころ|にかく|りあえず|もあれ|もに|ある|なり)|って|など|を|の(?!ち|んびり|ど)|[、，]"),
    # Punctuation that no sentence begins with, attributive particles, and "he said" at the very end.
    "zh": re.compile("[，、；：的地]|[^，。！？“”]{0,10}(?:[说說问問喊叫答笑]道|[说說问問喊])[。！]?$"),
    # Sentences have a space between them; particles and verbs of saying follow a quotation without one.
    "ko": re.compile("[가-힣]"),
}


def split_sentences(text: str, language: str) -> list[Span]:
    """The sentences of a text as (start, end) in characters: in order, trimmed, none empty.

    Between them lies nothing but white space. language: a code such as en, ja or zh-Hant; one that sentencex has no
    rules for is split by its fallbacks.
    """
    language = base_language(language)
    split_line = _thai_spans if language == "th" else _spans
    sentences = []
    for line in _LINE.finditer(text):
        for start, end in _trimmed(line[0], split_line(line[0], language)):
            sentences.append((line.start() + start, line.start() + end))
    return sentences


def base_language(language: str) -> str:
    """The language of a code, without script and region: zh of zh_Hant-TW."""
    return re.split("[-_]", language)[0].lower()


def _trimmed(line: str, spans: Iterator[Span]) -> Iterator[Span]:
    for start, end in spans:
        while start < end and line[start].isspace():
            start += 1
        while start < end and line[end - 1].isspace():
            end -= 1
        if start < end:
            yield start, end


def _spans(line: str, language: str) -> Iterator[Span]:
    from sentencex import get_sentence_boundaries

    continues = _CONTINUES.get(language)
    start = end = 0
    for boundary in get_sentence_boundaries(language, line):
        following = line[boundary["start_index"] : boundary["end_index"]]
        if end > start and not (continues and line[:end].endswith(_CLOSING) and continues.match(following)):
            yield start, end
            start = end
        end = boundary["end_index"]
    # All up to the line's end, whatever the library left over.
    if start < len(line):
        yield start, len(line)


def _thai_spans(line: str, language: str) -> Iterator[Span]:
    # Without it, pythainlp makes a folder for its downloads in the user's home; crfcut's model comes with the package.
    os.environ.setdefault("PYTHAINLP_READ_ONLY", "1")
    from pythainlp.tokenize import sent_tokenize

    for start, end in _pieces(line, THAI_PIECE_CHARACTERS):
        if end - start > THAI_PIECE_CHARACTERS:
            yield start, end
            continue
        for sentence in sent_tokenize(line[start:end], engine="crfcut", keep_whitespace=True):
            yield start, start + len(sentence)
            start += len(sentence)
        if start < end:
            yield start, end


def _pieces(line: str, most: int) -> Iterator[Span]:
    start = end = 0
    for run in re.finditer(r"\s*\S+\s*", line):
        if end > start and run.end() - start > most:
            yield start, end
            start = end
        end = run.end()
    if start < end:
        yield start, end
