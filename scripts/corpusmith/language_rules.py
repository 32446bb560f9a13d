"""Rules on the language of a translation: its script, and what a language detector takes it for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import regex

from corpusmith.errors import InputError
from corpusmith.markup import MARKUP

if TYPE_CHECKING:
    import lingua

# Scripts of the languages by ISO 639-1 code, as Unicode property names.
SCRIPTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        [
            "af",
            "ca",
            "cs",
            "cy",
            "da",
            "de",
            "en",
            "es",
            "et",
            "eu",
            "fi",
            "fr",
            "ga",
            "gl",
            "hr",
            "hu",
            "id",
            "is",
            "it",
            "lt",
            "lv",
            "ms",
            "mt",
            "nb",
            "nl",
            "nn",
            "no",
            "pl",
            "pt",
            "ro",
            "sk",
            "sl",
            "sq",
            "sv",
            "sw",
            "tl",
            "tr",
            "vi",
            "az",
            "uz",
            "zu",
            "yo",
            "so",
        ],
        ("Latin",),
    ),
    **dict.fromkeys(["be", "bg", "kk", "ky", "mk", "mn", "ru", "tg", "uk"], ("Cyrillic",)),
    "sr": ("Cyrillic", "Latin"),
    **dict.fromkeys(["ar", "fa", "ps", "ur"], ("Arabic",)),
    **dict.fromkeys(["hi", "mr", "ne"], ("Devanagari",)),
    **dict.fromkeys(["he", "yi"], ("Hebrew",)),
    **dict.fromkeys(["am", "ti"], ("Ethiopic",)),
    "bn": ("Bengali",),
    "el": ("Greek",),
    "gu": ("Gujarati",),
    "hy": ("Armenian",),
    "ja": ("Hiragana", "Katakana", "Han"),
    "ka": ("Georgian",),
    "km": ("Khmer",),
    "kn": ("Kannada",),
    "ko": ("Hangul",),
    "lo": ("Lao",),
    "ml": ("Malayalam",),
    "my": ("Myanmar",),
    "pa": ("Gurmukhi",),
    "si": ("Sinhala",),
    "ta": ("Tamil",),
    "te": ("Telugu",),
    "th": ("Thai",),
    "zh": ("Han",),
}

# Languages that a model confuses with the target: what the detector may choose from, beside source and target.
_LOOK_ALIKES: dict[str, tuple[str, ...]] = {
    "ar": ("fa", "ur"),
    "be": ("ru", "uk"),
    "bg": ("mk", "ru"),
    "ca": ("es", "fr"),
    "cs": ("sk", "pl"),
    "da": ("nb", "sv"),
    "de": ("nl", "en"),
    "en": ("de", "fr"),
    "es": ("pt", "ca", "en"),
    "fa": ("ar", "ur"),
    "fr": ("it", "en"),
    "hi": ("mr",),
    "id": ("ms", "en"),
    "it": ("es", "en"),
    "ja": ("zh",),
    "mk": ("bg", "ru"),
    "mr": ("hi",),
    "ms": ("id", "en"),
    "nb": ("da", "sv"),
    "nl": ("de", "en"),
    "pl": ("cs", "sk"),
    "pt": ("es", "en"),
    "ru": ("uk", "bg"),
    "sk": ("cs", "pl"),
    "sv": ("nb", "da"),
    "uk": ("ru", "be"),
    "ur": ("ar", "fa"),
    "zh": ("ja",),
}
_DETECTOR_CODES = {"no": "nb"}  # lingua knows Norwegian by its two written forms
_DETECTOR_LETTERS = 20  # a shorter text is a guess

_LETTER = regex.compile(r"\p{L}")


def scripts_of(language: str) -> tuple[str, ...]:
    """The scripts of a language (ISO 639-1). Raises InputError for one that is not known."""
    if language not in SCRIPTS:
        raise InputError(
            f"filter: rule script does not know the language {language!r}; it knows {', '.join(sorted(SCRIPTS))}"
            " (set the rule to false for others)"
        )
    return SCRIPTS[language]


def wrong_script(source: str, target: str, language: str, threshold: float) -> str | None:
    """Broken where too few of the target's letters are in the language's scripts.

    Markup, addresses and names that stand in the source as they are do not count. A Japanese text of 20 letters
    or more has kana; one in Han alone is Chinese.
    """
    names = {word for word in regex.findall(r"[\p{L}\p{M}\p{N}]+", source) if regex.search(r"[\p{Lu}\p{N}]", word)}
    text = MARKUP.sub(" ", target)
    words = [word for word in regex.findall(r"[\p{L}\p{M}\p{N}]+", text)]
    scripts = "".join(rf"\p{{{script}}}" for script in scripts_of(language))
    # A name from the source may have a Korean particle behind it, so letters count by script, not by word.
    latin_names = (
        regex.compile(r"\L<names>", names=sorted(names, key=lambda name: (-len(name), name))) if names else None
    )
    letters = right = 0
    for word in words:
        if latin_names is not None and not regex.match(f"[{scripts}]+$", word):
            word = latin_names.sub("", word)
        letters += len(regex.findall(r"\p{L}", word))
        right += len(regex.findall(rf"[[{scripts}]&&\p{{L}}]", word, flags=regex.V1))
    if letters and right < threshold * letters:
        return f"{right} of {letters} letters are {' or '.join(SCRIPTS[language])}"
    if language == "ja" and letters >= _DETECTOR_LETTERS and not regex.search(r"[\p{Hiragana}\p{Katakana}]", text):
        return f"no kana among {letters} letters"
    return None


def needs_detector(source_language: str, target_language: str) -> bool:
    """Whether the script alone does not tell if a text is in the target language."""
    if target_language in _LOOK_ALIKES:
        return True
    shared = set(SCRIPTS.get(source_language, ())) & set(SCRIPTS.get(target_language, ()))
    return bool(shared) or target_language not in SCRIPTS


class LanguageDetector:
    """Tells the target language from the source's and from those that look like it, by lingua.

    It is asked only where the script does not settle the matter: source and target share one, or the target's
    is shared by languages that models confuse with it.
    """

    def __init__(self, source_language: str, target_language: str) -> None:
        """Loads no language model yet. Raises InputError for a language that lingua does not know."""
        from lingua import IsoCode639_1, Language

        codes = [target_language, source_language, *_LOOK_ALIKES.get(target_language, ("en", "de", "fr"))]
        by_code = {language.iso_code_639_1: language for language in Language.all()}
        self._languages = []
        for code in dict.fromkeys(_DETECTOR_CODES.get(code, code) for code in codes):
            known = getattr(IsoCode639_1, code.upper(), None)
            language = None if known is None else by_code.get(known)
            if language is not None:
                self._languages.append(language)
            elif code == _DETECTOR_CODES.get(target_language, target_language):
                raise InputError(f"filter: rule language cannot tell the language {target_language!r}; set it to false")
        self._detector: lingua.LanguageDetector | None = None

    def wrong_language(self, target: str, threshold: float) -> str | None:
        """Broken by a text of 20 letters or more where the confidence in the target language is too low."""
        text = MARKUP.sub(" ", target)
        if len(self._languages) < 2 or len(_LETTER.findall(text)) < _DETECTOR_LETTERS:
            return None
        if self._detector is None:
            from lingua import LanguageDetectorBuilder

            self._detector = LanguageDetectorBuilder.from_languages(*self._languages).build()
        confidence = self._detector.compute_language_confidence(text, self._languages[0])
        if confidence >= threshold:
            return None
        likely = self._detector.detect_language_of(text)
        name = likely.name.capitalize() if likely is not None else "no known language"
        return f"looks like {name}; confidence in {self._languages[0].name.capitalize()} {confidence:.2f}"
