"""The uploads of the tests' Hub: new repos, branches, large objects by Git LFS, commits, pull requests.

What goes wrong is set on `Uploads`: a quota, connections that end at a given point, another's commit in between.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from hub_objects import LARGE, Answer, Blob, HangUp, Repo

MAIN = "main"
_DATE = "2026-01-01T00:00:00.000Z"


@dataclass
class Uploads:
    """What was sent, and what is to go wrong.

    quota: bytes of large objects that fit; breaks: by event, how often it still goes well before the connection ends
    once; watch: called at each event with how often it happened; before_commit: called when a commit arrives, before it
    is looked at.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)  # SHA-256 of each large object that was received whole
    events: Counter[str] = field(default_factory=Counter)
    quota: int | None = None
    breaks: dict[str, int] = field(default_factory=dict)
    watch: Callable[[str, int], None] | None = None
    before_commit: Callable[[], None] | None = None

    def at(self, event: str) -> None:
        """Counts an event; ends the connection if it is the one that a test wants broken."""
        self.events[event] += 1
        if self.watch is not None:
            self.watch(event, self.events[event])
        if event in self.breaks:
            if self.breaks[event] == 0:
                del self.breaks[event]
                raise HangUp
            self.breaks[event] -= 1


def _writing(handler: Any, kind: str, name: str) -> Repo:
    """The repo, for who may write there."""
    if "Authorization" not in handler.headers or not handler.authorised():
        raise Answer(401, "", "Invalid username or password.")
    repo: Repo | None = handler.hub.repos.get((kind, name))
    if repo is None:
        raise Answer(404, "RepoNotFound", "Repository not found")
    return repo


def create_repo(handler: Any) -> None:
    """POST /api/repos/create: a repo with one commit, as the Hub makes it."""
    if not handler.authorised():
        raise Answer(401, "", "Invalid username or password.")
    wanted = json.loads(handler.body)
    kind, name = f"{wanted.get('type', 'model')}s", f"{wanted['organization']}/{wanted['name']}"
    if (kind, name) in handler.hub.repos:
        raise Answer(409, "", "You already created this repo")
    repo = handler.hub.repos[kind, name] = Repo(private=wanted.get("visibility") == "private")
    first = {".gitattributes": Blob(b"*.parquet filter=lfs\n", False, 21)}
    repo.add(first, MAIN, "initial commit", "the-hub", None)
    handler.send_json({"url": f"{handler.hub.endpoint}/{kind}/{name}"})


def validate_yaml(handler: Any) -> None:
    """POST /api/validate-yaml: a card has YAML between two lines of dashes, and it is an object."""
    match = re.match(r"---\n(.*?)\n---\n", json.loads(handler.body)["content"], re.DOTALL)
    if match and not isinstance(yaml.safe_load(match[1]), dict):
        handler.send(400, json.dumps({"errors": [{"message": "no object"}], "warnings": []}).encode(), {})
        return
    handler.send_json({"errors": [], "warnings": []})


def preupload(handler: Any, kind: str, name: str, revision: str) -> None:
    """POST …/preupload/REVISION: which files are large ones, and what the repo has of them."""
    repo = _writing(handler, kind, name)
    handler.hub.uploads.at("preupload")
    there = repo.commits.get(repo.resolve(revision) or "", {})
    handler.send_json(
        {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith((*LARGE, ".png")) else "regular",
                    "shouldIgnore": False,
                    "oid": there[file["path"]].etag if file["path"] in there else None,
                }
                for file in json.loads(handler.body)["files"]
            ]
        }
    )


def lfs_batch(handler: Any, kind: str, name: str) -> None:
    """POST ….git/info/lfs/objects/batch: where to put the objects that are not there yet."""
    _writing(handler, kind.strip("/") or "models", name)
    uploads, wanted = handler.hub.uploads, json.loads(handler.body)["objects"]
    uploads.at("batch")
    missing = {entry["oid"]: entry["size"] for entry in wanted if entry["oid"] not in uploads.objects}
    held = sum(map(len, uploads.objects.values()))
    if uploads.quota is not None and held + sum(missing.values()) > uploads.quota:
        raise Answer(403, "", "Private repository storage limit reached, please upgrade your plan to continue.")
    found = []
    for entry in wanted:
        described = {"oid": entry["oid"], "size": entry["size"]}
        if entry["oid"] in missing:
            place = f"{handler.hub.endpoint}/objects/{entry['oid']}"
            described["actions"] = {"upload": {"href": place}, "verify": {"href": f"{place}/verify"}}
        found.append(described)
    handler.send_json({"transfer": "basic", "objects": found})


