"""Rows in, rows out: JSON lines, JSON, CSV and Parquet, streamed; files appear whole or not at all."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from eccos_rs.errors import MissingExtraError, RecordError
from eccos_rs.records.check import Place, valid_texts
from eccos_rs.records.forms import FORM_SUFFIXES, FileLayout, detect_layout, known_suffix, open_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["iter_rows", "iter_values", "known_suffix", "open_text", "parquet", "replacing"]

Row = dict[str, Any]

PARQUET_BATCH = 2048
_INDEX = re.compile(r"__index_level_\d+__|Unnamed: \d+")
PICKLES = {".pkl", ".pickle", ".p"}


def parquet() -> Any:
    """Import `pyarrow.parquet`, or say how to get it."""
    try:
        import pyarrow.parquet as module
    except ImportError as error:
        raise MissingExtraError(
            "reading and writing Parquet needs pyarrow: pip install 'eccos-rs[parquet]'"
        ) from error
    return module


def iter_rows(path: str | Path) -> Iterator[tuple[int, Row]]:
    """Stream the rows of a file, whichever form it is in.

    Parameters
    ----------
    path : path
        JSON lines, JSON (one array or one object; read whole), CSV or TSV, Parquet; the form is told by
        suffix and content (`eccos_rs.records.forms`), and may be packed by gzip or Zstandard.

    Yields
    ------
    row : int
        From 1: the line of a JSON lines file, the data row elsewhere.
    fields : dict
        Column name to value. CSV cells stay texts. A column without a name (an index that pandas wrote) is
        left out.

    Raises
    ------
    RecordError
        A file that cannot be opened or parsed, or a form that is not read (pickle, which would run code).
    """
    path = Path(path)
    for number, value in iter_values(path):
        if not isinstance(value, dict):
            kind = type(value).__name__
            raise Place(path.name, number).fail(f"got a JSON {kind}, wanted an object")
        yield number, value


def iter_values(
    path: str | Path,
    layout: FileLayout | None = None,
    *,
    name: str | None = None,
    on_error: Callable[[RecordError], None] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Stream the values of a file: as `iter_rows`, and lines that hold a text or a list as they are.

    Parameters
    ----------
    path : path
    layout : FileLayout, optional
        In place of what `detect_layout` finds; the form `text` gives each line that is not blank.
    name : str, optional
        What errors call the file.
    on_error : callable, optional
        Takes the error of each line of a JSON lines file that is not JSON, and the line is left out; without
        it the first one is raised.
    """
    path = Path(path)
    place = Place(path.name, 0) if name is None else Place(name, 0, unit="line")
    if layout is None:
        layout = _readable(path)
    if layout.form == "jsonl":
        return _json_lines(path, place, on_error)
    if layout.form == "json":
        return _json_document(path)
    if layout.form == "csv":
        return _csv_rows(path, layout.delimiter)
    if layout.form == "text":
        return _text_lines(path)
    return enumerate(parquet_rows(path), start=1)


def _readable(path: Path) -> FileLayout:
    """Return the layout of a file of rows, or say why it is none."""
    form = known_suffix(path)
    if form in PICKLES:
        raise RecordError(
            f"{path}: a pickle runs code when it is opened, so it is not read; "
            "where you trust it, convert it once: "
            'python -c "import pandas; '
            f"pandas.read_pickle('{path.name}').to_parquet('{path.stem}.parquet')\""
        )
    if not path.is_file():
        raise RecordError(f"{path}: there is no such file")
    layout = detect_layout(path)
    if layout.form == "text":
        if form in FORM_SUFFIXES or not path.stat().st_size:
            return FileLayout(FORM_SUFFIXES.get(form, "jsonl"))
        raise RecordError(
            f"{path}: is not read: neither its name nor its first lines say which form it has; "
            f"wanted one of {', '.join(FORM_SUFFIXES)}"
        )
    return layout


