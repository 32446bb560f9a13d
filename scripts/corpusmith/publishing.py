"""Publishing on the Hugging Face Hub: a repo holds exactly what was built, in one visible change, or as it was before.

Large files are sent first, where nobody sees them; then one commit makes all changes at once, on top of the commit that
was looked at. What was sent stays on the Hub, so that an upload that is broken off goes on where it was. Afterwards
every file's checksum is read back.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from corpusmith.errors import InputError
from corpusmith.program import Progress, log
from corpusmith.published_files import Content, PublishedFile, differing
from corpusmith.upload_record import UploadRecord
from corpusmith.upload_target import SEND_AGAIN, Target, upload_errors

# The Hub makes and keeps it itself.
_KEPT_BY_THE_HUB = ".gitattributes"
# Files are sent in lots, so that there is progress to show: so many at a time, or fewer where they are large.
_FILES_IN_A_LOT, _BYTES_IN_A_LOT = 50, 1_000_000_000
# Texts below ten megabytes go into the body of the one commit, which has to fit into memory and through the Hub's door;
# https://github.com/huggingface/huggingface_hub/pull/1117 measured 1 GB and 25,000 large files.
_SMALL_TEXTS, _SMALL = (".json", ".jsonl", ".ndjson", ".md", ".txt", ".log", ".yaml", ".csv"), 10_000_000
_MOST_SMALL_BYTES, _MOST_FILES = 300_000_000, 20_000
_DIGEST = re.compile(r"\(corpusmith ([0-9a-f]{16})\)")


def publish(content: Content, target: Target, record: Path) -> dict[str, Any]:
    """Makes a repo hold the content, and nothing else; returns the receipt.

    record: lines of JSON, a commit each, that tell which commits of the repo are ours. It outlives the receipt, which
    a build removes before it makes another.
    Raises InputError where the Hub refuses, where someone else changed the repo, where it is public and is not to be,
    and where what is read back is not what was sent.
    """
    with upload_errors(target):
        api = _client(target)
        ours = UploadRecord(record, api.endpoint.rstrip("/"), target.kind, target.repo, target.branch)
        head = _head(api, target, ours)
        remote = _tree(api, target, head)
        changed, superfluous = differing(content.files, remote)
        number = None
        if not changed and not superfluous:
            log.info("%s holds these %d files already, since %s", target.place, len(content.files), head)
            commit = head
        elif target.pull_request and (found := _open_request(api, target, content)):
            number, commit = found
            log.info("%s: pull request %d holds these files already", target.place, number)
        else:
            if not target.pull_request:
                _check_ours(api, target, head, remote, ours)
            _check_sizes(target, changed)
            _check_card(api, target, changed)
            # A commit whose answer is lost, or a pull request that is merged, is known by it.
            ours.note(digest=content.digest)
            number, commit = _commit(api, target, content, head, changed, superfluous)
        if number is None:
            ours.note(commit=commit)
        return _receipt(api, content, target, commit, number)


def verify(receipt: Mapping[str, Any], token_variable: str) -> None:
    """Asks the Hub whether a repo still holds what its receipt says. Raises InputError where it does not."""
    number = receipt["pull_request"]
    target = Target(
        repo=receipt["repo"],
        kind=receipt["kind"],
        private=receipt["private"],
        branch=receipt["branch"],
        endpoint=receipt["endpoint"],
        token_variable=token_variable,
    )
    with upload_errors(target):
        api = _client(target)
        if number is not None and not _is_merged(api, target, number):
            target = replace(target, branch=f"refs/pr/{number}")
            log.info("%s: the pull request is not merged", target.place)
        info = api.repo_info(target.repo, repo_type=target.kind, revision=target.branch)
        _check_visibility(target, info)
        remote = _tree(api, target, info.sha)
    expected = {entry["path"]: entry for entry in receipt["files"]}
    wrong = [path for path in expected if _reported(remote.get(path)) != expected[path]]
    wrong += [path for path in remote if path not in expected]
    if wrong:
        named = ", ".join(sorted(wrong)[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise InputError(
            f"{target.place} is at {info.sha} and no longer holds what was published as {receipt['commit']};"
            f" {_count(len(wrong), 'file')} differ: {named}. {_who(api, target, info.sha)}"
        )
    if info.sha != receipt["commit"]:
        log.info("%s is at %s, a later commit with the same files", target.place, info.sha)


# --- the Hub ---


def _client(target: Target) -> Any:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    token = os.environ.get(target.token_variable)
    if not token:
        raise InputError(f"{target.place}: {target.token_variable} is not set; set it to a token that may write there")
    disable_progress_bars()
    return HfApi(endpoint=target.endpoint, token=token, library_name="corpusmith")


def _head(api: Any, target: Target, ours: UploadRecord) -> str:
    """The commit that the branch is at; the repo and the branch are made where they are missing."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = api.repo_info(target.repo, repo_type=target.kind)
    except RepositoryNotFoundError:
        log.info("making %s, %s", target.place, "private" if target.private else "public")
        api.create_repo(target.repo, repo_type=target.kind, private=target.private, exist_ok=True)
        info = api.repo_info(target.repo, repo_type=target.kind)
    _check_visibility(target, info)
    if target.branch == "main":
        return str(info.sha)
    try:
        return str(api.repo_info(target.repo, repo_type=target.kind, revision=target.branch).sha)
    except RevisionNotFoundError:
        api.create_branch(target.repo, repo_type=target.kind, branch=target.branch)
        head = str(api.repo_info(target.repo, repo_type=target.kind, revision=target.branch).sha)
        ours.note(commit=head)
        return head


