"""Fetching models and files of datasets from the Hugging Face Hub into its cache, pinned to a commit.

The endpoint (HF_ENDPOINT), the cache (HF_HOME) and the token (HF_TOKEN) are those of huggingface_hub. It goes on
within a file after a lost connection, and a later run fetches only the files that are not yet there.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import io
import logging
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from corpusmith.errors import InputError
from corpusmith.files import sha256_of
from corpusmith.models import check_complete, choose_files, count_parameters, hub_identity
from corpusmith.plain_text import size_text
from corpusmith.program import log

_SECONDS_TO_ANSWER = 30.0
_SECONDS_BETWEEN_LINES = 10.0
_WILDCARD = re.compile(r"[*?\[]")


def fetch_model(name: str, repo: str, revision: str, *, tokenizer_only: bool = False) -> dict[str, Any]:
    """Brings a model into the cache of this machine; returns its receipt (see `corpusmith.models`).

    revision: branch, tag or commit; the receipt has the commit.
    Raises InputError if the repo or revision is missing, gated or no model, the Hub out of reach or the disk too small.
    """
    from huggingface_hub import HfApi, snapshot_download

    _quiet()
    what = f"model {name}"
    with hub_errors(what, repo, revision):
        info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=_SECONDS_TO_ANSWER)
    commit = str(info.sha)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    chosen = choose_files(siblings, tokenizer_only=tokenizer_only)
    check_complete(chosen, f"{what}: {repo} at {commit}", tokenizer_only=tokenizer_only)
    sizes = {path: siblings[path].size or 0 for path in chosen}
    log.info("%s: %d files, %s, of %s at %s", what, len(chosen), size_text(sum(sizes.values())), repo, commit)
    with hub_errors(what, repo, revision):
        _check_space(what, repo, "model", commit, sizes)
        folder = Path(
            snapshot_download(
                repo,
                revision=commit,
                allow_patterns=[glob.escape(path) for path in chosen],
                tqdm_class=_bar_class(),
            )
        )
    parameters, dtype = count_parameters(folder, chosen)
    return {
        "name": name,
        "origin": "hub",
        "repo": repo,
        "revision": commit,
        "identity": hub_identity(repo, commit),
        "files": [_described(folder / path, path, siblings[path].lfs) for path in chosen],
        "parameters": parameters,
        "dtype": dtype,
    }


def fetch_source(repo: str, revision: str, patterns: Sequence[str]) -> dict[str, Any]:
    """Brings the files of a dataset repo that match any pattern into the cache of this machine; returns their receipt.

    patterns: as in fnmatch, where * also stands for slashes. The receipt has `repo`, `revision` as asked, `commit`, and
    `files` sorted by path, each with `path`, `size`, `sha256` and `local`, its path on this machine.
    Raises InputError as `fetch_model` does, and for a pattern that matches nothing.
    """
    from huggingface_hub import HfApi, hf_hub_download

    _quiet()
    what = "source"
    with hub_errors(what, repo, revision):
        commit = str(HfApi().dataset_info(repo, revision=revision, expand=["sha"], timeout=_SECONDS_TO_ANSWER).sha)
        found = _matching(repo, commit, patterns)
    sizes = {path: entry.size for path, entry in found.items()}
    log.info("%s: %d files, %s, of %s at %s", what, len(sizes), size_text(sum(sizes.values())), repo, commit)
    files = []
    with hub_errors(what, repo, revision):
        lacking = _check_space(what, repo, "dataset", commit, sizes)
        total, start, done = sum(sizes[path] for path in lacking), time.monotonic(), 0
        for number, (path, size) in enumerate(sizes.items(), start=1):
            local = hf_hub_download(repo, path, repo_type="dataset", revision=commit, tqdm_class=_bar_class())
            files.append(_described(Path(local), path, found[path].lfs) | {"local": local})
            done += size if path in lacking else 0
            state = _pace(done, total, time.monotonic() - start) if path in lacking else "was there"
            log.info("%s: %d of %d, %s, %s, %s", what, number, len(sizes), path, size_text(size), state)
    return {"repo": repo, "revision": revision, "commit": commit, "files": files}


def split_files(split: str, revision: str) -> tuple[str, list[str]]:
    """The repository of `repo:config:split`, and its files that hold that split, as `datasets` finds them.

    Raises InputError where there is no such repository, config or split; with those that there are.
    """
    from datasets import load_dataset_builder
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError

    repo, config, name = split.split(":")
    with hub_errors("source", repo, revision):
        try:
            builder = load_dataset_builder(repo, config, revision=revision)
        except DatasetNotFoundError as error:
            raise InputError(f"source: the Hub shows no dataset {repo} at {revision} ({error})") from error
        except RuntimeError as error:
            # A repository whose data a program of its own makes.
            raise InputError(
                f"source: `datasets` cannot tell the files of {repo} at {revision} ({error}); name them under"
                " sources.files once they are here"
            ) from error
        except (ValueError, DataFilesNotFoundError) as error:
            raise InputError(f"source: {repo} at {revision} has no such config as {config!r}: {error}") from error
    files = builder.config.data_files or {}
    if name not in files:
        raise InputError(
            f"source: {repo}:{config} has no split {name!r}; it has {', '.join(map(str, files)) or 'none'}"
        )
    # hf://datasets/owner/name@commit/path
    return repo, [str(address).partition("@")[2].partition("/")[2] for address in files[name]]


def _quiet() -> None:
    """Keeps a line for every request, and every warning a second time, out of the log."""
    from huggingface_hub.utils import logging as hub_logging

    logging.getLogger("httpx2").setLevel(logging.WARNING)
    hub_logging.disable_propagation()


def _matching(repo: str, commit: str, patterns: Sequence[str]) -> dict[str, Any]:
    """Files of a dataset repo that match any of the patterns, sorted by path."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    found: dict[str, Any] = {}
    folders: dict[str, list[Any]] = {}
    for pattern in patterns:
        # Only the folder before the first wildcard is listed: large datasets have hundreds of thousands of files.
        folder = _WILDCARD.split(pattern, maxsplit=1)[0].rpartition("/")[0]
        if folder not in folders:
            entries = HfApi().list_repo_tree(repo, folder or None, recursive=True, revision=commit, repo_type="dataset")
            try:
                folders[folder] = [entry for entry in entries if isinstance(entry, RepoFile)]
            except EntryNotFoundError:
                folders[folder] = []
        matches = {entry.path: entry for entry in folders[folder] if fnmatch.fnmatchcase(entry.path, pattern)}
        if not matches:
            raise InputError(
                f"source: no file of {repo} at {commit} matches {pattern!r}; compare it with the repo's files"
            )
        found.update(matches)
    return dict(sorted(found.items()))


