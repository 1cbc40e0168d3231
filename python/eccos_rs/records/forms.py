"""Which form a file has: told by its suffix and its first bytes, so that a wrong suffix is no obstacle."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal, cast

from eccos_rs.errors import MissingExtraError, RecordError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["FORM_SUFFIXES", "FileLayout", "Form", "detect_layout", "known_suffix", "open_bytes", "open_text"]

Form = Literal["jsonl", "json", "csv", "parquet", "text"]

FORM_SUFFIXES: dict[str, Form] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
"""Suffix (before `.gz` or `.zst`) to the form that it promises."""

PACKINGS = {".gz", ".zst", ".zstd"}
HEAD = 1 << 16
"""Bytes looked at to tell a form."""

DELIMITERS = (",", "\t", ";", "|")
NAMES = frozenset(
    {
        *("query", "text", "prompt", "messages", "question", "body", "query_id", "model"),
        *("request", "request_body", "input", "conversations"),
    }
)
"""A header line without a suffix that says so is one when it names a column of these."""

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_GZIP, _ZSTD, _PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
_NAME = re.compile(r"[A-Za-z_][\w.\-]*")


@dataclass(frozen=True, slots=True)
class FileLayout:
    """How to read a file.

    Attributes
    ----------
    form : {"jsonl", "json", "csv", "parquet", "text"}
        `json` is one document (an array of rows, or one row); `jsonl` one value a line; `text` plain lines.
    delimiter : str
        Of a CSV file.
    """

    form: Form
    delimiter: str = ","


def known_suffix(path: Path) -> str:
    """Return the suffix that says the form, looking through the packing: `data.jsonl.gz` is `.jsonl`."""
    suffixes = [part.lower() for part in path.suffixes]
    if suffixes and suffixes[-1] in PACKINGS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, unpacked where its first bytes say gzip or Zstandard, whatever its suffix."""
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
        if magic.startswith(_GZIP):
            return cast("IO[bytes]", gzip.open(path, "rb"))
        return _zstd(path) if magic == _ZSTD else path.open("rb")
    except OSError as error:
        raise RecordError(f"{path}: cannot be opened: {error.strerror or error}") from error


def _zstd(path: Path) -> IO[bytes]:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: reading Zstandard needs pyarrow: pip install 'eccos-rs[parquet]'"
        ) from error
    return io.BufferedReader(_Raw(pa.input_stream(str(path), compression="zstd")))


class _Raw(io.RawIOBase):
    """Makes one of Python's raw streams of one of Arrow's."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._inner.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()


@contextmanager
def open_text(path: Path, *, newline: str = "") -> Iterator[IO[str]]:
    """Open a text for reading, packed or not; a byte order mark is dropped, and UTF-16 is told by it."""
    stream = open_bytes(path)
    try:
        mark = _peek(stream, path, 2)
        encoding = "utf-16" if mark in _UTF16 else "utf-8-sig"
        with unpacking(path), io.TextIOWrapper(stream, encoding=encoding, newline=newline) as text:
            try:
                yield text
            except UnicodeError as error:
                why = getattr(error, "reason", None) or error
                raise RecordError(f"{path}, line {_bad_line(path)}: is not UTF-8 text ({why})") from error
    finally:
        stream.close()


def _bad_line(path: Path) -> int:
    """Return the first line that is not UTF-8: a decoder reads ahead of the line that it hands out."""
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 0


@contextmanager
def unpacking(path: Path) -> Iterator[None]:
    """Say which file a broken gzip or Zstandard stream belongs to."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise RecordError(f"{path}: the gzip stream is cut off or broken ({error})") from error
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error}") from error


def _peek(stream: IO[bytes], path: Path, size: int) -> bytes:
    """Return the first bytes of a stream that has not been read, and leave it as it was."""
    with unpacking(path):
        if stream.seekable():
            head = stream.read(size)
            stream.seek(0)
            return head
        return stream.peek(size)[:size]  # type: ignore[attr-defined,no-any-return]


