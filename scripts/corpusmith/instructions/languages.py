"""Whether a text is in one of the languages that are expected, by lingua.

expected en: "Explain to me how tides work." passes; "조수가 어떻게 작동하는지 설명해 주세요." looks like Korean
"""

from __future__ import annotations

from collections.abc import Sequence

import regex

from corpusmith.errors import InputError

# What else a text may be in: languages that models answer in, and those that look like one another. 20 languages take
# some 200 MB, and 1 ms for a text of 1,000 characters.
_OTHERS = (
    "ar",
    "de",
    "en",
    "es",
    "fr",
    "hi",
    "id",
    "it",
    "ja",
    "ko",
    "nl",
    "pl",
    "pt",
    "ru",
    "sv",
    "th",
    "tr",
    "vi",
    "zh",
)
_CODES = {"no": "nb"}  # lingua knows Norwegian by its two written forms
_LETTERS = 20  # a shorter text is a guess
_LETTER = regex.compile(r"\p{L}")
# Code, formulas, addresses and tags are in no language.
_NO_PROSE = regex.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|\$\$.*?\$\$|\\\[.*?\\\]|\\\(.*?\\\)|\$[^$\n]+\$|https?://\S+|</?[A-Za-z][^<>\n]*>",
    regex.DOTALL,
)


class ExpectedLanguages:
    """Tells expected languages from others. Raises InputError for a code that lingua does not know.

    codes: ISO 639-1, a region behind them is ignored; confidence: least share, 0 to 1, that the expected languages
    together have.
    """

    def __init__(self, codes: Sequence[str], confidence: float) -> None:
        from lingua import IsoCode639_1, LanguageDetectorBuilder

        expected = [regex.split("[-_]", code.lower())[0] for code in codes]
        expected = [_CODES.get(code, code) for code in expected]
        for given, code in zip(codes, expected, strict=True):
            if not hasattr(IsoCode639_1, code.upper()):
                raise InputError(f"rule language: {given!r} is no ISO 639-1 code that lingua knows, such as en")
        candidates = [getattr(IsoCode639_1, code.upper()) for code in dict.fromkeys([*expected, *_OTHERS])]
        self._expected = {getattr(IsoCode639_1, code.upper()) for code in expected}
        self._confidence = confidence
        # Loads a language when it is first needed.
        self._detector = LanguageDetectorBuilder.from_iso_codes_639_1(*candidates).build()

    def objection(self, text: str) -> str | None:
        """What a text looks like that is in another language; None for one of fewer than 20 letters, code apart."""
        prose = _NO_PROSE.sub(" ", text)
        if len(_LETTER.findall(prose)) < _LETTERS:
            return None
        values = self._detector.compute_language_confidence_values(prose)
        found = sum(value.value for value in values if value.language.iso_code_639_1 in self._expected)
        if found >= self._confidence:
            return None
        likely = values[0].language.name.capitalize()
        return f"looks like {likely}; confidence in what is expected {found:.2f}"
