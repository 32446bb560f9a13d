"""Where something is published, and what is said when the Hub refuses it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from corpusmith.errors import InputError

SEND_AGAIN = "start again: what was sent stays there"


@dataclass(frozen=True)
class Target:
    """Where something is published, and how.

    kind: dataset or model; replaces: a commit that is not ours and may be replaced; endpoint: None for HF_ENDPOINT, or
    the Hub itself.
    """

    repo: str
    kind: str
    private: bool = True
    branch: str = "main"
    pull_request: bool = False
    replaces: str | None = None
    endpoint: str | None = None
    token_variable: str = "HF_TOKEN"

    @property
    def place(self) -> str:
        """For people."""
        kind = "datasets/" if self.kind == "dataset" else ""
        return f"{kind}{self.repo}" + (f" at {self.branch}" if self.branch != "main" else "")


@contextlib.contextmanager
def upload_errors(target: Target) -> Iterator[None]:
    """Turns what huggingface_hub raises into InputError: one line that says what to do."""
    from httpx2 import HTTPError, LocalProtocolError
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except Exception as error:
        # Of a file that is sent by a thread the library says only which it was.
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        if isinstance(cause, RepositoryNotFoundError):
            raise InputError(
                f"{target.place}: is not there, or {target.token_variable} may not see it; check the name and the token"
            ) from None
        if isinstance(cause, RevisionNotFoundError):
            raise InputError(f"{target.place}: has no such branch or commit any more") from None
        if isinstance(cause, HFValidationError):
            raise InputError(f"{target.repo!r} is no name of a repo; give it as owner/name") from None
        if isinstance(cause, OfflineModeIsEnabled):
            raise InputError(f"{target.place}: HF_HUB_OFFLINE keeps this machine off the network; unset it") from None
        if isinstance(cause, HfHubHTTPError):
            raise InputError(_refusal(target, cause)) from None
        if isinstance(cause, (LocalProtocolError, UnicodeEncodeError)):
            # Its own message would show the header that is wrong, and with it the token.
            raise InputError(f"{target.place}: {target.token_variable} has stray characters") from None
        if isinstance(cause, HTTPError):
            raise InputError(f"{target.place}: the Hub cannot be reached ({_line(cause)}); {SEND_AGAIN}") from None
        if isinstance(cause, json.JSONDecodeError):
            raise InputError(f"{target.place}: the Hub answers what is no JSON; {SEND_AGAIN}") from None
        if isinstance(cause, ValueError) and ("LFS batch" in str(cause) or "README.md" in str(cause)):
            raise InputError(f"{target.place}: {_line(cause)}") from None
        raise


def _refusal(target: Target, error: Any) -> str:
    status, said = error.response.status_code, _line(error.server_message or "")
    answer = f"{target.place}: the Hub answers {status}" + (f" ({said})" if said else "")
    if status == 401:
        return f"{answer}; check {target.token_variable}"
    if status in (409, 412):
        return f"{answer}: someone changed it meanwhile; look at it, then start again"
    if status == 413:
        return f"{answer}: the commit is too large for it; make fewer files, or pack JSON with gzip"
    if status in (402, 507) or (status == 403 and re.search("storage|quota", said, re.IGNORECASE)):
        return f"{answer}; make room in the account's storage, then {SEND_AGAIN}"
    if status == 403:
        return f"{answer}; {target.token_variable} has to be a token that may write there"
    return f"{answer}; {SEND_AGAIN}"


def _line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