def _described(file: Path, path: str, lfs: Any) -> dict[str, Any]:
    """A file's entry in a receipt. lfs: what the Hub says of a large file, None for small ones."""
    return {"path": path, "size": file.stat().st_size, "sha256": lfs.sha256 if lfs else sha256_of(file)}


def _check_space(what: str, repo: str, kind: str, commit: str, sizes: dict[str, int]) -> set[str]:
    """The files that the cache lacks. Raises InputError unless the disk has room for them."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    lacking = {
        path
        for path in sizes
        if not isinstance(try_to_load_from_cache(repo, path, revision=commit, repo_type=kind), str)
    }
    place = Path(HF_HUB_CACHE)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if sum(sizes[path] for path in lacking) <= free:
        return lacking
    # Files of another commit may be the same: the Hub is asked only now, because that is one request a file.
    plans = [hf_hub_download(repo, path, repo_type=kind, revision=commit, dry_run=True) for path in sorted(lacking)]
    needed = sum(plan.file_size or 0 for plan in plans if plan.will_download)
    if needed > free:
        raise InputError(
            f"{what}: {size_text(needed)} of {repo} are to be fetched, but the disk of {HF_HUB_CACHE} has"
            f" {size_text(free)} free; free some space, or set HF_HOME to a larger disk"
        )
    return lacking


@contextlib.contextmanager
def hub_errors(what: str, repo: str, revision: str) -> Iterator[None]:
    """Turns what huggingface_hub raises into InputError: one line that says what to do.

    what: the start of the line, such as "model teacher".
    """
    from httpx2 import HTTPError, LocalProtocolError
    from huggingface_hub import get_token
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    again = "build again: what is fetched stays"
    try:
        yield
    except GatedRepoError:
        token = "the account of HF_TOKEN has no access to it" if get_token() else "HF_TOKEN is not set"
        raise InputError(
            f"{what}: {repo} is gated and {token}; accept its licence on {ENDPOINT}/{repo}"
            " and set HF_TOKEN to a token of the account that did"
        ) from None
    except RepositoryNotFoundError:
        raise InputError(
            f"{what}: {ENDPOINT} has no repo {repo}, or it is private;"
            " check its name, or set HF_TOKEN to a token that may read it"
        ) from None
    except RevisionNotFoundError:
        raise InputError(
            f"{what}: {repo} has no revision {revision!r}; give a branch, a tag or a whole commit"
        ) from None
    except HFValidationError:
        raise InputError(f"{what}: {repo!r} is no name of a repo; give it as owner/name") from None
    except OfflineModeIsEnabled:
        raise InputError(
            f"{what}: HF_HUB_OFFLINE keeps this machine off the network, so {repo} cannot be fetched;"
            " unset it, or fetch on a machine with internet that shares the cache"
        ) from None
    except (LocalProtocolError, UnicodeEncodeError):
        # Its own message would show the header that is wrong, and with it the token.
        raise InputError(
            f"{what}: the request for {repo} cannot be sent; check HF_TOKEN for stray characters"
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        hint = "check HF_TOKEN" if status in (401, 403) else again
        raise InputError(f"{what}: {ENDPOINT} answers {status} when asked for {repo}; {hint}") from None
    except (HTTPError, LocalEntryNotFoundError) as error:
        cause = error.__cause__ or error
        raise InputError(
            f"{what}: {ENDPOINT} cannot be reached ({_line(cause)}); check the network and {again}"
        ) from None
    except OSError as error:
        # huggingface_hub raises bare OSErrors for broken downloads; those of the system (disk full …) have a number.
        if error.errno is not None:
            raise
        raise InputError(f"{what}: {repo} could not be fetched ({_line(error)}); {again}") from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _pace(done: float, total: float, seconds: float) -> str:
    """Rate and time left; no time before there is something to judge it by."""
    rate = done / max(seconds, 1e-3)
    if seconds < _SECONDS_BETWEEN_LINES or not rate:
        return f"{size_text(rate)}/s"
    left = max(0.0, total - done) / rate
    return f"{size_text(rate)}/s, {left // 60:.0f} min {left % 60:02.0f} s left"


def _bar_class() -> type | None:
    """What shows the bytes of a download: huggingface_hub's own bars on a terminal, lines in a log."""
    if sys.stderr.isatty() and not os.environ.get("CI"):
        return None
    from tqdm import tqdm

    class Lines(tqdm):
        """A bar of bytes that is a line of the log every ten seconds."""

        def __init__(self, *args: Any, **settings: Any) -> None:
            self._last_line = time.monotonic()
            settings |= {"file": io.StringIO(), "mininterval": _SECONDS_BETWEEN_LINES, "bar_format": None}
            super().__init__(*args, **settings)

        def display(self, msg: str | None = None, pos: int | None = None) -> bool:
            # A snapshot has a second bar of bytes, for what goes over the wire, and one that counts files.
            now = time.monotonic()
            wanted = self.unit == "B" and self.desc.removesuffix(": ") != "Downloading bytes"
            if wanted and self.total and now - self._last_line >= _SECONDS_BETWEEN_LINES:
                self._last_line = now
                pace = _pace(self.n - self.initial, self.total - self.initial, self.format_dict["elapsed"])
                log.info("fetching: %s of %s, %s", size_text(self.n), size_text(self.total), pace)
            return True

        def close(self) -> None:
            # Bars end when they are thrown away, too: long after there is anything to say.
            self._last_line = math.inf
            super().close()

    return Lines
