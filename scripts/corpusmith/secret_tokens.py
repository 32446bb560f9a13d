"""Keys, tokens and passwords in a text.

in:  "export AWS_ID=AKIAIOSFODNN7REALKEY"     out: ("AWS Access Key", Place(start=14, end=34, …))

The patterns are those of detect-secrets for services whose tokens have a form of their own, and some more, below. Its
guesses by high entropy or by words such as "password" are not asked: in texts about numbers they are mostly wrong.
Only its patterns are used, never its `verify`, which would ask the service whether a key works.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from typing import NamedTuple

from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.npm import NpmDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector

from corpusmith.text_places import Place

# Each with signs of which at least one is in whatever it finds, in small letters where the pattern knows no case: to
# look for these is some ten times faster.
# Left out: Artifactory, whose pattern takes words in capitals; Cloudant, IBM and SoftLayer, which go by words such as
# "key" in front; public IP addresses, which are no secrets.
PLUGINS: dict[type[RegexBasedDetector], tuple[str | re.Pattern[str], ...]] = {
    AWSKeyDetector: ("a3t", "abia", "acca", "akia", "asia", "aws"),
    AzureStorageKeyDetector: ("AccountKey=",),
    BasicAuthDetector: ("://",),
    DiscordBotTokenDetector: (re.compile(r"\.[\w-]{6}\.[\w-]{27}", re.ASCII),),
    GitHubTokenDetector: ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    GitLabTokenDetector: (
        *("glpat-", "gldt-", "glft-", "glsoat-", "glrt-", "glcbt-", "glimt-", "glptt-", "glagent-", "gloas-"),
        "GR1348941",
    ),
    JwtTokenDetector: ("eyJ",),
    MailchimpDetector: ("-us",),
    NpmDetector: ("_authToken",),
    OpenAIDetector: ("T3BlbkFJ",),
    PrivateKeyDetector: ("PRIVATE KEY", "PuTTY-User-Key"),
    PypiTokenDetector: ("pypi-",),
    SendGridDetector: ("SG.",),
    SlackDetector: ("xox", "hooks.slack"),
    SquareOAuthDetector: ("sq0csp-",),
    StripeDetector: ("k_live_",),
    TelegramBotTokenDetector: (re.compile(r":[\w-]{35}", re.ASCII),),
    TwilioKeyDetector: ("AC", "SK"),
}
_WITHOUT_CASE = (AWSKeyDetector, SlackDetector)
# Their prefixes are letters that stand within words and long codes, too.
_WHOLE_WORDS = (AWSKeyDetector, MailchimpDetector, TwilioKeyDetector)


class _Format(NamedTuple):
    name: str
    sign: str
    pattern: re.Pattern[str]


# Forms that detect-secrets does not know, each with where it is described; "rule" is one of gitleaks,
# https://github.com/gitleaks/gitleaks/blob/master/config/gitleaks.toml. sign: as above.
FORMATS = (
    # Rule huggingface-access-token: hf_ and 34 letters; here digits, too.
    _Format("Hugging Face Token", "hf_", re.compile(r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{34}(?![A-Za-z0-9_])")),
    # Rule openai-api-key: detect-secrets 1.5 does not take the - and _ that stand beside T3BlbkFJ in newer ones.
    _Format(
        "OpenAI Token",
        "T3BlbkFJ",
        re.compile(r"sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,200}T3BlbkFJ[A-Za-z0-9_-]{20,200}"),
    ),
    # Rules anthropic-api-key, anthropic-admin-api-key: 93 characters and AA.
    _Format("Anthropic Token", "sk-ant-", re.compile(r"sk-ant-[a-z]{2,8}\d\d-[A-Za-z0-9_-]{80,200}")),
    # Rule gcp-api-key.
    _Format("Google API Key", "AIza", re.compile(r"(?<![A-Za-z0-9_-])AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])")),
    # Rule github-fine-grained-pat.
    _Format("GitHub Token", "github_pat_", re.compile(r"github_pat_[A-Za-z0-9_]{82}")),
    # Rule npm-access-token; detect-secrets finds those in the line of a .npmrc.
    _Format("NPM tokens", "npm_", re.compile(r"(?<![A-Za-z0-9])npm_[A-Za-z0-9]{36}(?![A-Za-z0-9_])")),
    # Rule slack-app-token.
    _Format("Slack Token", "xapp-", re.compile(r"xapp-\d-[A-Z0-9]{5,20}-\d{5,20}-[a-z0-9]{20,100}")),
    # RFC 7468: the first line of any private key, encrypted ones among them.
    _Format("Private Key", "PRIVATE KEY", re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")),
)
_LETTERS = frozenset(string.ascii_letters + string.digits)


class SecretTokens:
    """Finds them."""

    def __init__(self) -> None:
        self._plugins = [(plugin(), plugin in _WITHOUT_CASE, signs) for plugin, signs in PLUGINS.items()]

    def find(self, text: str) -> Iterator[tuple[str, Place]]:
        """The secrets in a text with the names of their kinds, in order."""
        found: dict[tuple[int, int], tuple[str, Place]] = {}
        folded = text.casefold()
        for plugin, without_case, signs in self._plugins:
            where = folded if without_case else text
            if any(sign in where if isinstance(sign, str) else sign.search(where) for sign in signs):
                for match in _matches(plugin, text):
                    found.setdefault(match.span(), (plugin.secret_type, Place(*match.span(), (match[0].strip(),))))
        for form in FORMATS:
            if form.sign in text:
                for match in form.pattern.finditer(text):
                    found.setdefault(match.span(), (form.name, Place(*match.span(), (match[0],))))
        places = sorted(found.values(), key=lambda one: one[1])
        return iter([one for one in places if not _is_placeholder(one[1].forms[0])])


def _matches(plugin: RegexBasedDetector, text: str) -> Iterator[re.Match[str]]:
    for pattern in plugin.denylist:
        for match in pattern.finditer(text):
            if isinstance(plugin, JwtTokenDetector) and not plugin.is_formally_valid(match[0]):
                continue
            if isinstance(plugin, _WHOLE_WORDS) and _is_part_of_a_word(text, match):
                continue
            yield match


def _is_part_of_a_word(text: str, match: re.Match[str]) -> bool:
    if not match[0].replace("-", "").isalnum():
        return False
    before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
    return before in _LETTERS or after in _LETTERS


def _is_placeholder(secret: str) -> bool:
    """Whether a long one ends in a few letters again and again: AKIAXXXXXXXXXXXXXXXX, or a sequence of DNA."""
    return len(secret) >= 16 and len(set(secret[-16:])) < 5
