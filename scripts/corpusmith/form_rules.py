"""Rules on the form of a translation: empty, copied, too long, repetitive, with brackets open or a preamble."""

from __future__ import annotations

import unicodedata
from collections import Counter

import regex
from rapidfuzz.fuzz import ratio

# How many Latin letters a character stands for. Hangul: measured on 1,316 professional translations of English
# news (168,046 characters to 62,055 syllables and 30,560 others: 2.2). Han and kana: rough
# figures, not measured here; the bounds are wide enough for them to be a third off.
_WEIGHTS = (("Hangul", 2.2), ("Han", 3.0), (r"Hiragana}\p{Katakana", 1.7))
_SHORT = 10  # characters, weighed; below it a ratio says little
_SHORT_TOLERANCE = 20  # characters that a short text's translation may be longer

_SPACELESS = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
_LETTER = regex.compile(r"\p{L}")


# --- empty, copied ---


def empty(target: str) -> str | None:
    """Broken by a target without a visible character."""
    return None if regex.search(r"[^\p{Z}\p{C}\p{M}]", target) else "nothing to be seen"


def copied_source(source: str, target: str, threshold: float) -> str | None:
    """Broken by a target that is the source or almost: similarity by edit distance, without case and white space.

    Sources without letters are exempt.
    """
    if not _LETTER.search(source):
        return None
    similarity = ratio(_plain(source), _plain(target)) / 100
    return f"{similarity:.2f} alike" if similarity >= threshold else None


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


# --- length, repetition, lines ---


def weighed_length(text: str) -> float:
    """Characters, each counted as the Latin letters that it stands for on average."""
    text = text.strip()
    return len(text) + sum((weight - 1) * len(regex.findall(rf"[\p{{{name}}}]", text)) for name, weight in _WEIGHTS)


def length_ratio(source: str, target: str, least: float, greatest: float) -> str | None:
    """Broken by a target that is too short or too long for its source, by weighed characters.

    Where one of both is shorter than 10, the target is also right as long as they differ by 20 at most.
    """
    source_length, target_length = weighed_length(source), weighed_length(target)
    if min(source_length, target_length) < _SHORT and abs(source_length - target_length) <= _SHORT_TOLERANCE:
        return None
    if least * source_length <= target_length <= greatest * source_length:
        return None
    return f"ratio {target_length / source_length:.2f}" if source_length else f"{len(target)} characters for none"


def repetition(source: str, target: str, threshold: float) -> str | None:
    """Broken where one repeated phrase takes more of the target than of the source, by at least the threshold."""
    share, phrase = repeated_share(target)
    if share < threshold:
        return None
    excess = share - repeated_share(source)[0]
    return f"{phrase[:40]!r} takes {share:.2f} of the text" if excess >= threshold else None


def repeated_share(text: str) -> tuple[float, str]:
    """The largest share of a text, 0 to 1, that one repeated phrase covers, and the phrase.

    A phrase of one or two words is repeated if it stands three times or more in a row, one of three to eight words
    if it stands three times anywhere. Scripts without spaces: 1 to 3 characters four times in a row, 4 to 16
    three times anywhere. In every script: up to 30 characters with a letter, five times in a row.
    """
    best = (0.0, "")
    words = text.casefold().split()
    best = max(best, _repeated(words, " ", 2, 3, 8))
    characters = [character for character in text.casefold() if not character.isspace()]
    if len(_SPACELESS.findall(text)) * 2 > len(characters):
        best = max(best, _repeated(characters, "", 3, 4, 16))
    joined = "".join(characters)
    for match in regex.finditer(r"(\S{1,30}?)\1{4,}", joined):
        if _LETTER.search(match[1]):
            best = max(best, (len(match[0]) / len(joined), match[1]))
    return best