def put_object(handler: Any, oid: str) -> None:
    """PUT of an object: it counts once it is there whole."""
    handler.hub.uploads.at("object")
    if hashlib.sha256(handler.body).hexdigest() != oid:
        raise Answer(400, "", "the content is not what was announced")
    handler.hub.uploads.objects[oid] = handler.body
    handler.hub.uploads.sent.append(oid)
    handler.hub.uploads.at("object sent")
    handler.send(200, b"", {})


def verify_object(handler: Any, oid: str) -> None:
    """POST …/verify."""
    handler.hub.uploads.at("verify")
    if oid not in handler.hub.uploads.objects:
        raise Answer(404, "", "no such object")
    handler.send_json({})


def commit(handler: Any, kind: str, name: str, revision: str) -> None:
    """POST …/commit/REVISION: one commit, all of it or nothing, on top of the commit that its header names."""
    repo, uploads = _writing(handler, kind, name), handler.hub.uploads
    uploads.at("commit")
    if uploads.before_commit is not None:
        uploads.before_commit()
    lines = [json.loads(line) for line in handler.body.splitlines()]
    header = lines[0]["value"]
    head = repo.branches[revision]
    if header.get("parentCommit", head) != head:
        raise Answer(412, "", "A commit has happened since. Please refresh and try again.")
    files = dict(repo.commits[head])
    for line in lines[1:]:
        path = line["value"]["path"]
        if line["key"] == "file":
            content = base64.b64decode(line["value"]["content"])
            files[path] = Blob(content, False, len(content))
        elif line["key"] == "lfsFile":
            if line["value"]["oid"] not in uploads.objects:
                raise Answer(400, "", f"{path} was never sent")
            content = uploads.objects[line["value"]["oid"]]
            files[path] = Blob(content, True, len(content))
        elif line["key"] == "deletedFile":
            if files.pop(path, None) is None:
                raise Answer(404, "EntryNotFound", "A file with this name doesn't exist")
        else:
            raise Answer(400, "", f"unknown operation {line['key']}")
    branch, request_url = revision, None
    if "create_pr" in handler.query:
        number = len(repo.requests) + 1
        branch, request_url = f"refs/pr/{number}", f"{handler.hub.endpoint}/{kind}/{name}/discussions/{number}"
    made = repo.add(files, branch, header["summary"], "the-builder", head)
    if request_url:
        repo.requests.append((number, header["summary"], made))
    uploads.at("committed")
    url = f"{handler.hub.endpoint}/{kind}/{name}/commit/{made}"
    handler.send_json({"commitUrl": url, "commitOid": made, "pullRequestUrl": request_url})


def create_branch(handler: Any, kind: str, name: str, branch: str) -> None:
    """POST …/branch/NAME: from main."""
    repo = _writing(handler, kind, name)
    if branch in repo.branches:
        raise Answer(409, "", "Reference already exists")
    repo.branches[branch] = repo.branches[MAIN]
    handler.hub.uploads.at("branch")
    handler.send_json({})


def discussions(handler: Any, kind: str, name: str) -> None:
    """GET …/discussions: the pull requests."""
    repo, _ = handler.repo(kind, name, MAIN)
    found = [
        {
            "title": title,
            "num": number,
            "author": {"name": "the-builder"},
            "createdAt": _DATE,
            "status": "merged" if number in repo.merged else "open",
            "repo": {"name": name, "type": kind.rstrip("s")},
            "isPullRequest": True,
        }
        for number, title, _ in repo.requests
        if handler.query.get("status") != ["open"] or number not in repo.merged
    ]
    handler.send_json({"count": len(found), "start": 0, "discussions": found})


def commits(handler: Any, kind: str, name: str, revision: str) -> None:
    """GET …/commits/REVISION: the last first."""
    repo, made = handler.repo(kind, name, revision)
    found, entry = [], made
    while entry is not None:
        title, author = repo.titles[entry]
        found.append({"id": entry, "title": title, "message": "", "date": _DATE, "authors": [{"user": author}]})
        entry = repo.parents[entry]
    handler.send_json(found)


_API = r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
UPLOAD_ROUTES = [
    (("POST",), re.compile("/api/repos/create"), create_repo),
    (("POST",), re.compile("/api/validate-yaml"), validate_yaml),
    (("POST",), re.compile(rf"{_API}/preupload/(?P<revision>[^/]+)"), preupload),
    (("POST",), re.compile(r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch"), lfs_batch),
    (("PUT",), re.compile("/objects/(?P<oid>[0-9a-f]{64})"), put_object),
    (("POST",), re.compile("/objects/(?P<oid>[0-9a-f]{64})/verify"), verify_object),
    (("POST",), re.compile(rf"{_API}/commit/(?P<revision>[^/]+)"), commit),
    (("POST",), re.compile(rf"{_API}/branch/(?P<branch>[^/]+)"), create_branch),
    (("GET",), re.compile(rf"{_API}/discussions"), discussions),
    (("GET",), re.compile(rf"{_API}/commits/(?P<revision>[^/]+)"), commits),
]
