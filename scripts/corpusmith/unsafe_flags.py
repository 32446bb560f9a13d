"""The flags of programs that look for what should not be released."""

from __future__ import annotations

import argparse

from corpusmith.errors import InputError
from corpusmith.unsafe_text import EMAIL, KINDS, PHONE_NUMBER, SECRET, UnsafeText


def add_unsafe_flags(parser: argparse.ArgumentParser) -> None:
    """Adds what is looked for, and what of it is no objection."""
    parser.add_argument("--no-emails", action="store_true", help="e-mail addresses are no objection")
    parser.add_argument("--no-phone-numbers", action="store_true", help="telephone numbers are no objection")
    parser.add_argument("--no-secrets", action="store_true", help="keys, tokens and passwords are no objection")
    parser.add_argument(
        "--regions",
        nargs="*",
        default=[],
        help="countries (US, KR, …) whose telephone numbers are known as written there, beside those with +",
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        help='pattern of what is no objection, such as "*@example.com"; may be given several times',
    )


def finder_of(arguments: argparse.Namespace) -> UnsafeText:
    """What the flags ask for. Raises InputError where nothing is looked for, or there is no such region."""
    off = {EMAIL: arguments.no_emails, PHONE_NUMBER: arguments.no_phone_numbers, SECRET: arguments.no_secrets}
    kinds = [kind for kind in KINDS if not off[kind]]
    if not kinds:
        raise InputError("--no-emails --no-phone-numbers --no-secrets: nothing is looked for; leave one of them out")
    try:
        return UnsafeText(kinds, arguments.regions, arguments.allow)
    except InputError as error:
        raise InputError(f"--regions: {error}") from None
