"""The pages that describe a config: each key, each default, each rule, and that their examples are true."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from corpusmith.accounting import Account
from corpusmith.config import resolve_config
from corpusmith.filters import DEFAULT_RULES, TranslationRules
from corpusmith.release import without_ids
from corpusmith.run_stats import add_up_run_stats, write_run_stats
from test_config import described, small

# --- config/README.md ---

README = ROOT / "config" / "README.md"
HEADING = re.compile(r"#+ .*")
ROW = re.compile(r"\| `([a-z_A-Z]+)` \| (.*?) \| (.*) \|")


@cache
def documented() -> dict[str, tuple[str, str]]:
    """Default and meaning, as they are written, of every key in the tables of config/README.md, by its path.

    The code in a heading says where in the config its table's keys are: `models.NAME`; no code is the top.
    """
    found: dict[str, tuple[str, str]] = {}
    places: list[str] = []
    for line in README.read_text(encoding="utf-8").splitlines():
        if HEADING.fullmatch(line):
            places = re.findall(r"`([^`]*)`", line) or [""]
        elif match := ROW.fullmatch(line):
            for place in places:
                key = f"{place}.{match[1]}".removeprefix(".")
                assert key not in found, f"{key} stands twice in config/README.md"
                found[key] = match[2], match[3]
    return found


def test_the_readme_names_every_key_of_the_config_and_no_other() -> None:
    assert sorted(documented()) == sorted(described())


@pytest.mark.parametrize("key", sorted(described()))
def test_the_readme_gives_the_default_of_every_key(key: str) -> None:
    schema, (default, _) = described()[key], documented().get(key, ("", ""))
    if schema["required"]:
        assert default == "required"
    elif "default" not in schema:
        assert default == "none"
    else:
        assert re.fullmatch("`.*`", default), f"{key}: {default!r} is no value"
        found = yaml.safe_load(default.strip("`"))
        assert found == schema["default"]
        assert type(found) is type(schema["default"])


@pytest.mark.parametrize("key", [key for key, schema in described().items() if "enum" in schema])
def test_the_readme_names_every_value_that_a_key_may_have(key: str) -> None:
    meaning = documented()[key][1]
    assert [str(value) for value in described()[key]["enum"] if f"`{value}`" not in meaning] == []


@pytest.mark.parametrize("key", sorted(described()))
def test_every_key_has_a_description_in_its_schema(key: str) -> None:
    assert described()[key].get("description"), f"{key} has none"


# --- docs/translation.md ---

PAGE = ROOT / "docs" / "translation.md"
RULE = re.compile(r"### `(\w+)`, by default `(.*)`")
EXAMPLE = re.compile(r"- (rejected|kept), (\w\w)-(\w\w): `(.*)` → `(.*)`")


def rules_of_the_page() -> dict[str, Any]:
    """The rules that docs/translation.md describes, in its order, with the defaults that it gives."""
    found = RULE.findall(PAGE.read_text(encoding="utf-8"))
    return {name: yaml.safe_load(default) for name, default in found}


def examples_of_the_page() -> list[tuple[str, ...]]:
    """Rule, rejected or kept, source and target language, source, target."""
    found, rule = [], ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if heading := RULE.fullmatch(line):
            rule = heading[1]
        elif example := EXAMPLE.fullmatch(line):
            found.append((rule, *(part.replace("↵", "\n") for part in example.groups())))
    return found


def keys_of_the_page(file: str) -> list[str]:
    """The keys in the table below the paragraph that begins with a file's name."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n`{file}` ")[2]
    return re.findall(r"^\| `(\w+)` \|", text.split("\n\n")[1], flags=re.MULTILINE)


def test_the_page_describes_every_rule_in_order_with_its_default() -> None:
    assert list(rules_of_the_page().items()) == list(DEFAULT_RULES.items())


def test_the_page_has_examples_for_and_against_every_rule() -> None:
    for outcome in ("rejected", "kept"):
        assert {rule for rule, found, *_ in examples_of_the_page() if found == outcome} == set(DEFAULT_RULES) - {
            "max_score"
        }


@pytest.mark.parametrize(
    ("rule", "outcome", "source_language", "target_language", "source", "target"), examples_of_the_page()
)
def test_the_examples_of_the_page_are_true(
    rule: str, outcome: str, source_language: str, target_language: str, source: str, target: str
) -> None:
    rules = TranslationRules({rule: DEFAULT_RULES[rule]}, source_language, target_language)
    assert bool(rules.check(source, target, 0.0)) == (outcome == "rejected")


def test_the_page_names_every_key_of_the_stats(tmp_path: Path) -> None:
    assert keys_of_the_page("stats.json") == list(without_ids(Account("filter")))
    write_run_stats(tmp_path / "0.json", "final/score", asked=1, from_store=0, failed=0, retries=0, seconds=1.0)
    assert keys_of_the_page("run-stats.json") == list(add_up_run_stats([tmp_path / "0.json"])[0])


PAGES = [README, PAGE, PAGE.with_name("scoring.md"), PAGE.with_name("engines.md")]


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_what_a_page_shows_as_a_part_of_a_config_is_one(page: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        config = small()
        dataset = config["datasets"]["toy-translation"]
        config["models"]["teacher"] = config["models"]["toy-base"]
        config["scorers"] |= dict.fromkeys(("metricx", "comet-22"), config["scorers"]["toy-metricx"])
        for name, part in yaml.safe_load(block).items():
            if name in config:
                config[name] |= part
            else:
                dataset[name] = part
        resolve_config(config)