def _repeated(units: list[str], joint: str, in_a_row_to: int, in_a_row: int, longest: int) -> tuple[float, str]:
    best = (0.0, "")
    for length in range(1, min(longest, len(units) // 3) + 1):
        counts: Counter[tuple[str, ...]] = Counter()
        free_from: dict[tuple[str, ...], int] = {}
        row: dict[tuple[str, ...], int] = {}
        for start in range(len(units) - length + 1):
            phrase = tuple(units[start : start + length])
            if free_from.get(phrase, 0) > start:
                continue
            row[phrase] = row.get(phrase, 0) + 1 if free_from.get(phrase) == start else 1
            free_from[phrase] = start + length
            if length > in_a_row_to:
                counts[phrase] += 1
            else:
                counts[phrase] = max(counts[phrase], row[phrase])
        if not counts:
            continue
        phrase, count = max(counts.items(), key=lambda item: (item[1], item[0]))
        wanted = in_a_row if length <= in_a_row_to else 3
        if count >= wanted and _LETTER.search(joint.join(phrase)):
            best = max(best, (count * length / len(units), joint.join(phrase)))
    return best


def line_count(source: str, target: str) -> str | None:
    """Broken where the target has more or fewer lines with text than the source."""
    expected, found = _lines(source), _lines(target)
    return None if found == expected else f"{found} lines for {expected}"


def _lines(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip())


# --- brackets ---

_PAIRS = ("()", "[]", "{}", "「」", "『』", "《》", "【】")
# In German and Danish texts these open to the inside, so they are only counted.
_GUILLEMETS = "«»"
_DOUBLE_QUOTES = frozenset('"“”„‟＂')


def brackets(source: str, target: str) -> str | None:
    """Broken by a kind of bracket or quote that is open in the target while those of the source are closed.

    Straight and curly double quotes are one kind, known by an odd count, since languages pair them differently.
    Single quotes are apostrophes too and are left alone. Where the source itself has an open one of the same
    sort (a list's "1)", a smiley, a speech over several segments), anything goes.
    """
    source, target = _half_width(source), _half_width(target)
    for pair in _PAIRS:
        if _is_open(target, pair) and not _is_open(source, pair):
            return f"{pair} not balanced"
    quotes_open = (
        _odd_quotes(source) or _uneven_guillemets(source) or any(_is_open(source, pair) for pair in _PAIRS[3:5])
    )
    if not quotes_open and _odd_quotes(target):
        return "an odd number of double quotes"
    if not quotes_open and _uneven_guillemets(target):
        return "«» not balanced"
    return None


def _half_width(text: str) -> str:
    return "".join(
        unicodedata.normalize("NFKC", character) if "！" <= character <= "～" else character for character in text
    )


def _is_open(text: str, pair: str) -> bool:
    depth = 0
    for character in text:
        if character == pair[0]:
            depth += 1
        elif character == pair[1]:
            depth -= 1
            if depth < 0:
                return True
    return depth != 0


def _odd_quotes(text: str) -> bool:
    return sum(character in _DOUBLE_QUOTES for character in text) % 2 == 1


def _uneven_guillemets(text: str) -> bool:
    return text.count(_GUILLEMETS[0]) != text.count(_GUILLEMETS[1])


# --- preamble ---

_LANGUAGE_NAMES = (
    "korean|english|japanese|chinese|german|french|spanish|italian|portuguese|russian|arabic|hindi|vietnamese|thai|dutch|polish"
    "|turkish|ukrainian|czech|swedish|한국어|영어|일본어|중국어|deutsch|englisch|français|anglais|español|inglés|italiano|português"
    "|русский|日本語|中文|英語|英文|한글|العربية"
)
_TRANSLATION_NAMES = (
    "translation|translated text|번역|번역문|번역본|번역 결과"
    "|übersetzung|traduction|traducción|traduzione|tradução"
    ""
    "|перевод|翻訳|訳|訳文|日本語訳|翻译|譯文|译文|翻譯|الترجمة"
    "|ترجمة|terjemahan|bản dịch|คำแปล|vertaling|tłumaczenie|çeviri"
)
_COLON = r"\s*[*_]*\s*[:：]"
# What a model says before or after its translation. A pattern that the source has too is no fault.
_PREAMBLES = {
    "a label": regex.compile(
        rf"^\W*(?:(?:the |final )?(?:{_LANGUAGE_NAMES})?\s?(?:{_TRANSLATION_NAMES})|{_LANGUAGE_NAMES}"
        rf"|(?:{_TRANSLATION_NAMES}) \((?:{_LANGUAGE_NAMES})\)){_COLON}",
        regex.IGNORECASE,
    ),
    "an announcement": regex.compile(
        r"^[^\n]{0,40}(?:\bhere(?:['’]s| is| are) [^\n:]{0,40}\btranslat|\bthe translation (?:is|of)\b"
        r"|다음은 [^\n]{0,40}번역|번역(?:은|하면|한 것은|한 문장은) 다음과 같|번역해 ?드리|번역(?:입니다|했습니다)[.:]"
        r"|\bhier ist [^\n]{0,40}übersetzung|\bvoici [^\n]{0,40}traduction"
        r"|\baquí (?:está|tienes|tiene) [^\n]{0,40}traducción"
        r"|\becco [^\n]{0,40}traduzione|\baqui está [^\n]{0,40}tradução|\bвот [^\n]{0,40}перевод"
        r"|以下[はが][^\n]{0,30}(?:翻訳|訳)"
        r"|以下是[^\n]{0,30}(?:翻译|翻譯|译文|譯文)|(?:إليك|فيما يلي) [^\n]{0,30}ترجم)",
        regex.IGNORECASE,
    ),
    "a fence": regex.compile(r"```|<\|\w+\|>|</?think>"),
    "a note": regex.compile(
        r"(?:^|[\n.!?。！？)）\"”’])\s*[*_(（\[]*\s*(?:(?:translator['’]?s? )?notes?|n\.?b\.?"
        r"|explanation|alternative(?:ly)?|참고(?:로| 사항)?|주의|주|설명"
        r"|역주|비고|참조|hinweis|anmerkung(?: des übersetzers)?|achtung"
        r"|remarque|nota(?: del traductor)?|observação|opmerking|примечание|внимание"
        r"|注|注記|注释|註"
        rf"|注意|备注|備註|補足|说明|ملاحظة){_COLON}"
        # Capitalised, or in a word that is nothing else, also behind a heading without a full stop.
        rf"|(?-i:\s[*_(（\[]*(?:Note|Hinweis|Anmerkung|Remarque|Примечание|참고|역주|訳注|译注|ملاحظة){_COLON})",
        regex.IGNORECASE,
    ),
}
_AGREEMENT = regex.compile(r"^\W*(?:sure|certainly|of course|absolutely|okay)\s?[,!:.]", regex.IGNORECASE)
_AGREEMENT_AND_MORE = regex.compile(
    r"^\W*(?:sure|certainly|of course|absolutely|okay|물론(?:입니다|이죠|이에요)|네"
    r"|natürlich|gerne|bien sûr|claro|certo|конечно|もちろん(?:です)?|はい|好的|当然)"
    r"\s?[,!:.。！，]\s?(?:here|i['’]ll|i can|번역|다음은|hier|voici|aquí|aqui|ecco|вот|以下|这是|这里)",
    regex.IGNORECASE,
)


def preamble(source: str, target: str, language: str) -> str | None:
    """Broken by what a model says about its translation, before, around or behind it, in several languages."""
    for what, pattern in _PREAMBLES.items():
        match = pattern.search(target.strip())
        if match and not pattern.search(source.strip()):
            return f"{what}: {match[0].strip()[:60]!r}"
    agreement = _AGREEMENT_AND_MORE if language == "en" else _AGREEMENT
    for pattern in (agreement, _AGREEMENT_AND_MORE):
        match = pattern.search(target)
        if match and not pattern.search(source):
            return f"an answer: {match[0].strip()[:60]!r}"
    return None
