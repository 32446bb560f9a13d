"""Which commits of a repo are ours: lines of JSON that outlive receipts, which a build removes before it makes others.

    {"endpoint": "https://hub.example.org", "kind": "dataset", "repo": "me/data", "branch": "main", "commit": "3f2a…"}

A commit is noted once its answer is here, the digest of its content before it is asked for: an answer can be lost.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from corpusmith.files import sync


class UploadRecord:
    """The notes on one branch of a repo, in a file that others may share."""

    def __init__(self, path: Path, endpoint: str, kind: str, repo: str, branch: str) -> None:
        self._path = path
        self._place = {"endpoint": endpoint, "kind": kind, "repo": repo, "branch": branch}

    def commits(self) -> set[str]:
        """Commits that are ours, or that a branch of ours began with."""
        return {entry["commit"] for entry in self._entries() if "commit" in entry}

    def digests(self) -> set[str]:
        """Digests of contents for which a commit was asked."""
        return {entry["digest"] for entry in self._entries() if "digest" in entry}

    def note(self, **what: str) -> None:
        """Adds a commit or a digest, unless it is there."""
        entry = self._place | what
        if entry in self._entries():
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        torn = self._path.exists() and not self._path.read_bytes().endswith(b"\n")
        with open(self._path, "a", encoding="utf-8") as lines:
            lines.write(("\n" if torn else "") + json.dumps(entry) + "\n")
        sync(self._path)

    def _entries(self) -> list[dict[str, str]]:
        found = []
        for line in self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else ():
            # The last line may have been torn off.
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if self._place.items() <= entry.items():
                    found.append(entry)
        return found
