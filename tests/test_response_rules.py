"""Rules that an instruction and its response have to keep: what breaks them, and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from corpusmith.errors import InputError
from corpusmith.instructions.rules import DEFAULT_RULES, Candidate, ResponseRules
from corpusmith.instructions.tags import Tagged

TAGS = {"difficulty": "easy", "quality": "good", "category": "Math", "language": "en"}


def broken(
    rules: Mapping[str, Any], instruction: str = "Add 12 and 30.", response: str | None = "42", **more: Any
) -> Any:
    """The rules that one row breaks, the defaults off but for those that are given, and what was seen."""
    tagged = more.get("tagged")
    found = ResponseRules({"ends_with_colon": None, "refusal": False, "repetition": None} | dict(rules), tagged=True)
    breaches = found.check(Candidate(instruction, response, more.get("reward", 0.0), tagged))
    return {breach.rule: breach.detail for breach in breaches}


def test_a_reward_below_the_least_goes_and_one_at_it_stays() -> None:
    assert broken({"least_reward": -10}, reward=-10.0) == {}
    assert broken({"least_reward": -10}, reward=-10.5) == {"reward_too_low": "-10.5, below -10"}


def test_tags_that_are_not_in_the_list_go_by_their_own_rule() -> None:
    tagged = Tagged(TAGS)
    rules = {"quality": ["good", "excellent"], "difficulty": ["hard"], "category": ["Math"], "language_tag": ["ko"]}
    assert broken(rules, tagged=tagged) == {"difficulty": "easy", "language_tag": "en"}
    untagged = Tagged(None, "no_json", "'Easy!'")
    assert broken(rules, tagged=untagged) == {"untagged": "no_json: 'Easy!'"}
    assert broken(rules | {"untagged": "keep"}, tagged=untagged) == {}
    # Where no tag decides, nothing depends on whether they could be read.
    assert broken({}, tagged=untagged) == {}


@pytest.mark.parametrize(
    ("band", "length", "reason"),
    [([3, 5], 2, "too_short"), ([3, 5], 3, None), ([3, 5], 5, None), ([3, 5], 6, "too_long")]
    + [([None, 5], 0, None), ([3, None], 9000, None), ([4, 4], 3, "too_short")],
)
def test_lengths_are_characters_without_the_white_space_around(
    band: list[int | None], length: int, reason: str | None
) -> None:
    text = "  " + "가" * length + "\n\n\n"
    assert list(broken({"instruction_characters": band}, text)) == ([f"instruction_{reason}"] if reason else [])
    assert list(broken({"response_characters": band}, response=text)) == ([f"response_{reason}"] if reason else [])


@pytest.mark.parametrize("text", ["Translate this:", "Translate this: \n", "**Translate this:**", "번역해 줘："])
def test_an_instruction_that_ends_with_a_colon_lacks_what_it_announces(text: str) -> None:
    rule = {"ends_with_colon": ["instruction"]}
    assert list(broken(rule, text)) == ["ends_with_colon"]
    assert broken(rule, f"{text} yes") == {}
    assert broken(rule, response=text) == {}
    assert list(broken({"ends_with_colon": ["instruction", "response"]}, response=text)) == ["ends_with_colon"]


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’M SORRY, I CAN’T do it.",
        "Sorry, but I'm unable to browse.",
        "As an AI, I have no birthday.",
        "As an AI language model, I have no birthday.",
        "I  cannot\nprovide that.",
        "Well, I cannot fulfill this request.",
        "I apologize, but I cannot do it.",
    ],
)
def test_refusals_are_known_however_they_are_typed(text: str) -> None:
    assert list(broken({"refusal": True}, response=text)) == ["refusal"]
    assert broken({"refusal": False}, response=text) == {}


@pytest.mark.parametrize(
    "text",
    [
        "As an aid, take a map.",
        "I can't help but smile at it.",
        "Dear Mina, I'm sorry that I missed you.",
        "Sorrel grows in meadows.",
        "He told a story. " * 15 + "Then the robot said: I cannot provide that.",
    ],
)
def test_what_only_sounds_like_a_refusal_stays(text: str) -> None:
    assert broken({"refusal": True}, response=text) == {}


def test_own_phrases_are_added_to_the_english_ones() -> None:
    rules = {"refusal": True, "refusal_phrases": ["도와드릴 수 없", "Leider kann ich"]}
    assert broken(rules, response="죄송하지만 도와드릴 수 없습니다.") == {"refusal": "'도와드릴 수 없'"}
    assert broken(rules, response="leider  kann ich das nicht.") == {"refusal": "'leider kann ich'"}
    assert list(broken(rules, response="I cannot assist with it.")) == ["refusal"]


def test_repetition_counts_unless_the_instruction_has_it_too() -> None:
    loop = "We go round and round. " * 4
    assert broken({"repetition": 0.3}, response=loop) == {
        "repetition": "the response: 'we go round and round.' takes 1.00 of the text"
    }
    assert broken({"repetition": 0.3}, loop, "42") == {
        "repetition": "the instruction: 'we go round and round.' takes 1.00 of the text"
    }
    # 9 of its 20 words are the phrase, 0.45: all of the response is only 0.55 more.
    asked = "Write these words six times and put a full stop behind: " + "ha ho hi " * 3
    assert broken({"repetition": 0.6}, asked, "ha ho hi " * 4) == {}
    assert list(broken({"repetition": 0.5}, asked, "ha ho hi " * 4)) == ["repetition"]
    assert list(broken({"repetition": 0.6}, "Write a poem.", "ha ho hi " * 4)) == ["repetition"]


def test_texts_in_other_languages_go_and_code_and_short_ones_do_not() -> None:
    rule = {"language": ["en"]}
    english, korean = (
        "Explain to me how the tides of the sea work.",
        "바다의 조수가 어떻게 작동하는지 자세히 설명해 주세요.",
    )
    assert broken(rule, english, "They follow the moon around the earth, twice a day.") == {}
    found = broken(rule, english, korean)
    assert found == {"language": "the response looks like Korean; confidence in what is expected 0.00"}
    assert broken(rule, korean, korean)["language"].startswith("the instruction looks like Korean")
    assert broken({"language": ["en", "ko"]}, english, korean) == {}
    assert broken(rule, english, f"```python\nprint('{korean}')\n```") == {}
    assert broken(rule, english, "조수가 작동") == {}


def test_every_rule_that_is_broken_is_told_in_order() -> None:
    rules = {"least_reward": 0, "quality": ["good"], "response_characters": [100, None]}
    found = ResponseRules(rules, tagged=True).check(
        Candidate("Translate this:", "I'm sorry, but I can't.", -0.5, Tagged(TAGS | {"quality": "poor"}))
    )
    expected = ["reward_too_low", "quality", "response_too_short", "ends_with_colon", "refusal"]
    assert [breach.rule for breach in found] == expected
    assert ResponseRules({}).check(Candidate("Translate this:", None, None, None))[0].rule == "ends_with_colon"


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"reward": 1}, "there is no rule 'reward'; allowed: least_reward, quality"),
        ({"least_reward": "high"}, "rule least_reward = 'high': it takes a number"),
        ({"untagged": False}, "keep or drop"),
        ({"quality": "good"}, "a list of those that stay"),
        ({"quality": []}, "a list of those that stay"),
        ({"instruction_characters": [5, 3]}, "the least and the most"),
        ({"response_characters": [5]}, "the least and the most"),
        ({"ends_with_colon": ["system"]}, "a list out of instruction, response"),
        ({"refusal": "sorry"}, "true or false"),
        ({"refusal_phrases": [" "]}, "a list of phrases"),
        ({"repetition": 0}, "a share above 0, at most 1"),
        ({"language_confidence": 2}, "a number from 0 to 1"),
        ({"language": ["english"]}, "'english' is no ISO 639-1 code that lingua knows"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(rules: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        ResponseRules(rules, tagged=True)
    assert said in str(caught.value)


def test_rules_about_what_is_not_there_are_refused() -> None:
    with pytest.raises(InputError, match="no rewards"):
        ResponseRules({"least_reward": 0}, scored=False)
    with pytest.raises(InputError, match="rule category: instructions have no tags"):
        ResponseRules({"category": ["Math"]})
    assert (
        ResponseRules(
            dict.fromkeys(DEFAULT_RULES, False)
            | {"untagged": "keep", "language_confidence": 0.5, "refusal_phrases": []}
        ).check(Candidate("a:", "As an AI, a " * 9, None, None))
        == []
    )
