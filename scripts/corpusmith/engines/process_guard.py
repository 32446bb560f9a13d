"""Ends processes that must not outlive the one that started them, such as a dead job's hold of a GPU.

They are known by an entry of their environment, which all that they start inherits. Run as a program, it waits for the
end of its input: without a word before it, whoever held the other end has died.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_RELEASE = b"done"
_SECONDS_BETWEEN_LOOKS = 0.05


def start_guard(entry: str, folder: Path) -> subprocess.Popen[bytes]:
    """A guard of the processes whose environment holds the entry (NAME=value), and of the folder that they use.

    It holds the GPUs that this process has claimed, too: nobody gets them before it has ended who still uses them.
    """
    from corpusmith.gpu_claims import held_descriptors  # not at hand where this file runs as a program

    return subprocess.Popen(
        [sys.executable, __file__, entry, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=held_descriptors(),
        # What is sent to our group, such as Ctrl-C, is not for the guard.
        start_new_session=True,
    )


def release(guard: subprocess.Popen[bytes]) -> None:
    """Lets a guard go: it ends nothing."""
    guard.communicate(_RELEASE)


def marked(entry: str) -> list[int]:
    """The processes whose environment holds the entry, without this one; none where there is no /proc."""
    wanted, found = os.fsencode(entry), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue  # gone, or somebody else's
        # multiprocessing's tracker cleans up after the others, and then ends by itself.
        if wanted in environment and b"resource_tracker" not in command and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def end_marked(entry: str, patience: float) -> None:
    """Gives the processes some seconds to end, and then kills them."""
    deadline = time.monotonic() + patience
    while (left := marked(entry)) and time.monotonic() < deadline:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    # One that is just being started is seen the next time.
    while left:
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        left = marked(entry)


def main() -> None:
    """Waits, and ends what is left."""
    entry, folder = sys.argv[1:]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.stdin.buffer.read() != _RELEASE:
        end_marked(entry, 0.0)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
