"""What is found in texts, what is not, and that no quick look before a library loses what the library would find."""

from __future__ import annotations

import base64
import json
import re
import socket
import string
from typing import Any

import phonenumbers
import pytest
from detect_secrets.plugins.base import RegexBasedDetector
from hypothesis import example, given, settings
from hypothesis import strategies as st
from phonenumbers import Leniency, PhoneNumberFormat, PhoneNumberMatcher, PhoneNumberType

from corpusmith import secret_tokens, telephone_numbers
from corpusmith.email_addresses import find_addresses
from corpusmith.errors import InputError
from corpusmith.secret_tokens import FORMATS, PLUGINS, SecretTokens
from corpusmith.telephone_numbers import TelephoneNumbers
from corpusmith.unsafe_text import KINDS, Finding, UnsafeText


def parts(text: str, finder: UnsafeText | None = None) -> list[str]:
    return [text[one.start : one.end] for one in (finder or UnsafeText()).find(text)]


# --- e-mail addresses ---


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Write to mina@example.com.", ["mina@example.com"]),
        ("<a.b-c+d@mail.example.co.uk>, 'x@example.org'", ["a.b-c+d@mail.example.co.uk", "x@example.org"]),
        ("mailto:o'hara@example.com?subject=hello", ["o'hara@example.com"]),
        # A particle without a space, and a bracket, as in Korean and Chinese texts.
        ("mina@example.com으로 보내세요", ["mina@example.com"]),
        ("mina@example.com(문의)", ["mina@example.com"]),
        ("请联系 mina@example.com。", ["mina@example.com"]),
        ("문의: 메일@예시.한국, üser@münchen.de", ["메일@예시.한국", "üser@münchen.de"]),
        ("उपयोगकर्ता@उदाहरण.भारत", ["उपयोगकर्ता@उदाहरण.भारत"]),
        ("wait...mina@example.com", ["mina@example.com"]),
        ("mina@example.com.123", ["mina@example.com"]),
        ("@mina@example.social", ["mina@example.social"]),
        # Code, formulas, mentions and what cannot be delivered.
        ("@mina and @foo.bar: @property\n@app.route('/')\n\\makeatletter\\@for", []),
        ("x@y + a@b = P(A@B), mina@localhost, mina@host.test, mina@server.local", []),
        ("np.sum(X@W.T), q@k.transpose(0, 1), A@B.inv[0], package@1.2.3", []),
        ("icon@2x.png, git@github.com:mina/code.git, ssh://git@example.com/x", []),
        ("https://mina@example.com/page", []),
        ("a@@b.com mina@.com mina@example. mina @example.com", []),
    ],
)
def test_addresses_are_found_as_they_stand_in_texts_and_code_is_none(text: str, found: list[str]) -> None:
    assert parts(text, UnsafeText(["email"])) == found


@given(st.text(alphabet="ab1@.-_'+%( /:\né한。", max_size=40))
def test_any_text_with_signs_of_addresses_gives_places_around_an_at(text: str) -> None:
    places = list(find_addresses(text))
    assert [place[:2] for place in places] == sorted(place[:2] for place in places)
    assert all("@" in text[place.start : place.end] == place.forms[0] for place in places)


@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_an_address_between_spaces_is_found_in_any_text(before: str, after: str) -> None:
    text = f"{before} mina@example.com {after}"
    assert "mina@example.com" in parts(text, UnsafeText(["email"]))


def test_a_long_text_without_spaces_takes_no_long_time() -> None:
    text = "a" * 1_000_000 + "@" * 10_000 + "." * 100_000 + "1" * 500_000 + "+" * 10_000
    assert parts(text) == []


# --- telephone numbers ---


@pytest.mark.parametrize("form", [PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.E164, PhoneNumberFormat.RFC3966])
def test_the_example_number_of_every_region_is_found_in_its_international_form(form: int) -> None:
    finder = UnsafeText(["phone_number"])
    for region in phonenumbers.SUPPORTED_REGIONS:
        written = phonenumbers.format_number(phonenumbers.example_number(region), form).removeprefix("tel:")
        assert parts(f"Call {written}, please.", finder) == [written], region


