"""Files of JSON as blocks of whole rows, read in flat memory, gzipped or not.

    {"a": 1}                      lines: one object a line
    {"a": 2}

    [{"a": 1}, {"a": 2}]          an array of objects, on as many lines as it likes

    {                             objects one after the other
      "a": 1
    }

all give blocks whose data is `{"a": 1}\\n{"a": 2}`, and that know where each row stands: its line, or which element of
the array it is. What a file holds is seen from its beginning, not from its name.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from corpusmith.documents import EXCERPT_CHARACTERS
from corpusmith.errors import InputError

ENDINGS = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz")
BLOCK_BYTES = 2 << 20
MAX_ROW_BYTES = 256 << 20
REASONS = {
    "not_utf8": "the row is not UTF-8, or holds half of a surrogate pair",
    "not_json": "the row is no JSON, or more than one value",
    "not_an_object": "the JSON is no object",
    "not_a_number": "NaN and Infinity are no JSON",
    "number_too_large": "the number is too large for 64 bits of floating point",
    "key_twice": "an object has one key twice",
}
_BOM = b"\xef\xbb\xbf"
_BLANKS = " \t\r\n"
_NOT_BLANK = re.compile(r"[^ \t\r\n]")
_NEXT_OBJECT = re.compile(r"\n(?=\{)")


@dataclass(frozen=True)
class BadJson:
    """A row that is none. place: its line, or the number of the element; reason: a key of REASONS."""

    place: int
    reason: str
    excerpt: str


@dataclass
class Block:
    """Some rows of a file, one behind the other.

    data: the rows, with line breaks between; first: line of the first one; size: bytes of the file, unpacked, that it
    comes from; breaks: how many line breaks, where a row is a line; rows: place and bytes of each where a row need not
    be one line, else None; bad: what was set aside while rows were told apart.
    """

    data: bytes
    first: int
    size: int
    breaks: int | None = None
    rows: list[tuple[int, bytes]] | None = None
    bad: list[BadJson] = field(default_factory=list)

    def places(self) -> Iterator[tuple[int, bytes]]:
        """Place and bytes of each row; blank lines are none."""
        if self.rows is not None:
            yield from self.rows
            return
        for number, line in enumerate(self.data.split(b"\n"), self.first):
            if line.strip():
                yield number, line

    def count(self) -> int:
        """How many rows those are."""
        return len(self.rows) if self.rows is not None else sum(1 for line in self.data.split(b"\n") if line.strip())


class _NotANumber(ValueError):
    pass


class _TooLarge(ValueError):
    pass


class _KeyTwice(ValueError):
    pass


def _constant(text: str) -> None:
    raise _NotANumber(text)


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _TooLarge(text)
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _KeyTwice()
    return found


_STRICT = json.JSONDecoder(parse_constant=_constant, parse_float=_float, object_pairs_hook=_object)
# Only tells values apart; what is wrong inside of them is found when a row is looked at.
_LENIENT = json.JSONDecoder()
_WRONG: tuple[tuple[type[Exception], str], ...] = (
    (_NotANumber, "not_a_number"),
    (_TooLarge, "number_too_large"),
    (_KeyTwice, "key_twice"),
    (RecursionError, "not_json"),
    (UnicodeError, "not_utf8"),
    (ValueError, "not_json"),
)


def value_of(place: int, data: bytes) -> dict[str, Any] | BadJson:
    """The object that a row holds, or why it is none."""
    try:
        text = data.decode("utf-8")
        value = _STRICT.decode(text)
        if "\\u" in text:
            # Fails for half of a surrogate pair, which JSON can spell and UTF-8 cannot.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        return bad_json(place, next(reason for kind, reason in _WRONG if isinstance(error, kind)), data)
    return value if isinstance(value, dict) else bad_json(place, "not_an_object", data)


def bad_json(place: int, reason: str, data: bytes) -> BadJson:
    """A row to set aside, with its first characters."""
    return BadJson(
        place, reason, data[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "replace").strip()[:EXCERPT_CHARACTERS]
    )


class CopyingFile:
    """The bytes of a file, that go into another one, where there is one, and into a SHA-256 as they are read.

    advance: told how many were read.
    """

    def __init__(
        self, source: IO[bytes], copy: IO[bytes] | None = None, advance: Callable[[int], Any] = lambda size: None
    ) -> None:
        self._source, self._copy, self._advance = source, copy, advance
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._source.read(size)
        if self._copy is not None:
            self._copy.write(data)
            self._digest.update(data)
        self._advance(len(data))
        return data

    def finish(self) -> str:
        """Takes what is left; returns the SHA-256 of the whole file."""
        while self.read(1 << 20):
            pass
        return self._digest.hexdigest()


def blocks(path: Path, file: IO[bytes] | CopyingFile | None = None, size: int = BLOCK_BYTES) -> Iterator[Block]:
    """The file's blocks, of about `size` bytes each; where they are cut depends on nothing but the file.

    file: what to read instead of opening the path. Raises InputError, with file and place, where the gzip or the array
    is broken, or a row has more than MAX_ROW_BYTES.
    """
    if file is None:
        with open(path, "rb") as opened:
            yield from blocks(path, opened, size)
        return
    plain = gzip.GzipFile(fileobj=cast(Any, file)) if path.name.endswith(".gz") else file

    def read() -> bytes:
        try:
            return plain.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{path}: broken gzip, is the file cut off? ({error}); fetch or pack it again") from error

    data = read().removeprefix(_BOM)
    while data.strip() == b"" and (more := read()):
        data += more
    # The first line tells what is in the file.
    while b"\n" not in data.lstrip() and len(data) <= MAX_ROW_BYTES and (more := read()):
        data += more
    line = data.lstrip().split(b"\n", 1)[0]
    found = value_of(1, line)
    whole = not isinstance(found, BadJson) or found.reason != "not_json"
    array = line.startswith(b"[") and not (whole and path.name.removesuffix(".gz").rsplit(".", 1)[-1] != "json")
    if array or (line and not whole):
        yield from _blocks_of_values(path, data, read, size, array)
    else:
        yield from _blocks_of_lines(path, data, read)


def _blocks_of_lines(path: Path, data: bytes, read: Callable[[], bytes]) -> Iterator[Block]:
    number, waiting = 1, data
    while True:
        cut = waiting.rfind(b"\n") + 1
        more = b"" if cut else read()
        if cut or not more:
            whole = waiting[:cut] if cut else waiting
            if whole:
                breaks = whole.count(b"\n")
                yield Block(whole, number, len(whole), breaks)
                number += breaks
            waiting = waiting[cut:] if cut else b""
            if not more and not (more := read()):
                if waiting:
                    yield Block(waiting, number, len(waiting), 0)
                return
        if len(waiting) > MAX_ROW_BYTES:
            raise InputError(f"{path}: line {number}: more than {MAX_ROW_BYTES >> 20} MiB in one row; split it")
        waiting += more


def _blocks_of_values(path: Path, data: bytes, read: Callable[[], bytes], size: int, array: bool) -> Iterator[Block]:
    values = _Values(path, data, read, array)
    rows: list[tuple[int, bytes]] = []
    bad: list[BadJson] = []
    held = 0
    for found in values:
        if isinstance(found, BadJson):
            bad.append(found)
        else:
            rows.append(found)
            held += len(found[1])
        if held >= size or len(bad) >= 10_000:
            yield Block(b"\n".join(row for _, row in rows), rows[0][0] if rows else 0, values.taken(), None, rows, bad)
            rows, bad, held = [], [], 0
    yield Block(b"\n".join(row for _, row in rows), rows[0][0] if rows else 0, values.taken(), None, rows, bad)


class _Values(Iterable[tuple[int, bytes] | BadJson]):
    """Place and bytes of each value of an array, or of values one behind the other."""

    def __init__(self, path: Path, data: bytes, read: Callable[[], bytes], array: bool) -> None:
        self._path, self._read, self._array = path, read, array
        # Of whole characters; half of one waits for the next bytes.
        self._rest = b""
        self._buffer, self._at, self._line = "", 0, 1
        self._taken, self._number = 0, 1
        self._error: Exception | None = None
        self._feed(data)

    def taken(self) -> int:
        """Bytes read since it was last asked."""
        taken, self._taken = self._taken, 0
        return taken

    def _feed(self, data: bytes) -> None:
        self._taken += len(data)
        data = self._rest + data
        cut = len(data)
        # Not within a character: at most three bytes of one can be there.
        for back in range(1, min(4, len(data)) + 1):
            byte = data[-back]
            if byte & 0xC0 != 0x80:
                length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
                cut = len(data) - back if length > back else len(data)
                break
        self._rest = data[cut:]
        self._line += self._buffer.count("\n", 0, self._at)
        self._buffer, self._at = self._buffer[self._at :] + data[:cut].decode("utf-8", "surrogateescape"), 0

    def _more(self) -> bool:
        if len(self._buffer) - self._at > MAX_ROW_BYTES:
            raise self._broken(f"more than {MAX_ROW_BYTES >> 20} MiB in one row", "split it")
        # As much again as waits, so that a long value is not begun anew too often.
        data = self._read()
        while data and len(data) < len(self._buffer) - self._at and (more := self._read()):
            data += more
        if not data and self._rest:
            self._buffer, self._rest = self._buffer + self._rest.decode("utf-8", "surrogateescape"), b""
            return True
        if data:
            self._feed(data)
        return bool(data)

    def _sign(self) -> str:
        """The next character that is no blank, or nothing."""
        while (found := _NOT_BLANK.search(self._buffer, self._at)) is None:
            self._at = len(self._buffer)
            if not self._more():
                return ""
        self._at = found.start()
        return found[0]

    def _place(self) -> int:
        return self._number if self._array else self._line + self._buffer.count("\n", 0, self._at)

    def _broken(self, what: object, hint: str = "repair it, or make it a .jsonl of one row a line") -> InputError:
        place = f"element {self._number}" if self._array else f"line {self._place()}"
        return InputError(f"{self._path}: {place}: {what}; {hint}")

    def _value(self) -> bytes | None:
        """The next value; None where what comes is none."""
        while True:
            try:
                _, end = _LENIENT.raw_decode(self._buffer, self._at)
                # What ends where the buffer does might go on.
                if end < len(self._buffer) or not self._more():
                    text = self._buffer[self._at : end]
                    self._at = end
                    return text.encode("utf-8", "surrogateescape")
            except (ValueError, RecursionError) as error:
                self._error = error
                # Far from the end it is broken, not cut off.
                broken = isinstance(error, json.JSONDecodeError) and self._is_far(error)
                if broken or not self._more():
                    return None

    def _is_far(self, error: json.JSONDecodeError) -> bool:
        return "Unterminated" not in error.msg and error.pos < len(self._buffer) - 16

    def __iter__(self) -> Iterator[tuple[int, bytes] | BadJson]:
        if self._array:
            yield from self._elements()
        else:
            while self._sign():
                place = self._place()
                value = self._value()
                yield (place, value) if value is not None else bad_json(place, "not_json", self._skip())

    def _skip(self) -> bytes:
        """Over what is broken, up to the next line that begins an object; returns its beginning."""
        start = self._buffer[self._at : self._at + 4 * EXCERPT_CHARACTERS]
        while (found := _NEXT_OBJECT.search(self._buffer, self._at + 1)) is None:
            # The line break, if it is the last character, belongs to what comes.
            self._at = max(self._at + 1, len(self._buffer) - 1)
            if not self._more():
                self._at = len(self._buffer)
                return start.encode("utf-8", "surrogateescape")
        self._at = found.end()
        return start.encode("utf-8", "surrogateescape")

    def _elements(self) -> Iterator[tuple[int, bytes]]:
        self._sign()
        self._at += 1
        if self._sign() == "]":
            self._at += 1
        else:
            while True:
                self._sign()
                value = self._value()
                if value is None:
                    raise self._broken(f"the array is broken or does not end here ({self._error})")
                yield self._number, value
                sign = self._sign()
                self._at += 1
                if sign == "]":
                    break
                self._number += 1
                if sign != ",":
                    raise self._broken("no comma before it")
        if self._sign():
            raise self._broken("there is more behind the array's end")


def open_binary(path: Path) -> IO[bytes]:
    """The file's bytes. Raises InputError where it cannot be read."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
