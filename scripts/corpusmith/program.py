"""What every program shares: its arguments, its log, its progress, its way to fail."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any, TypeVar

from corpusmith.errors import InputError
from corpusmith.stopping import Stopped

T = TypeVar("T")
log = logging.getLogger("corpusmith")
_SECONDS_BETWEEN_LINES = 10.0


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose --help shows the program's docstring and every default."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


def json_object(text: str, flag: str, hint: str = "") -> dict[str, Any]:
    """The value of a flag. hint: how it is written. Raises InputError where the text is no JSON object."""
    ending = f"; {hint}" if hint else ""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(f"{flag} is no JSON: {text:.80} ({error}){ending}") from error
    if not isinstance(found, dict):
        raise InputError(f"{flag} is no JSON object: {text:.80}{ending}")
    return found


def run(main: Callable[[], None]) -> None:
    """Runs a program: bad input and a full disk end it with one line and exit status 1.

    SIGTERM ends it as an exception does, so that nothing partial stays behind; Ctrl-C without a traceback. One that
    had to stop before its work was done says so, and how to go on.
    """
    set_up_log()
    signal.signal(signal.SIGTERM, _end)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except InputError as error:
        sys.exit(f"error: {error}")
    except Stopped as stopped:
        print(f"stopped: {stopped}; what is finished is kept, start again to go on", file=sys.stderr)
        sys.exit(stopped.status)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        what = os.strerror(error.errno) if error.filename and error.errno else error.strerror or error
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "; free some space and build again: what is finished stays" if full else ""
        sys.exit(f"error: {place}{what}{hint}")


def set_up_log() -> None:
    """Lines with the time go to stderr, and what libraries say too often stays unsaid."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for noisy in ("httpx", "httpx2", "httpcore", "urllib3", "filelock", "transformers", "datasets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Its warnings, such as tensors of a checkpoint that are left out on purpose, would bury ours.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def _end(number: int, frame: FrameType | None) -> None:
    log.error("ended by a signal: %s", signal.Signals(number).name)
    sys.exit(128 + number)


class Progress:
    """Progress with rate and time left: a bar on a terminal, a line every ten seconds in a log.

    total: how many are expected, None where nobody knows.
    """

    def __init__(self, what: str, total: int | None = None, unit: str = "rows") -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done = 0
        self._start = self._last = time.monotonic()
        self._bar = None
        if sys.stderr.isatty() and not os.environ.get("CI"):
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=what, unit=f" {unit}", mininterval=0.5, smoothing=0.05)

    def advance(self, count: int = 1) -> None:
        """Counts what is done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            log.info(self._line())

    def _line(self) -> str:
        seconds = time.monotonic() - self._start
        rate = self._done / seconds if seconds > 0 else 0.0
        line = f"{self._what}: {self._done:,}"
        if self._total is not None:
            line += f" of {self._total:,}"
        line += f" {self._unit}, {rate:,.1f}/s"
        if self._total is not None and rate > 0:
            left = max(0, self._total - self._done) / rate
            line += f", {int(left // 60)} min {int(left % 60):02d} s left"
        return line

    def close(self, end: str = "done") -> None:
        """Ends the bar, or writes the last line."""
        if self._bar is not None:
            self._bar.close()
        else:
            seconds = time.monotonic() - self._start
            log.info("%s: %s, %s %s in %.1f s", self._what, end, f"{self._done:,}", self._unit, seconds)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close("done" if kind is None else "stopped")


def track(items: Iterable[T], what: str, total: int | None = None, unit: str = "rows") -> Iterator[T]:
    """The same items, with progress shown as they go by."""
    with Progress(what, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()