def test_example_numbers_are_found_as_their_regions_write_them_but_for_short_and_bare_ones() -> None:
    missed = []
    for region in phonenumbers.SUPPORTED_REGIONS:
        number = phonenumbers.example_number_for_type(region, PhoneNumberType.MOBILE)
        if number is not None:
            written = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
            missed += [written] * (parts(f"Call {written}!", UnsafeText(["phone_number"], [region])) != [written])
    # 011 15-2345-6789 is Argentine, and its groups are not those that the library itself expects.
    assert all(sum(map(str.isdigit, one)) < 7 or one.isdigit() for one in set(missed) - {"011 15-2345-6789"})
    assert len(missed) < 25


@pytest.mark.parametrize(
    ("text", "regions", "found"),
    [
        ("Tel: +82-2-312-3456; (+82) 10 1234 5678", [], ["+82-2-312-3456", "(+82) 10 1234 5678"]),
        ("전화＋82 2 312 3456로", [], ["＋82 2 312 3456"]),
        ("call 2 +12025550123.", [], ["+12025550123"]),
        ("02-312-3456, 010-1234-5678, 01012345678", ["KR"], ["02-312-3456", "010-1234-5678", "01012345678"]),
        ("(202) 555-0123 or 202.555.0123 or 202 555 0123", ["US"], ["(202) 555-0123", "202.555.0123", "202 555 0123"]),
        ("02-312-3456 and (202) 555-0123", ["US", "KR"], ["02-312-3456", "(202) 555-0123"]),
        ("02 - 312 - 3456", ["KR"], ["02 - 312 - 3456"]),
        ("030/1234567", ["DE"], ["030/1234567"]),
        ("(202) 555-0123", [], []),
        # Sums, differences, products, decimal fractions, long numbers, dates, lists.
        ("1+12025550123 = x, 5 + 1 202 555 0123, (a)+12025550123, x+12025550123", [], []),
        ("+12025550123 = 3, +12025550123 * 4", [], []),
        ("0.1012345678, 3.01012345678, 2025550123", ["KR", "US"], []),
        ("202 - 555 - 0123, 202x5550123, 202/555/0123, 202-555-0123 = -476", ["US"], []),
        ("2025550123, 20255.50123, 1 202 555", ["US"], []),
        ("on 2019-12-31 12:30:59, pages 312-3456, 10 20 30 40 50 60 70", ["US", "KR", "DE"], []),
        ("192.168.100.200 and 978-3-16-148410-0", ["US", "KR"], []),
    ],
)
def test_numbers_to_call_are_found_and_numbers_to_reckon_with_are_not(
    text: str, regions: list[str], found: list[str]
) -> None:
    assert parts(text, UnsafeText(["phone_number"], regions)) == found


def test_a_number_behind_many_others_is_found() -> None:
    assert parts("1 - 2 = 3, " * 70_000 + "+82-2-312-3456", UnsafeText(["phone_number"])) == ["+82-2-312-3456"]


def test_an_unknown_region_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"there is no region 'XX' with telephone numbers; allowed: AC, AD, .*, KR, "):
        UnsafeText(regions=["KR", "XX"])


EXAMPLES = [
    phonenumbers.format_number(phonenumbers.example_number(region), form)
    for region in sorted(phonenumbers.SUPPORTED_REGIONS)
    for form in (PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.E164, PhoneNumberFormat.NATIONAL)
]
AROUND = st.text(alphabet=string.printable + "＋－　（）～ー١２\u2060", max_size=30)


@given(
    before=AROUND, written=st.sampled_from(EXAMPLES), apart=st.sampled_from(["", "-", " ( ", "\u2060"]), after=AROUND
)
@example(before="", written="+49 (0) 30 123456", apart="", after="")
@example(before="", written="（＋８２） ２ー３１２ー３４５６", apart="", after="")
@settings(max_examples=1000)
def test_where_the_quick_look_finds_no_number_the_library_finds_none(
    before: str, written: str, apart: str, after: str
) -> None:
    text = before + apart.join(written) + after
    if not telephone_numbers._INTERNATIONAL.search(text):
        assert not list(PhoneNumberMatcher(text, None, Leniency.VALID))