def detect_layout(path: Path, columns: Sequence[str] = ()) -> FileLayout:
    """Tell a file's form.

    Parameters
    ----------
    path : Path
        Packed or not.
    columns : sequence of str
        Further column names by which a header line is told.

    Raises
    ------
    RecordError
        It cannot be opened or unpacked.
    """
    with open_bytes(path) as stream, unpacking(path):
        head = stream.read(HEAD)
    return detect_layout_bytes(
        head, FORM_SUFFIXES.get(known_suffix(path)), whole=len(head) < HEAD, columns=columns
    )


def detect_layout_bytes(
    head: bytes, promised: Form | None = None, *, whole: bool, columns: Sequence[str] = ()
) -> FileLayout:
    """Tell a form by the first bytes and what a suffix promises; `whole`: there are no more bytes."""
    if head.startswith(_PARQUET) or (promised == "parquet" and not _is_text(head)):
        return FileLayout("parquet")
    encoding = "utf-16" if head[:2] in _UTF16 else "utf-8-sig"
    lines = head.decode(encoding, "replace").split("\n")
    if not whole and len(lines) > 1:
        lines.pop()  # cut off in the middle
    lines = [line for line in lines if line.strip()][:3]
    if not lines:
        return FileLayout(promised if promised in ("jsonl", "json", "csv") else "text")
    if lines[0].lstrip()[0] in '{["':
        form = _json_form(lines, promised, whole=whole)
        if form is not None:
            return FileLayout(form)
    if promised == "csv" or (promised is None and _is_header(lines, columns)):
        return FileLayout("csv", _delimiter(lines[0]))
    if promised in ("json", "jsonl", "parquet") and _is_header(lines, columns):
        return FileLayout("csv", _delimiter(lines[0]))
    return FileLayout("text" if promised in (None, "parquet") else promised)


def _is_text(head: bytes) -> bool:
    if head[:2] in _UTF16:
        return True
    if b"\x00" in head:
        return False
    try:
        head[:-4].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return bool(head.strip())


def _json_form(lines: list[str], promised: Form | None, *, whole: bool) -> Form | None:
    """Tell one document from a value a line, by the first lines; None when it is no JSON at all."""
    first = lines[0].strip()
    try:
        value = json.loads(first)
    except json.JSONDecodeError as error:
        return _broken_form(lines, error.pos, promised)
    except (ValueError, RecursionError):  # more digits, or deeper nesting, than Python reads
        return "json" if promised == "json" else "jsonl"
    if isinstance(value, str) and promised == "csv":
        return None  # a quoted header of one column
    if len(lines) > 1 or not whole:
        return "jsonl"
    # One line alone: an array of rows is a document, a chat (its items have roles) is a row.
    if isinstance(value, list):
        chat = bool(value) and all(isinstance(item, dict) and "role" in item for item in value)
        return "jsonl" if chat else "json"
    return "json" if promised == "json" else "jsonl"


def _broken_form(lines: list[str], position: int, promised: Form | None) -> Form | None:
    """Tell what a first line is that is no whole value, by where it breaks off."""
    first = lines[0].strip()
    goes_on = position >= len(first) and len(lines) > 1 and not _is_object(lines[1])
    if first in ("[", "{") or (goes_on and promised != "csv"):
        return "json"
    if promised in ("json", "jsonl"):
        return promised
    # A line that opens as an object is a broken one, not prose.
    return "jsonl" if first.startswith("{") and promised != "csv" else None


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])
    except csv.Error:
        return []


def _delimiter(header: str) -> str:
    """Return the sign that cuts a header line into most cells; a comma where none does."""
    return max(DELIMITERS, key=lambda sign: len(_cells(header, sign)))


def _is_header(lines: list[str], columns: Sequence[str]) -> bool:
    delimiter = _delimiter(lines[0])
    cells = [cell.strip() for cell in _cells(lines[0], delimiter)]
    known = any(cell in NAMES or cell in columns for cell in cells)
    # pandas leaves the name of an index column empty.
    named = all(_NAME.fullmatch(cell) or cell in columns for cell in cells[1:]) and (
        not cells or not cells[0] or _NAME.fullmatch(cells[0]) is not None or cells[0] in columns
    )
    if len(cells) < 2:
        return len(lines) > 1 and bool(cells) and cells[0] in {"query", "messages", *columns}
    return known and named
