"""Rules that a translation has to keep, each with a name, a threshold and a reason when it is broken.

The rules look at form, not at meaning: what they find is wrong whatever the text says. Each compares with the
source, so that what the source has (a smiley, a refrain, a "Note:") is no fault of the translation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import regex

from corpusmith.errors import InputError
from corpusmith.form_rules import brackets, copied_source, empty, length_ratio, line_count, preamble, repetition
from corpusmith.language_rules import LanguageDetector, needs_detector, scripts_of, wrong_script
from corpusmith.markup import markup
from corpusmith.written_numbers import invented_number, lost_number

# The rules in the order in which breaches are reported, with the thresholds that config may change.
DEFAULT_RULES: dict[str, Any] = {
    "empty": True,  # nothing that can be seen
    "preamble": True,  # what a model says about its translation
    "copied_source": 0.8,  # least similarity to the source, 0 to 1, that breaks it
    "script": 0.5,  # least share of the letters that are in the language's scripts
    "language": 0.3,  # least confidence of the language detector in the target language
    "length_ratio": [0.3, 3.0],  # characters of the target for one of the source, each weighed by its script
    "repetition": 0.3,  # share of the text that one repeated phrase takes, beyond what it takes in the source
    "line_count": True,  # as many lines with text
    "markup": True,  # the same tags, links, list markers, placeholders
    "brackets": True,  # brackets and quotes that close
    "numbers": True,  # every number survives, none is made up
    "max_score": 5.0,  # greatest score; MetricX gives 0 (perfect) to 25
}


@dataclass(frozen=True)
class Breach:
    """A broken rule: its name, and what was seen, for people."""

    rule: str
    detail: str


class TranslationRules:
    """The rules for one language pair."""

    def __init__(self, rules: Mapping[str, Any], source_language: str, target_language: str) -> None:
        """Takes thresholds by rule name; a rule that is absent, false or null is off.

        Languages are ISO 639-1 codes, a region behind them is ignored (pt-BR). Raises InputError for an unknown
        rule, a threshold of the wrong kind, or a language that a rule does not know.
        """
        unknown = [name for name in rules if name not in DEFAULT_RULES]
        if unknown:
            raise InputError(f"filter: no rule named {unknown[0]!r}; there are {', '.join(DEFAULT_RULES)}")
        self.source_language = _language_code(source_language)
        self.target_language = _language_code(target_language)
        self._checks: list[tuple[str, Callable[[str, str], str | None]]] = []
        self._max_score: float | None = None
        for name in DEFAULT_RULES:
            threshold = rules.get(name)
            if threshold is None or threshold is False:
                continue
            _check_threshold(name, threshold)
            if name == "max_score":
                self._max_score = float(threshold)
            else:
                check = self._rule(name, threshold)
                if check is not None:
                    self._checks.append((name, check))

    def check(self, source: str, target: str, score: float) -> list[Breach]:
        """Every rule that the translation breaks, in the order of DEFAULT_RULES. Line breaks are real ones."""
        breaches = []
        for name, check in self._checks:
            detail = check(source, target)
            if detail is not None:
                breaches.append(Breach(name, detail))
        if self._max_score is not None and not score <= self._max_score:
            breaches.append(Breach("max_score", f"score {score:.3f} is above {self._max_score:g}"))
        return breaches

    def _rule(self, name: str, threshold: Any) -> Callable[[str, str], str | None] | None:
        source_language, target_language = self.source_language, self.target_language
        match name:
            case "empty":
                return lambda source, target: empty(target)
            case "preamble":
                return lambda source, target: preamble(source, target, target_language)
            case "copied_source":
                return lambda source, target: copied_source(source, target, threshold)
            case "script":
                scripts_of(target_language)
                return lambda source, target: wrong_script(source, target, target_language, threshold)
            case "language":
                if not needs_detector(source_language, target_language):
                    return None
                detector = LanguageDetector(source_language, target_language)
                return lambda source, target: detector.wrong_language(target, threshold)
            case "length_ratio":
                return lambda source, target: length_ratio(source, target, threshold[0], threshold[1])
            case "repetition":
                return lambda source, target: repetition(source, target, threshold)
            case "line_count":
                return line_count
            case "markup":
                return markup
            case "brackets":
                return brackets
            case "numbers":
                return lambda source, target: numbers(source, target, source_language, target_language)
        raise AssertionError(name)


def _language_code(language: str) -> str:
    return regex.split("[-_]", language.lower())[0]


def _check_threshold(name: str, threshold: Any) -> None:
    default = DEFAULT_RULES[name]
    if isinstance(default, bool):
        right, wanted = isinstance(threshold, bool), "true or false"
    elif isinstance(default, list):
        right = isinstance(threshold, (list, tuple)) and len(threshold) == 2 and all(map(_is_number, threshold))
        right = right and 0 <= threshold[0] < threshold[1]
        wanted = "a list of the least and the greatest ratio, such as [0.3, 3.0]"
    elif name == "max_score":
        right, wanted = _is_number(threshold), "a number"
    else:
        right, wanted = _is_number(threshold) and 0 <= threshold <= 1, "a number from 0 to 1"
    if not right:
        raise InputError(f"filter: rule {name} = {threshold!r}; it takes {wanted}, or false to turn it off")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def numbers(source: str, target: str, source_language: str, target_language: str) -> str | None:
    """Broken by a number of the source that is missing in the target, or one in digits that is new there.

    What counts as a number, and what is exempt, is told in corpusmith.written_numbers.
    """
    lost = lost_number(source, target, source_language, target_language)
    if lost is not None:
        return f"{lost} is missing"
    invented = invented_number(source, target, source_language, target_language)
    return None if invented is None else f"{invented} is not in the source"