def _check_visibility(target: Target, info: Any) -> None:
    if target.private and info.private is False:
        raise InputError(
            f"{target.place} is public, and publish.private is true; make it private on the Hub, or say private: false"
        )
    if not target.private and info.private:
        log.warning("%s is private, and publish.private is false; make it public on the Hub yourself", target.place)


def _tree(api: Any, target: Target, revision: str) -> dict[str, Any]:
    """The files of a commit by path, but for what the Hub keeps itself."""
    from huggingface_hub.hf_api import RepoFile

    entries = api.list_repo_tree(target.repo, repo_type=target.kind, revision=revision, recursive=True)
    files = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
    files.pop(_KEPT_BY_THE_HUB, None)
    return files


def _check_ours(api: Any, target: Target, head: str, remote: Mapping[str, Any], ours: UploadRecord) -> None:
    """Raises InputError where the repo holds what this build did not put there."""
    if not remote or head == target.replaces or head in ours.commits():
        return
    title = next((entry.title for entry in _commits(api, target, head)), "")
    if (found := _DIGEST.search(title)) and any(digest.startswith(found[1]) for digest in ours.digests()):
        return
    # A branch that was just made holds what main does.
    if target.branch != "main" and head == str(api.repo_info(target.repo, repo_type=target.kind).sha):
        return
    raise InputError(
        f"{target.place} is at {head}, which this build did not put there. {_who(api, target, head)} Look at it, bring"
        f" what is worth keeping into the config, then say publish.replaces: {head}, or publish to another repo or"
        " branch"
    )


def _who(api: Any, target: Target, head: str) -> str:
    """The last commit, in words; nothing where the Hub does not tell."""
    with contextlib.suppress(Exception):
        for entry in _commits(api, target, head):
            authors = ", ".join(entry.authors) or "someone"
            return f"Last change: {entry.title!r} by {authors}."
    return ""


def _commits(api: Any, target: Target, head: str) -> Sequence[Any]:
    """The commits up to one, the last first."""
    found: Sequence[Any] = api.list_repo_commits(target.repo, repo_type=target.kind, revision=head)
    return found


def _is_merged(api: Any, target: Target, number: int) -> bool:
    found = api.get_repo_discussions(target.repo, repo_type=target.kind, discussion_type="pull_request")
    return any(discussion.num == number and discussion.status == "merged" for discussion in found)


def _check_sizes(target: Target, files: Sequence[PublishedFile]) -> None:
    """Raises InputError where the Hub would refuse the commit, before anything is sent."""
    small = [file.size for file in files if file.path.endswith(_SMALL_TEXTS) and file.size < _SMALL]
    if sum(small) > _MOST_SMALL_BYTES:
        raise InputError(
            f"{target.place}: {len(small):,} small files of {sum(small):,} bytes would go into one commit, more than"
            f" the {_MOST_SMALL_BYTES:,} that it takes; pack JSON with gzip, or make fewer and larger files of it"
        )
    if len(files) > _MOST_FILES:
        raise InputError(
            f"{target.place}: {len(files):,} files would go into one commit, more than the {_MOST_FILES:,} that it"
            " takes; make fewer and larger ones"
        )


