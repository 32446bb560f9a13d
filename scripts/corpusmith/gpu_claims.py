"""Each GPU of a machine for one job at a time, also where no scheduler sees to that.

A claim is a lock on a file, one for each GPU, in a folder that all users of the machine share. The kernel frees it
with the process that holds it, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import takewhile
from pathlib import Path

from corpusmith.devices import too_few_gpus
from corpusmith.errors import InputError
from corpusmith.program import log

# Not where TMPDIR points: that may be another place for each job. What clears old files away leaves these alone for
# days, as each claim writes into its file.
FOLDER = Path("/tmp/corpusmith-gpus")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_LIST = ("nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader")
_SECONDS_TO_LIST = 60
_SECONDS_BETWEEN_ATTEMPTS = 0.5
_SECONDS_BETWEEN_LINES = 60.0
# Of what a holder says of itself, as much as fits into a line.
_LONGEST = 100
_held: list[int] = []


@contextmanager
def claimed_gpus(count: int, flag: str = "--tp") -> Iterator[list[str]]:
    """Claims as many GPUs for this process and makes them the visible ones; waits where other jobs hold them.

    To be entered before CUDA is initialised, which looks only once. Where a scheduler has bound GPUs to this job,
    they are given as they are. Raises InputError where there are fewer than the flag asks for, whoever holds them.
    """
    if count == 0:
        yield []
        return
    visible = _visible()
    # More of them than were asked for are those of an allocation that several jobs share.
    if visible is not None and "SLURM_JOB_ID" in os.environ and len(visible) <= count:
        if len(visible) < count:
            raise too_few_gpus(count, len(visible), flag)
        yield visible
        return
    if _held:
        raise RuntimeError("this process has claimed GPUs already: it would wait for itself")
    names = _candidates(visible)
    if len(names) < count:
        raise too_few_gpus(count, len(names), flag)
    _check_folder()
    with ExitStack() as locks:
        claims = _wait_for(count, names, locks)
        before = os.environ.get(_VISIBLE)
        _held[:] = claims.values()
        os.environ[_VISIBLE] = ",".join(claims)
        try:
            yield list(claims)
        finally:
            if before is None:
                del os.environ[_VISIBLE]
            else:
                os.environ[_VISIBLE] = before
            # The locks are closed and not unlocked: a guard that has still work to do keeps its share of them.
            _held.clear()


def claimed_when_asked(count: int, resources: ExitStack) -> Callable[[], list[str]]:
    """Gives the GPUs, which are claimed when they are first asked for, and held until `resources` closes."""
    gpus: list[str] = []

    def claim() -> list[str]:
        if count and not gpus:
            gpus.extend(resources.enter_context(claimed_gpus(count)))
        return gpus

    return claim


def held_descriptors() -> tuple[int, ...]:
    """The open files of this process's claims: a process that inherits them holds the claims, too."""
    return tuple(_held)


def _visible() -> list[str] | None:
    """The entries of CUDA_VISIBLE_DEVICES as far as CUDA would read them; None where it is not set."""
    text = os.environ.get(_VISIBLE)
    if text is None:
        return None
    entries = [entry.strip() for entry in text.split(",")]
    # What SLURM and people write for none; CUDA looks no further.
    return list(takewhile(lambda entry: entry not in ("", "-1", "NoDevFiles"), entries))


def _candidates(visible: Sequence[str] | None) -> list[str]:
    """The names of the GPUs that may be claimed: UUIDs where nvidia-smi tells them, as a GPU must have one name only.

    A UUID also says which GPU is meant: CUDA counts them in another order than nvidia-smi, the fastest first.
    """
    listed = _listed()
    if visible is None:
        return list((listed or {}).values())
    names = visible if listed is None else takewhile(bool, (_uuid(entry, listed) for entry in visible))
    return list(dict.fromkeys(names))


def _uuid(entry: str, listed: dict[str, str]) -> str:
    """The UUID of an entry, empty where there is no such GPU; what is neither index nor UUID stays as it is."""
    if entry.isdecimal():
        return listed.get(str(int(entry)), "")
    if entry.startswith("GPU-"):
        # CUDA takes the beginning of a UUID for the whole, where it fits one GPU only.
        found = [uuid for uuid in listed.values() if uuid.startswith(entry)]
        return found[0] if len(found) == 1 else ""
    return entry


