"""Rules that an instruction and the response to it have to keep, each with a name, a threshold and a reason.

    {"least_reward": 0, "quality": ["good", "excellent"], "ends_with_colon": ["instruction"], "refusal": true}
    instruction "Translate this:", response "I'm sorry, but I can't …", reward -0.5, quality poor
    breaks reward_too_low, quality, ends_with_colon, refusal

Those of Magpie (magpie-align/magpie, data_sft/data_filter.ipynb): quality good or excellent, a reward above -10, no
instruction that ends with a colon, near duplicates apart, and of what is left the longest. Duplicates and the choice of
the best are filters of every recipe, behind these rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import regex

from corpusmith.errors import InputError
from corpusmith.filters import Breach
from corpusmith.form_rules import repeated_share, repetition
from corpusmith.instructions.languages import ExpectedLanguages
from corpusmith.instructions.tags import Tagged

KEEP, DROP = "keep", "drop"
# Columns of tags by the rule that they are held against: language is what lingua finds, language_tag what a model says.
TAG_RULES = {"quality": "quality", "difficulty": "difficulty", "category": "category", "language_tag": "language"}
TEXTS = ("instruction", "response")

# Every rule with its threshold; false or null turns it off.
DEFAULT_RULES: dict[str, Any] = {
    "least_reward": None,  # of the response that is taken
    "quality": None,  # tags that stay, a list
    "difficulty": None,
    "category": None,
    "language_tag": None,
    "untagged": DROP,  # what becomes of instructions whose tags could not be read, where one of those decides: or keep
    "instruction_characters": None,  # least and most, either may be null; white space around does not count
    "response_characters": None,
    "ends_with_colon": ["instruction"],  # texts that may not, of instruction and response
    "refusal": True,  # phrases of refusals at the beginning of a response
    "refusal_phrases": [],  # more of them; case makes no difference
    "repetition": 0.3,  # share of a text that one repeated phrase takes; of a response beyond what the instruction has
    "language": None,  # ISO 639-1 codes of the languages that instruction and response may be in
    "language_confidence": 0.3,  # least confidence of lingua in them together
}

_CAN_NOT = ("can't", "cannot", "can not", "am unable to", "am not able to", "won't", "will not")
_DOING = (
    *("assist", "help you", "help with", "provide", "fulfill", "fulfil", "comply", "answer", "do that"),
    *("create", "write", "generate"),
)
_REFUSALS = (
    *(f"i {cannot} {doing}" for cannot in _CAN_NOT for doing in _DOING),
    *(f"i'm {unable} {doing}" for unable in ("unable to", "not able to") for doing in _DOING),
    *(f"sorry{but} i {cannot}" for but in (",", " but", ", but") for cannot in _CAN_NOT),
    *(f"sorry{but} i'm {unable}" for but in (",", " but", ", but") for unable in ("unable to", "not able to")),
    *(f"{sorry}, but i {cannot}" for sorry in ("i apologize", "i apologise") for cannot in _CAN_NOT),
    "as an ai",
    "i'm just an ai",
    "i'm only an ai",
    "as a language model",
    "as a large language model",
)
# A refusal comes first; further on a phrase may be told of somebody.
_REFUSAL_CHARACTERS = 200
_COLONS = (":", "：")
# What may stand behind a colon and is not seen, as in "**Note:**".
_MARKS = " \t\r\n*_`"


@dataclass(frozen=True)
class Candidate:
    """An instruction with the response that would be taken, or none. tagged: None where nothing was tagged."""

    instruction: str
    response: str | None
    reward: float | None
    tagged: Tagged | None


class ResponseRules:
    """The rules that are on."""

    def __init__(self, rules: Mapping[str, Any], *, scored: bool = True, tagged: bool = False) -> None:
        """Takes thresholds by name, the defaults for those that are absent. scored, tagged: whether there are rewards
        and tags.

        Raises InputError for an unknown rule, a threshold of the wrong kind, and a rule about what is not there.
        """
        unknown = [name for name in rules if name not in DEFAULT_RULES]
        if unknown:
            raise InputError(f"there is no rule {unknown[0]!r}; allowed: {', '.join(DEFAULT_RULES)}")
        self._rules = found = DEFAULT_RULES | dict(rules)
        for name, value in found.items():
            if value is False and name not in ("untagged", "language_confidence", "refusal_phrases"):
                found[name] = None
            _check_threshold(name, found[name])
        _check_inputs(found, scored, tagged)
        self._refusal = _refusals([*_REFUSALS, *found["refusal_phrases"]]) if found["refusal"] else None
        self._languages = None
        if found["language"] is not None:
            self._languages = ExpectedLanguages(found["language"], found["language_confidence"])

    def wanted_tags(self) -> dict[str, list[str]]:
        """The tags that stay, by their column, where there is a rule."""
        return {tag: self._rules[rule] for rule, tag in TAG_RULES.items() if self._rules[rule] is not None}

    def check(self, candidate: Candidate) -> list[Breach]:
        """Every rule that is broken; those about a response only where there is one."""
        checks: tuple[Callable[[Candidate], Iterator[Breach]], ...] = (
            *(self._reward, self._tags, self._lengths, self._colons, self._refusals, self._repetition, self._language),
        )
        return [breach for check in checks for breach in check(candidate)]

    def _reward(self, candidate: Candidate) -> Iterator[Breach]:
        least = self._rules["least_reward"]
        if least is not None and candidate.reward is not None and candidate.reward < least:
            yield Breach("reward_too_low", f"{candidate.reward:g}, below {least:g}")

    def _tags(self, candidate: Candidate) -> Iterator[Breach]:
        tagged = candidate.tagged
        if tagged is None:
            return
        if tagged.tags is None:
            if self._rules["untagged"] == DROP and self.wanted_tags():
                yield Breach("untagged", f"{tagged.reason}: {tagged.detail}")
            return
        for rule, tag in TAG_RULES.items():
            if self._rules[rule] is not None and tagged.tags[tag] not in self._rules[rule]:
                yield Breach(rule, tagged.tags[tag])

    def _lengths(self, candidate: Candidate) -> Iterator[Breach]:
        for name in TEXTS:
            text, band = getattr(candidate, name), self._rules[f"{name}_characters"]
            if text is None or band is None:
                continue
            least, most = band
            length = len(text.strip())
            if least is not None and length < least:
                yield Breach(f"{name}_too_short", f"{length} characters, fewer than {least}")
            if most is not None and length > most:
                yield Breach(f"{name}_too_long", f"{length} characters, more than {most}")

    def _colons(self, candidate: Candidate) -> Iterator[Breach]:
        for name in self._rules["ends_with_colon"] or ():
            text = getattr(candidate, name)
            if text is not None and text.rstrip(_MARKS).endswith(_COLONS):
                yield Breach("ends_with_colon", f"the {name}: {text.rstrip()[-40:]!r}")
                return

    def _refusals(self, candidate: Candidate) -> Iterator[Breach]:
        if self._refusal is not None and candidate.response is not None:
            found = self._refusal.search(_folded(candidate.response)[:_REFUSAL_CHARACTERS])
            if found:
                yield Breach("refusal", repr(found[0]))

    def _repetition(self, candidate: Candidate) -> Iterator[Breach]:
        threshold = self._rules["repetition"]
        if threshold is None:
            return
        share, phrase = repeated_share(candidate.instruction)
        if share >= threshold:
            yield Breach("repetition", f"the instruction: {phrase[:40]!r} takes {share:.2f} of the text")
        elif candidate.response is not None:
            # An instruction that asks for a refrain excuses it.
            detail = repetition(candidate.instruction, candidate.response, threshold)
            if detail is not None:
                yield Breach("repetition", f"the response: {detail}")

    def _language(self, candidate: Candidate) -> Iterator[Breach]:
        if self._languages is None:
            return
        for name in TEXTS:
            text = getattr(candidate, name)
            detail = self._languages.objection(text) if text is not None else None
            if detail is not None:
                yield Breach("language", f"the {name} {detail}")
                return


def _folded(text: str) -> str:
    return " ".join(text.replace("’", "'").casefold().split())


def _refusals(phrases: Sequence[str]) -> regex.Pattern[str]:
    # Not within a word; but particles of other scripts may stand behind one.
    return regex.compile(r"(?<![a-z0-9])\L<phrases>(?![a-z0-9])", phrases=sorted({_folded(one) for one in phrases}))


def _check_inputs(rules: Mapping[str, Any], scored: bool, tagged: bool) -> None:
    if not scored and rules["least_reward"] is not None:
        raise InputError("rule least_reward: responses have no rewards; name a reward model, or leave it out")
    given = [name for name in TAG_RULES if rules[name] is not None]
    if given and not tagged:
        raise InputError(f"rule {given[0]}: instructions have no tags; have them tagged, or leave it out")


def _check_threshold(name: str, value: Any) -> None:
    """Raises InputError unless a value is one for the rule; None is off."""
    default = DEFAULT_RULES[name]
    if name == "untagged":
        right, wanted = value in (KEEP, DROP), f"{KEEP} or {DROP}"
    elif name == "refusal_phrases":
        right, wanted = _is_list(value), "a list of phrases"
    elif name == "language_confidence":
        right, wanted = _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"
    elif value is None:
        return
    elif isinstance(default, bool):
        right, wanted = isinstance(value, bool), "true or false"
    elif name == "least_reward":
        right, wanted = _is_number(value), "a number"
    elif name == "repetition":
        right, wanted = _is_number(value) and 0 < value <= 1, "a share above 0, at most 1"
    elif name.endswith("_characters"):
        right, wanted = _is_band(value), "the least and the most, such as [10, 2000] or [10, null]"
    elif name == "ends_with_colon":
        right, wanted = _is_list(value) and set(value) <= set(TEXTS), f"a list out of {', '.join(TEXTS)}"
    else:
        right, wanted = _is_list(value) and len(value) > 0, "a list of those that stay"
    if not right:
        raise InputError(f"rule {name} = {value!r}: it takes {wanted}; false turns off what can be")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(one, str) and one.strip() for one in value)


def _is_band(value: Any) -> bool:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return False
    if not all(one is None or (isinstance(one, int) and not isinstance(one, bool) and one >= 0) for one in value):
        return False
    return value[0] is None or value[1] is None or value[0] <= value[1]