def _check_card(api: Any, target: Target, files: Sequence[PublishedFile]) -> None:
    """Lets the Hub look at the card before anything is sent. Raises InputError with what it says."""
    from huggingface_hub.utils import get_session

    card = next((file for file in files if file.path == "README.md"), None)
    if card is None:
        return
    body = {"repoType": target.kind, "content": card.local.read_text(encoding="utf-8")}
    answer = get_session().post(f"{api.endpoint}/api/validate-yaml", json=body)
    if answer.status_code == 400:
        errors = "; ".join(str(error.get("message")) for error in answer.json().get("errors", []))
        raise InputError(f"{card.local}: the Hub does not take its YAML ({errors}); correct what the card is made of")


def _commit(
    api: Any,
    target: Target,
    content: Content,
    head: str,
    changed: Sequence[PublishedFile],
    superfluous: Sequence[str],
) -> tuple[int | None, str]:
    """Sends files and makes the one commit; returns the number of the pull request, if it is one, and the commit."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    additions = [CommitOperationAdd(path_in_repo=file.path, path_or_fileobj=str(file.local)) for file in changed]
    with Progress(f"upload to {target.repo}", sum(file.size for file in changed), "bytes") as progress:
        for lot in _lots(changed):
            api.preupload_lfs_files(
                target.repo,
                additions=additions[lot.start : lot.stop],
                repo_type=target.kind,
                revision=target.branch,
                create_pr=target.pull_request,
                free_memory=False,
            )
            progress.advance(sum(file.size for file in changed[lot.start : lot.stop]))
    info = api.create_commit(
        target.repo,
        operations=[*additions, *(CommitOperationDelete(path_in_repo=path) for path in superfluous)],
        commit_message=_message(content),
        repo_type=target.kind,
        revision=target.branch,
        create_pr=target.pull_request,
        parent_commit=head,
    )
    return info.pr_num, str(info.oid)


def _lots(files: Sequence[PublishedFile]) -> Iterator[range]:
    start, size = 0, 0
    for number, file in enumerate(files):
        if number > start and (number - start >= _FILES_IN_A_LOT or size + file.size > _BYTES_IN_A_LOT):
            yield range(start, number)
            start, size = number, 0
        size += file.size
    if start < len(files):
        yield range(start, len(files))


def _message(content: Content) -> str:
    """Names the content, so that a pull request whose answer was lost is found again."""
    return f"{content.title} (corpusmith {content.digest[:16]})"


def _open_request(api: Any, target: Target, content: Content) -> tuple[int, str] | None:
    """The number and commit of an open pull request that proposes just this."""
    found = api.get_repo_discussions(
        target.repo, repo_type=target.kind, discussion_type="pull_request", discussion_status="open"
    )
    for discussion in found:
        if discussion.title != _message(content):
            continue
        info = api.repo_info(target.repo, repo_type=target.kind, revision=f"refs/pr/{discussion.num}")
        if differing(content.files, _tree(api, target, info.sha)) == ([], []):
            return discussion.num, str(info.sha)
    return None


# --- what is written down ---


def _receipt(api: Any, content: Content, target: Target, commit: str, number: int | None) -> dict[str, Any]:
    """What the Hub says that the commit holds. Raises InputError unless it is what was to be published."""
    revision = target.branch if number is None else f"refs/pr/{number}"
    remote = _tree(api, target, commit)
    changed, superfluous = differing(content.files, remote)
    if changed or superfluous:
        paths = sorted([*(file.path for file in changed), *superfluous])
        raise InputError(
            f"{target.place}: {commit} does not hold what was sent; {_count(len(paths), 'file')} differ:"
            f" {', '.join(paths[:5])}. Does a .gitignore there name them? Otherwise {SEND_AGAIN}"
        )
    now = str(api.repo_info(target.repo, repo_type=target.kind, revision=revision).sha)
    if now != commit:
        raise InputError(
            f"{target.place} was changed while this was published, and is at {now} after {commit}."
            f" {_who(api, target, now)}"
        )
    return {
        "repo": target.repo,
        "kind": target.kind,
        "endpoint": api.endpoint.rstrip("/"),
        "private": target.private,
        "branch": target.branch,
        "pull_request": number,
        "commit": commit,
        "rows": dict(content.rows),
        "digest": content.digest,
        "files": [_reported(remote[file.path]) for file in content.files],
    }


def _reported(entry: Any) -> dict[str, Any] | None:
    """A file as the Hub reports it: large ones by SHA-256, others by what git knows them by."""
    if entry is None:
        return None
    checksum = {"sha256": entry.lfs.sha256} if entry.lfs else {"git_blob": entry.blob_id}
    return {"path": entry.path, "size": entry.size, **checksum}


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
