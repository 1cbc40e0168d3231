"""Rows in, rows out: JSONL, JSON, CSV and Parquet, streamed, and files that appear whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, cast

from eccos_rs.errors import MissingExtraError, RecordError
from eccos_rs.records.check import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["iter_rows", "open_text", "parquet", "replacing", "suffix_of"]

Row = dict[str, Any]

PARQUET_BATCH = 2048
PICKLES = {".pkl", ".pickle", ".p"}


def suffix_of(path: Path) -> str:
    """Return the suffix that says the form, with `.gz` looked through: `data.jsonl.gz` is `.jsonl`."""
    suffixes = [part.lower() for part in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def parquet() -> Any:
    """Import `pyarrow.parquet`, or say how to get it."""
    try:
        import pyarrow.parquet as module
    except ImportError as error:
        raise MissingExtraError(
            "reading and writing Parquet needs pyarrow: pip install 'eccos-rs[parquet]'"
        ) from error
    return module


def _opened(path: Path, mode: Literal["rb", "wb"]) -> IO[bytes]:
    if path.suffix.lower() == ".gz":
        return cast("IO[bytes]", gzip.open(path, mode))
    return path.open(mode)


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """Open a text for reading, gzipped or not; a byte order mark is dropped."""
    try:
        stream = _opened(path, "rb")
    except OSError as error:
        raise RecordError(f"{path}: cannot be opened: {error.strerror or error}") from error
    with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        try:
            yield text
        except UnicodeDecodeError as error:
            raise RecordError(f"{path}: is not UTF-8 text ({error.reason})") from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise RecordError(f"{path}: the gzip stream is cut off or broken ({error})") from error


def iter_rows(path: str | Path) -> Iterator[tuple[int, Row]]:
    """Stream the rows of a file, whichever form it is in.

    Parameters
    ----------
    path : path
        `.jsonl` (or `.ndjson`), `.json` (one array; read whole), `.csv`, `.tsv` or `.parquet`; text forms may
        be gzipped.

    Yields
    ------
    row : int
        From 1: the line of a JSONL file, the data row elsewhere.
    fields : dict
        Column name to value. CSV cells stay texts.

    Raises
    ------
    RecordError
        A file that cannot be opened or parsed, or a form that is not read (pickle, which would run code).
    """
    path = Path(path)
    form = suffix_of(path)
    if form in PICKLES:
        raise RecordError(
            f"{path}: a pickle runs code when it is opened, so it is not read; "
            "where you trust it, convert it once: "
            'python -c "import pandas; '
            f"pandas.read_pickle('{path.name}').to_parquet('{path.stem}.parquet')\""
        )
    readers = {
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".json": _json_array,
        ".csv": _csv_rows,
        ".tsv": _csv_rows,
        ".parquet": _parquet_rows,
        ".pq": _parquet_rows,
    }
    reader = readers.get(form)
    if reader is None:
        raise RecordError(
            f"{path}: the form {form or 'without a suffix'!r} is not read, wanted one of {', '.join(readers)}"
        )
    if not path.is_file():
        raise RecordError(f"{path}: there is no such file")
    return reader(path)


def _json_lines(path: Path) -> Iterator[tuple[int, Row]]:
    with open_text(path) as text:
        for number, line in enumerate(text, start=1):
            if line.strip():
                yield number, _json_object(line, Place(path.name, number))


def _json_object(line: str, place: Place) -> Row:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        cut = "" if line.endswith("\n") else " (the file ends in the middle of it)"
        raise place.fail(f"is not a JSON object: {error}{cut}") from error
    if not isinstance(value, dict):
        raise place.fail(f"got a JSON {type(value).__name__}, wanted an object")
    return value


def _json_array(path: Path) -> Iterator[tuple[int, Row]]:
    with open_text(path) as text:
        try:
            value = json.load(text)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"{path.name}: is not JSON: {error}") from error
    rows = value if isinstance(value, list) else [value]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise Place(path.name, number).fail(f"got a JSON {type(row).__name__}, wanted an object")
        yield number, row


def _csv_rows(path: Path) -> Iterator[tuple[int, Row]]:
    # Model answers in a cell are often longer than the csv module's 128 KiB.
    csv.field_size_limit(2**30)
    with open_text(path) as text:
        reader = csv.reader(text, delimiter="\t" if suffix_of(path) == ".tsv" else ",")
        try:
            header = next(reader, None)
            if header is None:
                raise RecordError(f"{path.name}: is empty, wanted a header line")
            repeated = {name for name in header if header.count(name) > 1}
            if repeated:
                raise Place(path.name, 0, min(repeated)).fail("the header names it twice")
            for number, cells in enumerate(reader, start=1):
                if not cells:
                    continue
                if len(cells) != len(header):
                    problem = f"has {len(cells)} cells, the header has {len(header)}"
                    raise Place(path.name, number).fail(problem)
                yield number, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise RecordError(f"{path.name}, line {reader.line_num}: is not CSV: {error}") from error


def _parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    yield from enumerate(parquet_rows(path), start=1)


def parquet_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Stream the rows of a Parquet file, all columns or these alone, a batch at a time."""
    module, number = parquet(), 0
    # A damaged file brings out nearly any exception of pyarrow, of its base classes and of the text decoder.
    try:
        with module.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=PARQUET_BATCH, columns=columns):
                rows = batch.to_pylist()
                yield from rows
                number += len(rows)
    except RecordError:
        raise
    except Exception as error:
        after = f"after row {number}, " if number else ""
        raise RecordError(f"{path.name}: {after}is not a Parquet file, or is damaged: {error}") from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to, which replaces `path` once the block ends well: complete, synced, renamed.

    Yields
    ------
    Path
        A new file in the same folder; it is removed when the block raises.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=f".{path.name}.", suffix="".join(path.suffixes[-2:]), dir=path.parent
    )
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        with beside.open("rb+") as stream:
            os.fsync(stream.fileno())
        # mkstemp makes files that only their owner may read; a data set is an ordinary file.
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _umask() -> int:
    value = os.umask(0o022)
    os.umask(value)
    return value


def write_json_lines(path: Path, rows: Iterable[Row]) -> int:
    """Write one JSON object a line (gzipped when the name ends in `.gz`); returns how many."""
    count = 0
    with _opened(path, "wb") as stream:
        for row in rows:
            stream.write(
                (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")
            )
            count += 1
    return count