@given(before=AROUND, written=st.sampled_from(EXAMPLES), after=AROUND)
@settings(max_examples=500)
def test_the_quick_look_for_numbers_of_regions_loses_none(before: str, written: str, after: str) -> None:
    text = before + written + after
    finder = TelephoneNumbers(["US", "KR", "DE"])
    found = list(finder.find(text))
    with pytest.MonkeyPatch.context() as patch:
        # An empty text before the others: what is a number is still asked of the pattern itself.
        pattern = telephone_numbers._NATIONAL
        patch.setattr(telephone_numbers, "_NATIONAL", _Always(pattern))
        assert list(finder.find(text)) == found


class _Always:
    """A pattern that lets every whole text pass, and looks at parts of it as the real one does."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def search(self, text: str, *place: int) -> Any:
        return self._pattern.search(text, *place) if place else True


# --- keys and tokens ---

# Made here, so that no file of the project holds anything that looks like a key.
MANY = "aB3dE5gH7jK9mN1pQ2sT4vW6yZ8"


def some(length: int, letters: str = MANY) -> str:
    return (letters * length)[:length]


def token_of_a_user() -> str:
    coded = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in ({"alg": "HS256"}, {})]
    return f"{coded[0]}.{coded[1]}."


CAPITALS, HEX = "A2BC3DEF4GHJ5KLM6", "0a1b2c3d4e5f6978"
SECRETS = {
    "AWS Access Key": ["AKIA" + some(16, CAPITALS), "aws_secret_key = '" + some(40) + "'"],
    "Azure Storage Account access key": ["AccountKey=" + some(88)],
    "Basic Auth Credentials": ["://mina:pw1@"],
    "Discord Bot Token": ["M" + some(23) + "." + some(6) + "." + some(27)],
    "GitHub Token": ["ghp_" + some(36), "ghs_" + some(36), "github_pat_" + some(82)],
    "GitLab Token": ["glpat-" + some(20), "GR1348941" + some(20), "glptt-" + some(40), "gloas-" + some(64)],
    "JSON Web Token": [token_of_a_user()],
    "Mailchimp Access Key": [some(32, HEX) + "-us12"],
    "NPM tokens": ["//packages.example.com/:_authToken=" + "npm_" + some(36), "npm_" + some(36)],
    "OpenAI Token": [
        "sk-" + some(20) + "T3BlbkFJ" + some(20),
        "sk-proj-" + some(73, MANY + "-_") + "_T3BlbkFJ-" + some(73, MANY + "-_"),
    ],
    "Private Key": ["BEGIN RSA PRIVATE KEY", "-----BEGIN ENCRYPTED PRIVATE KEY-----", "PuTTY-User-Key-File-2"],
    "PyPI Token": ["pypi-AgEIcHlwaS5vcmc" + some(70)],
    "SendGrid API Key": ["SG." + some(22) + "." + some(43)],
    "Slack Token": [
        "xoxb-" + "12345-67890-" + some(24, HEX),
        "https://hooks.slack.com/services/" + "T0A1/B0A1/" + some(24),
        "xapp-" + "1-A0B1C2D3E4F-1234567890123-" + some(64, HEX),
    ],
    "Square OAuth Secret": ["sq0csp-" + some(43)],
    "Stripe Access Key": ["sk_live_" + some(24), "rk_live_" + some(24)],
    "Telegram Bot Token": ["123456789:" + some(35)],
    "Twilio API Key": ["SK" + some(32, HEX), "AC" + some(32, HEX)],
    "Hugging Face Token": ["hf_" + some(34)],
    "Anthropic Token": ["sk-ant-api03-" + some(93) + "AA"],
    "Google API Key": ["AIza" + some(35)],
}
PAIRS = [(name, secret) for name, secrets in SECRETS.items() for secret in secrets]


def test_there_is_an_example_of_every_kind_of_secret() -> None:
    assert set(SECRETS) == {plugin.secret_type for plugin in PLUGINS} | {form.name for form in FORMATS}
    for form in FORMATS:
        assert any(form.pattern.search(secret) for secret in SECRETS[form.name]), form.name


@pytest.mark.parametrize(("name", "secret"), PAIRS)
@pytest.mark.parametrize("around", ["{}", 'key = "{}"', "열쇠는 {} 이다", "first line\n{}\nlast line"])
def test_each_kind_of_secret_is_found_where_it_stands_and_by_its_name(name: str, secret: str, around: str) -> None:
    text = around.format(secret)
    found = UnsafeText(["secret"]).find(text)
    assert name in [one.what for one in found]
    # What the pattern takes of a password in an address, or of a key in quotes, is not always all that is shown here.
    assert any(secret in text[one.start : one.end] for one in found)


@pytest.mark.parametrize(
    "text",
    [
        # Words and codes in which a prefix occurs, DNA, what stands for a key in explanations.
        "ASIAPACIFICECONOMICCOOPERATION", "TTGACCAGTGTGTACACACGTGTA", "ACCA" + some(16, "ACGT"),
        "AKIA" + 16 * "X", "ghp_" + 36 * "x", "hf_" + 34 * "x", "AC" + 32 * "0", "x" + "AC" + some(32, HEX),
        "hf_hub_download", "npm_config_registry", "sk-learn", "eyJhbGciOi.notjson", "glpat-short",
        "The password is important; a token: " + some(64, HEX), "https://example.com:8080/a@b", "12:30:45",
    ],
)  # fmt: skip
def test_words_placeholders_and_plain_long_codes_are_no_secrets(text: str) -> None:
    assert parts(text, UnsafeText(["secret"])) == []


@given(pair=st.sampled_from(PAIRS), before=st.text(max_size=30), after=st.text(max_size=30))
@settings(max_examples=500)
def test_where_no_sign_of_a_secret_is_seen_the_library_finds_none(
    pair: tuple[str, str], before: str, after: str
) -> None:
    text = before + pair[1] + after
    for plugin, without_case, signs in SecretTokens()._plugins:
        where = text.casefold() if without_case else text
        if not any(sign in where if isinstance(sign, str) else sign.search(where) for sign in signs):
            assert not list(plugin.analyze_string(text)), plugin.secret_type
    for form in FORMATS:
        assert form.sign in text or not form.pattern.search(text)


def test_places_are_those_of_whatever_the_library_itself_finds() -> None:
    for plugin in PLUGINS:
        found: RegexBasedDetector = plugin()
        for _, secret in PAIRS:
            library = bool(list(found.analyze_string(secret)))
            assert library == bool(list(secret_tokens._matches(found, secret))), (plugin, secret)


def test_nothing_is_asked_over_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    text = "\n".join(["mina@example.com", "+82-2-312-3456", *(secret for _, secret in PAIRS)])
    assert len(UnsafeText(regions=["KR"]).find(text)) > len(PAIRS)


# --- all together ---

TEXT = "Ask mina@example.com or +82 2-312-3456; the key is hf_" + some(34) + "."


def test_a_finding_says_what_and_where_and_never_repeats_it() -> None:
    assert UnsafeText().find(TEXT) == [
        Finding("email", "e-mail address", 4, 20),
        Finding("phone_number", "telephone number", 24, 38),
        Finding("secret", "Hugging Face Token", 51, 88),
    ]
    for secret in ("mina", "312", some(34)):
        assert secret not in repr(UnsafeText().find(TEXT))
    assert UnsafeText().find("") == UnsafeText().find(None) == []


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_asked_for_is_looked_for(kind: str) -> None:
    assert [one.kind for one in UnsafeText([kind]).find(TEXT)] == [kind]
    with pytest.raises(ValueError, match="kinds are email, phone_number, secret; not names"):
        UnsafeText([kind, "names"])


@pytest.mark.parametrize(
    ("allow", "left"),
    [
        (["*@EXAMPLE.com"], ["phone_number", "secret"]),
        (["+82*"], ["email", "secret"]),
        # A number without the signs within it, as machines write it.
        (["+8223123456"], ["email", "secret"]),
        (["hf_*", "*@example.com"], ["phone_number"]),
        (["mina", "example.com", "*@other.com"], ["email", "phone_number", "secret"]),
    ],
)
def test_what_is_allowed_is_no_objection(allow: list[str], left: list[str]) -> None:
    assert [one.kind for one in UnsafeText(allow=allow).find(TEXT)] == left
