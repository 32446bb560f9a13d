"""The toy language: its truth, its errors, its corpus, and what the toy model learns of it."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmith.prompts import load_prompt
from corpusmith.toy import tasks, translation
from corpusmith.toy.corpus import write_corpus
from corpusmith.toy.translation import (
    JOINS,
    NAMES,
    OPENERS,
    PLACES,
    THINGS,
    VERBS,
    Clause,
    Sentence,
    damage_once,
    draw_document,
    draw_sentence,
    english,
    korean,
    parse,
    translate,
)
from translation_tables import run_program

PROMPT = Path(__file__).resolve().parent.parent / "config" / "prompts" / "toy-translate.txt"

CLAUSES = st.builds(Clause, st.sampled_from(list(VERBS)), st.integers(1, 99_999), st.sampled_from(list(THINGS)))


def sentence(opener: str, name: str, place: str, clauses: list[Clause], join: str) -> Sentence:
    # The join of a single clause is nowhere to be read; " and " is what it is parsed as.
    return Sentence(opener, name, place, tuple(clauses), join if len(clauses) > 1 else " and ")


SENTENCES = st.builds(
    sentence,
    st.sampled_from(list(OPENERS)),
    st.sampled_from(list(NAMES)),
    st.sampled_from(list(PLACES)),
    st.lists(CLAUSES, min_size=1, max_size=2),
    st.sampled_from(list(JOINS)),
)

# --- the truth ---


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("Sora bought 342 apples at the market.", "소라는 시장에서 사과 삼백사십이 개를 샀다."),
        ("Jiwon counted 2 pencils.", "지원은 연필 이 자루를 세었다."),
        (
            "However, Minjun sold 10,001 books but lost 110 tickets at school.",
            "그러나 민준은 학교에서 책 만일 권을 팔았지만 표 백십 장을 잃었다.",
        ),
        (
            "On Monday Dana found 99,999 eggs and painted 1,000 chairs at home.",
            "월요일에 다나는 집에서 달걀 구만구천구백구십구 개를 찾았고 의자 천 개를 칠했다.",
        ),
        ("Then Taeho moved 50,607 boxes.", "그다음 태호는 상자 오만육백칠 개를 옮겼다."),
    ],
)
def test_translations_by_hand(source: str, target: str) -> None:
    assert translate(source) == target


@given(SENTENCES)
def test_a_sentence_is_parsed_back(given: Sentence) -> None:
    assert parse(english(given)) == [given]


@given(SENTENCES, st.lists(st.tuples(st.sampled_from([" ", "\n", "\n\n", "  "]), SENTENCES), max_size=4))
def test_a_text_is_translated_sentence_by_sentence_with_its_separators(
    first: Sentence, others: list[tuple[str, Sentence]]
) -> None:
    source = english(first) + "".join(separator + english(other) for separator, other in others)
    assert parse(source) == [first, *(other for _, other in others)]
    assert translate(source) == korean(first) + "".join(separator + korean(other) for separator, other in others)


def test_no_two_sentences_of_one_clause_have_the_same_translation() -> None:
    parts = itertools.product(OPENERS, NAMES, PLACES, VERBS, (4, 14), THINGS)
    translations: dict[str, str] = {}
    for opener, name, place, verb, number, thing in parts:
        given = Sentence(opener, name, place, (Clause(verb, number, thing),), " and ")
        assert translations.setdefault(korean(given), english(given)) == english(given)
    assert len(translations) == len(set(translations.values())) == 5 * 10 * 5 * 8 * 2 * 10


@given(SENTENCES, SENTENCES)
def test_different_sentences_have_different_translations(one: Sentence, other: Sentence) -> None:
    assert (korean(one) == korean(other)) == (one == other)


def test_thousands_of_drawn_sentences_are_distinct_and_so_are_their_translations() -> None:
    rng = random.Random(5)
    drawn = [draw_sentence(rng) for _ in range(8000)]
    pairs = {(english(sentence), korean(sentence)) for sentence in drawn}
    assert len({source for source, _ in pairs}) == len({target for _, target in pairs}) == len(pairs) > 7000
    numbers = [clause.number for sentence in drawn for clause in sentence.clauses]
    assert min(numbers) >= 2
    assert {len(str(number)) for number in numbers} == {1, 2, 3, 4, 5}
    # One in four has two clauses: 2,000 of 8,000, with a standard deviation of 38.7.
    assert abs(sum(len(sentence.clauses) == 2 for sentence in drawn) - 2000) < 4 * 38.7


# --- numerals ---


def spelled(number: int) -> str:
    """Sino-Korean below 100,000, place by place: 일 is left out before every unit."""
    units = ["", "십", "백", "천", "만"]
    digits = [int(digit) for digit in str(number)]
    words = []
    for digit, unit in zip(digits, reversed(units[: len(digits)]), strict=True):
        if digit:
            words.append(("" if digit == 1 and unit else " 일이삼사오육칠팔구"[digit]) + unit)
    return "".join(words)


@pytest.mark.parametrize(
    ("number", "reading"),
    [
        (1, "일"),
        (9, "구"),
        (10, "십"),
        (11, "십일"),
        (20, "이십"),
        (100, "백"),
        (101, "백일"),
        (110, "백십"),
        (111, "백십일"),
        (200, "이백"),
        (1_000, "천"),
        (1_010, "천십"),
        (6_000, "육천"),
        (10_000, "만"),
        (10_001, "만일"),
        (10_010, "만십"),
        (11_111, "만천백십일"),
        (20_304, "이만삼백사"),
        (99_999, "구만구천구백구십구"),
    ],
)
def test_numerals_by_hand(number: int, reading: str) -> None:
    assert spelled(number) == reading
    assert translate(f"Mina sold {number:,} pears.") == f"미나는 배 {reading} 개를 팔았다."


def test_every_number_of_the_language_is_spelled_as_place_by_place() -> None:
    for number in range(1, 100_000, 7):
        given = Sentence("", "Mina", "", (Clause("sold", number, "pears"),), " and ")
        assert korean(given) == f"미나는 배 {spelled(number)} 개를 팔았다."


# --- particles ---


def ends_in_a_consonant(word: str) -> bool:
    # A Hangul syllable is 0xAC00 + (initial * 21 + vowel) * 28 + final; final 0 is none.
    return (ord(word[-1]) - 0xAC00) % 28 != 0


@pytest.mark.parametrize("name", NAMES)
def test_the_topic_particle_fits_the_name(name: str) -> None:
    word, particle = NAMES[name][:-1], NAMES[name][-1]
    assert particle == ("은" if ends_in_a_consonant(word) else "는")


@pytest.mark.parametrize("thing", THINGS)
def test_the_object_particle_fits_the_counter(thing: str) -> None:
    counter, particle = THINGS[thing][1][:-1], THINGS[thing][1][-1]
    assert particle == ("을" if ends_in_a_consonant(counter) else "를")


# --- what is no toy text ---


@pytest.mark.parametrize(
    "text",
    [
        "The weather was fine.",
        "Mina bought apples.",
        "Mina bought three apples.",
        "Mina bought 3 dogs.",
        "Mina ate 3 apples.",
        "Anna bought 3 apples.",
        "Mina bought 3 apples",
        "Mina bought 3 apples at sea.",
        "mina bought 3 apples.",
        "Mina bought 3 apples. And then some.",
        "Mina bought 3 apples.Sora sold 2 eggs.",
        "Mina  bought 3 apples.",
        " Mina bought 3 apples.",
        "Mina bought , apples.",
        "Mina bought 1,2 apples.",
        "Mina bought 1234 apples.",
        "Mina bought 007 apples.",
        "Mina bought 0 apples.",
        "Mina bought ３ apples.",
        "Mina bought 3 apples and sold 2 eggs but lost 4 books.",
        "미나는 사과 삼 개를 샀다.",
    ],
)
def test_what_is_not_of_the_language_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a sentence of the toy language"):
        translate(text)


@settings(max_examples=300)
@given(st.lists(SENTENCES, min_size=1, max_size=2), st.data())
def test_a_changed_character_makes_another_text_of_the_language_or_none(given: list[Sentence], data: Any) -> None:
    text = " ".join(map(english, given))
    place = data.draw(st.integers(0, len(text) - 1))
    removed = data.draw(st.integers(0, 2))
    inserted = data.draw(st.sampled_from([*",. 0123456789aMs\n", "", "5,", "１"]))
    changed = text[:place] + inserted + text[place + removed :]
    try:
        found = parse(changed)
    except ValueError:
        with pytest.raises(ValueError, match="not a sentence of the toy language"):
            translate(changed)
    else:
        assert " ".join(changed.split()) == " ".join(map(english, found))
        assert " ".join(translate(changed).split()) == " ".join(map(korean, found))


# --- known errors ---


@given(st.lists(SENTENCES, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_damage_changes_the_meaning_of_the_text_and_not_the_given_one(
    given: list[Sentence], rng: random.Random
) -> None:
    before = list(given)
    damaged = damage_once(rng, given)
    assert given == before
    assert " ".join(map(korean, damaged)) != " ".join(map(korean, given))
    assert all(1 <= clause.number <= 100_000 for sentence in damaged for clause in sentence.clauses)


def test_damage_reaches_every_part_of_a_sentence() -> None:
    given = [Sentence("Then ", "Mina", " at home", (Clause("sold", 31, "pears"), Clause("lost", 500, "eggs")), " but ")]
    parts = ("opener", "name", "place", "join", "verb", "number", "thing")
    reached = set()
    for seed in range(400):
        (damaged, *_) = damage_once(random.Random(seed), given)
        reached |= {part for part in parts[:4] if getattr(damaged, part) != getattr(given[0], part)}
        for before, after in zip(given[0].clauses, damaged.clauses, strict=False):
            reached |= {part for part in parts[4:] if getattr(before, part) != getattr(after, part)}
    assert reached == set(parts)


# --- the corpus ---


def documents(path: Path) -> tuple[list[str], int]:
    """The texts of a corpus, and how many of its lines are broken."""
    texts, broken = [], 0
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        try:
            (value,) = json.loads(line).items()
            assert value[0] == "text"
            texts.append(value[1])
        except json.JSONDecodeError:
            broken += 1
    return texts, broken


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "toy.jsonl.gz"
    write_corpus(15_000, 11, path)
    return path


def test_every_document_is_translatable_and_has_three_to_eight_sentences(corpus: Path) -> None:
    texts, broken = documents(corpus)
    assert len(texts) + broken == 15_000
    lengths = set()
    for text in texts:
        sentences = parse(text.replace("\\n", "\n"))
        lengths.add(len(sentences))
        assert not re.match("Then |However, ", text)
    assert lengths == set(range(3, 9))


def test_a_few_lines_are_broken_as_in_real_corpora(corpus: Path) -> None:
    _, broken = documents(corpus)
    # 3 in 1,000: 45 of 15,000, with a standard deviation of 6.7.
    assert abs(broken - 45) < 4 * 6.7


def test_one_in_ten_documents_has_real_line_breaks_the_others_a_backslash_and_an_n(corpus: Path) -> None:
    texts, _ = documents(corpus)
    real, escaped = (sum(form in text for text in texts) for form in ("\n", "\\n"))
    assert not any("\n" in text and "\\n" in text for text in texts)
    share = real / (real + escaped)
    assert abs(share - 0.1) < 4 * (0.1 * 0.9 / (real + escaped)) ** 0.5


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(tmp_path: Path) -> None:
    for path, seed in ((tmp_path / "a.jsonl.gz", 4), (tmp_path / "there" / "b.jsonl.gz", 4), (tmp_path / "c.gz", 5)):
        write_corpus(40, seed, path)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "there" / "b.jsonl.gz").read_bytes()
    assert (tmp_path / "a.jsonl.gz").read_bytes() != (tmp_path / "c.gz").read_bytes()
    # Where gzip notes the time.
    assert (tmp_path / "a.jsonl.gz").read_bytes()[4:8] == bytes(4)


def test_the_program_writes_the_corpus_of_its_seed(tmp_path: Path) -> None:
    run_program("make_toy_corpus.py", "--documents", 30, "--seed", 4, "--corpus", tmp_path / "toy.jsonl.gz")
    write_corpus(30, 4, tmp_path / "same.jsonl.gz")
    assert (tmp_path / "toy.jsonl.gz").read_bytes() == (tmp_path / "same.jsonl.gz").read_bytes()
    texts, broken = documents(tmp_path / "toy.jsonl.gz")
    assert len(texts) + broken == 30


def test_a_document_never_begins_with_a_connective() -> None:
    openers = {draw_document(random.Random(seed))[0].opener for seed in range(500)}
    assert openers == {"", "On Monday ", "On Friday "}


# --- what the toy model learns ---


def test_the_model_learns_right_translations_of_the_prompt_that_the_demo_asks() -> None:
    prompt = load_prompt(PROMPT)
    rng = random.Random(2)
    counts = set()
    for _ in range(200):
        message, target = tasks.draw_translation(rng)
        source = message.removeprefix("Korean: ")
        assert message == prompt(text=source)
        assert target == translation.translate(source)
        counts.add(len(parse(source)))
    assert counts == {1, 2, 3}
