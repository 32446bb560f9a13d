"""Sentences in languages with spaces, without them, and with full stops of their own."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmith.splitting import THAI_PIECE_CHARACTERS, base_language, split_sentences

# Split by hand; the text that is split is these joined by what the language puts between sentences.
BY_HAND = {
    "en": [
        "Dr. Smith paid $3.5 million for it.",
        "Was that wise?",
        '"Really?" he asked.',
        "J. R. Jones of Acme Inc. did not say.",
        "It closed at 5 p.m. on Sunday!",
    ],
    "de": [
        "Am 3. Oktober kam Dr. Müller an.",
        "Er blieb bis ca. 5 Uhr.",
        '"Kommst du?", fragte sie.',
        "Das kostet 3,50 Euro!",
    ],
    "es": ["¿Cómo estás?", "¡Muy bien!", "El Sr. Pérez llegó tarde.", "Pagó 3.500 euros."],
    "ko": [
        "나는 어제 학교에 갔다.",
        '그는 "안녕!"이라고 말했다.',
        "정말입니까?",
        "점수는 3.5점이다.",
    ],
    "ar": ["ذهب الولد إلى المدرسة.", "هل جاء أخوه؟", "نعم، جاء معه!", "كانت الدرجة 3.5 فقط."],
    "hi": ["मैं कल बाज़ार गया था।", "क्या तुम भी आओगे?", "उसने 3.5 किलो आम खरीदे।", "वह खुश है।"],
    "ja": [
        "彼は「行くよ。」と言った。",
        "今日は3.5度だ！",
        "「本当？」と彼女は聞いた。",
        "「はい。」",
        "とても寒かった。",
        "もう帰ろう。",
    ],
    "zh": [
        "他昨天去了学校。",
        "你也去吗？",
        "“真的吗？”他问道。",
        "气温是3.5度！",
        "“走！”的声音传来。",
        "我们回家吧。",
    ],
    "th": ["ผมไปโรงเรียนเมื่อวานนี้", "คุณสบายดีไหม", "วันนี้อากาศดีมากครับ", "พรุ่งนี้เราจะไปเที่ยวทะเล"],
}
WITHOUT_SPACES = ("ja", "zh")


@pytest.mark.parametrize("language", BY_HAND)
def test_sentences_split_by_hand(language: str) -> None:
    expected = BY_HAND[language]
    text = ("" if language in WITHOUT_SPACES else " ").join(expected)
    assert [text[start:end] for start, end in split_sentences(text, language)] == expected


@pytest.mark.parametrize("language", BY_HAND)
def test_a_line_break_ends_a_sentence(language: str) -> None:
    word = BY_HAND[language][0].rstrip(".!?。।")
    text = f"  {word}\n\n\t{word} \r\n{word}\u2028{word}"
    assert [text[start:end] for start, end in split_sentences(text, language)] == [word] * 4


def test_nothing_gives_nothing() -> None:
    assert split_sentences("", "en") == split_sentences(" \n\u3000\n", "th") == []


@pytest.mark.parametrize(("code", "base"), [("zh_Hant-TW", "zh"), ("EN", "en"), ("ja-JP", "ja")])
def test_scripts_and_regions_are_ignored(code: str, base: str) -> None:
    assert base_language(code) == base
    text = "".join(BY_HAND["zh"])
    assert split_sentences(text, "zh_Hant-TW") == split_sentences(text, "zh")


def test_a_very_long_thai_line_is_cut_at_white_space() -> None:
    paragraph = " ".join(BY_HAND["th"])
    count = 3 * THAI_PIECE_CHARACTERS // len(paragraph)
    unbroken = "ก" * (THAI_PIECE_CHARACTERS + 1)
    text = " ".join([paragraph] * count + [unbroken])
    found = [text[start:end] for start, end in split_sentences(text, "th")]
    assert " ".join(found) == text
    assert found[-1] == unbroken
    assert len(found) > 2 * count
    assert max(len(sentence) for sentence in found[:-1]) < THAI_PIECE_CHARACTERS


PIECES = st.sampled_from(
    [
        *"ab. !?。！？।؟」』”\"')（「、とのは说的",
        "ครับ",
        "ผม",
        "Dr. ",
        "3.5",
        "\n",
        "\r\n",
        "\t",
        "\u3000",
        "\u2028",
        "\N{GRINNING FACE}",
    ]
)


@settings(max_examples=300)
@given(st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join)), st.sampled_from([*BY_HAND, "xx"]))
def test_no_text_is_lost(text: str, language: str) -> None:
    end_before = 0
    for start, end in split_sentences(text, language):
        assert end_before <= start < end <= len(text)
        assert text[end_before:start].strip() == ""
        assert text[start:end].strip() == text[start:end] != ""
        assert not re.search("[\n\r\x85\u2028\u2029]", text[start:end])
        end_before = end
    assert text[end_before:].strip() == ""