def _listed() -> dict[str, str] | None:
    """Index and UUID of the GPUs of this machine; None where there is no nvidia-smi.

    One that fails is an error: a job that then took GPUs by other names would not see who holds them.
    """
    try:
        done = subprocess.run(
            _LIST, capture_output=True, encoding="utf-8", errors="replace", timeout=_SECONDS_TO_LIST, check=False
        )
    except (FileNotFoundError, PermissionError):
        return None
    except subprocess.TimeoutExpired:
        raise InputError(f"{' '.join(_LIST)}: no answer in {_SECONDS_TO_LIST} s; is the driver well?") from None
    if done.returncode != 0:
        said = " ".join((done.stdout + done.stderr).split()) or f"exit status {done.returncode}"
        raise InputError(f"{' '.join(_LIST)} fails, so that no GPU can be claimed: {said}")
    return dict(re.findall(r"^\s*(\d+),\s*(\S+)\s*$", done.stdout, flags=re.MULTILINE))


def _wait_for(count: int, names: Sequence[str], locks: ExitStack) -> dict[str, int]:
    """Takes as many GPUs, and lets them go with the stack; holds none while it waits for others.

    Two jobs that each held what the other lacks would wait for ever.
    """
    began = time.monotonic()
    next_line = began
    while True:
        claims, busy = _attempt(count, names, locks)
        now = time.monotonic()
        if claims:
            if next_line > began:
                log.info("got GPU %s after %.0f s", ", ".join(claims), now - began)
            return claims
        if now >= next_line:
            next_line = now + _SECONDS_BETWEEN_LINES
            holders = "; ".join(f"{name} is held by {_holder(name)}" for name in busy)
            log.info("waiting for %d GPUs of %d: %s", count, len(names), holders)
        # Jobs that came together part, so that they do not disturb each other each time.
        time.sleep(_SECONDS_BETWEEN_ATTEMPTS * random.uniform(0.7, 1.3))


def _attempt(count: int, names: Sequence[str], locks: ExitStack) -> tuple[dict[str, int], list[str]]:
    """The first GPUs that nobody holds, with the files that lock them; none where they are too few. And the others."""
    claims: dict[str, int] = {}
    busy: list[str] = []
    with ExitStack() as attempt:
        for name in names:
            descriptor = _lock(_path(name))
            if descriptor is None:
                busy.append(name)
                continue
            claims[name] = descriptor
            attempt.callback(os.close, descriptor)
            if len(claims) == count:
                about = f"{os.getpid()} {Path(sys.argv[0]).name}\n".encode(errors="replace")
                for locked in claims.values():
                    os.ftruncate(locked, 0)
                    os.pwrite(locked, about, 0)
                locks.push(attempt.pop_all())
                return claims, busy
    return {}, busy


def _lock(path: Path) -> int | None:
    """Locks the file of a GPU and gives its descriptor, which no program started from here inherits by accident.

    None where somebody else has locked it.
    """
    try:
        while True:
            with ExitStack() as stack:
                descriptor = _open(path)
                stack.callback(os.close, descriptor)
                about = os.fstat(descriptor)
                # A file of somebody's with this as its second name must not be written.
                if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1:
                    raise InputError(f"{path} is no plain file, so that no GPU can be claimed; remove it")
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Not where it was cleared away meanwhile: others lock its successor.
                if os.fstat(descriptor).st_nlink == 1:
                    stack.pop_all()
                    return descriptor
    except BlockingIOError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be locked, so that no GPU can be claimed: {error.strerror}") from error


def _open(path: Path) -> int:
    # A pipe under that name must not make us wait.
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        # Without O_CREAT, which Linux refuses for others' files in such a folder (fs.protected_regular).
        return os.open(path, flags)
    except FileNotFoundError:
        pass
    try:
        with _no_umask():
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return os.open(path, flags)


def _check_folder() -> None:
    """Makes the folder where there is none. Raises InputError where not all users can share it."""
    try:
        with _no_umask():
            FOLDER.mkdir(mode=0o1777, exist_ok=True)
        about = FOLDER.lstat()
    except OSError as error:
        raise InputError(f"{FOLDER} cannot be made, so that no GPU can be claimed: {error.strerror}") from error
    if not stat.S_ISDIR(about.st_mode):
        raise InputError(f"{FOLDER} is no folder, so that no GPU can be claimed; remove it")
    if stat.S_IMODE(about.st_mode) & 0o1777 != 0o1777:
        raise InputError(f"{FOLDER} is not open to all users, so that no GPU can be claimed: chmod 1777 {FOLDER}")


@contextmanager
def _no_umask() -> Iterator[None]:
    """Inside, what is made gets the very mode that is asked for, and at once: others may open it the next moment."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def _path(name: str) -> Path:
    return FOLDER / f"{re.sub(r'[^A-Za-z0-9-]', '_', name)}.lock"


def _holder(name: str) -> str:
    """Who holds a GPU, by what its file says: anybody may have written that."""
    try:
        descriptor = os.open(_path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, _LONGEST).decode("utf-8", errors="replace")
        finally:
            os.close(descriptor)
    except OSError:
        text = ""
    said = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(said.split()) or "somebody"
