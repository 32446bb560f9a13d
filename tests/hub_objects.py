"""What the tests' Hub keeps, and the ways in which it ends a request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

LARGE = (".safetensors", ".bin", ".gz", ".parquet")


@dataclass(frozen=True)
class Blob:
    """One version of a file. `claimed` is the size that the Hub gives for it, its true one unless a test lies."""

    content: bytes
    large: bool
    claimed: int

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def git(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.git


@dataclass
class Repo:
    """Commits with their files, and the branches that point to them."""

    gated: bool = False
    private: bool = False
    titles: dict[str, tuple[str, str]] = field(default_factory=dict)  # commit: title, author
    parents: dict[str, str | None] = field(default_factory=dict)
    requests: list[tuple[int, str, str]] = field(default_factory=list)  # number, title, commit of pull requests
    merged: set[int] = field(default_factory=set)
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch or of itself."""
        return self.branches.get(revision, revision if revision in self.commits else None)

    def merge(self, number: int) -> str:
        """Merges a pull request, as the Hub does: a commit of its own on main."""
        title, commit = next((title, commit) for found, title, commit in self.requests if found == number)
        self.merged.add(number)
        return self.add(self.commits[commit], "main", f"{title} (#{number})", "a-reader", self.branches["main"])

    def add(self, files: dict[str, Blob], branch: str, title: str, author: str, parent: str | None) -> str:
        """A new commit with just these files, to which the branch then points."""
        parts = [parent or "", title, *(f"{path} {blob.sha256}" for path, blob in sorted(files.items()))]
        commit = hashlib.sha1("\n".join(parts).encode()).hexdigest()
        self.commits[commit], self.titles[commit], self.parents[commit] = files, (title, author), parent
        self.branches[branch] = commit
        return commit


class HangUp(Exception):
    """Ends the connection without an answer."""


class Answer(Exception):
    """Ends the handling of a request with an error as the Hub gives it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