def _json_lines(
    path: Path, place: Place, on_error: Callable[[RecordError], None] | None = None
) -> Iterator[tuple[int, Any]]:
    with open_text(path) as text:
        for number, line in enumerate(text, start=1):
            if not line.strip():
                continue
            try:
                value = _json_value(line, replace(place, row=number))
            except RecordError as error:
                if on_error is None:
                    raise
                on_error(error)
                continue
            yield number, value


def _json_value(line: str, place: Place) -> Any:
    try:
        return _clean(json.loads(line), line)
    except (ValueError, RecursionError) as error:
        cut = "" if line.endswith("\n") else " (the file ends in the middle of it)"
        raise place.fail(f"is not valid JSON: {error}{cut}") from error


def _clean(value: Any, source: str) -> Any:
    """Replace lone surrogates, which only an escape can bring in, by U+FFFD."""
    return valid_texts(value) if "\\ud" in source or "\\uD" in source else value


def _json_document(path: Path) -> Iterator[tuple[int, Any]]:
    with open_text(path) as text:
        try:
            whole = text.read()
            value = _clean(json.loads(whole), whole)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"{path.name}: is not JSON: {error}") from error
    yield from enumerate(value if isinstance(value, list) else [value], start=1)


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    with open_text(path, newline="\n") as text:
        # Only \n ends a line: other signs that Unicode counts as line ends may stand inside a query.
        for number, line in enumerate(text, start=1):
            if line.strip():
                yield number, line.rstrip("\r\n")


def _csv_rows(path: Path, delimiter: str) -> Iterator[tuple[int, Row]]:
    # Model answers in a cell are often longer than the csv module's 128 KiB.
    csv.field_size_limit(2**30)
    with open_text(path) as text:
        reader = csv.reader(text, delimiter=delimiter)
        try:
            header = [name.strip() for name in next(reader, [])]
            if not header:
                raise RecordError(f"{path.name}: is empty, wanted a header line")
            repeated = {name for name in header if name and header.count(name) > 1}
            if repeated:
                raise Place(path.name, 0, min(repeated)).fail("the header names it twice")
            for number, cells in enumerate(reader, start=1):
                if not cells:
                    continue
                if len(cells) != len(header):
                    problem = f"has {len(cells)} cells, the header has {len(header)}"
                    raise Place(path.name, number).fail(problem)
                yield (
                    number,
                    {name: cell for name, cell in zip(header, cells, strict=True) if not is_index(name)},
                )
        except csv.Error as error:
            raise RecordError(f"{path.name}, line {reader.line_num}: is not CSV: {error}") from error


def parquet_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Stream the rows of a Parquet file, all columns or these alone, a batch at a time.

    Index columns that pandas wrote without a name (`__index_level_0__`) are left out.
    """
    module, number = parquet(), 0
    # A damaged file brings out nearly any exception of pyarrow, of its base classes and of the text decoder.
    try:
        with module.ParquetFile(path) as file:
            if columns is None:
                columns = [name for name in file.schema_arrow.names if not is_index(name)]
            for batch in file.iter_batches(batch_size=PARQUET_BATCH, columns=columns):
                rows = batch.to_pylist()
                yield from rows
                number += len(rows)
    except RecordError:
        raise
    except Exception as error:
        after = f"after row {number}, " if number else ""
        raise RecordError(f"{path.name}: {after}is not a Parquet file, or is damaged: {error}") from error


def is_index(name: str) -> bool:
    """Say whether a column's name is one that pandas gives to an index without a name."""
    return not name or _INDEX.fullmatch(name) is not None


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
    """Write one JSON object per line (gzipped when the name ends in `.gz`); returns how many."""
    count = 0
    packed = path.suffix.lower() == ".gz"
    with cast("IO[bytes]", gzip.open(path, "wb") if packed else path.open("wb")) as stream:
        for row in rows:
            stream.write(
                (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")
            )
            count += 1
    return count
