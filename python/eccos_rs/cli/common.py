"""What several commands share: reading queries, writing whole files, progress, consoles."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast, get_args

from eccos_rs.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.console import Console

    from eccos_rs.bulk.queries import QueryRow, RowReader
    from eccos_rs.domain.query import Query

__all__ = [
    "INPUT_FORMS",
    "console",
    "csv_lines",
    "is_utf8",
    "json_text",
    "needing_extra",
    "progress_bar",
    "read_queries",
    "read_rows",
    "standard_input",
    "write_lines",
    "write_whole",
]

InputForm = Literal["auto", "text", "jsonl", "json", "csv", "tsv", "parquet"]
INPUT_FORMS: tuple[InputForm, ...] = get_args(InputForm)

_PIPE_WIDTH = 120
"""Columns of a table that goes to a file or a pipe, where no terminal says how many there are."""


def console(*, stderr: bool = False) -> Console:
    """Return a console for tables, as wide as the terminal; `COLUMNS` goes above it."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal:
        made.file = cast("TextIO", _Trimmed(cast("TextIO", made.file)))
        if "COLUMNS" not in os.environ:
            made.width = _PIPE_WIDTH
    return made


class _Trimmed:
    """A text stream without the blanks that fill a table's lines up to its width."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(re.sub(r"[ \t]+(?=\n)", "", text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def needing_extra(extra: str, what: str) -> Iterator[None]:
    """Say which extra installs what an import in the block does not find; `what` is what needs it."""
    try:
        yield
    except MissingExtraError:
        raise
    except ImportError as error:
        raise MissingExtraError(
            f"{what} needs {error.name}: pip install 'eccos-rs[{extra}]'", name=error.name
        ) from error


@contextmanager
def progress_bar(label: str, total: int | None) -> Iterator[Callable[[int], object]]:
    """Show progress on standard error while the block runs; nothing where that is not a terminal.

    Yields
    ------
    callable
        To be called with the number of steps just done.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    shown = console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as progress:
        task = progress.add_task(label, total=total)
        yield lambda steps: progress.advance(task, steps)


def read_queries(source: str, form: InputForm = "auto") -> list[Query]:
    """Read a file of queries or standard input; see `read_rows`."""
    return [row.query for row in read_rows(source, form)]


def read_rows(source: str, form: InputForm = "auto", reader: RowReader | None = None) -> list[QueryRow]:
    """Read a file or standard input, as rows with their own columns.

    Parameters
    ----------
    source : str
        A path, or ``-`` for standard input.
    form : str
        Of `INPUT_FORMS`; ``auto`` goes by suffix and content.
    reader : RowReader, optional

    Returns
    -------
    list of QueryRow
        Blank lines are left out.

    Raises
    ------
    QueryError
        A row is malformed; the sentence names it.
    InputError
        The file cannot be read.
    """
    from eccos_rs.bulk.queries import read_query_rows

    if source != "-":
        return list(read_query_rows(source, reader, form=form))
    with standard_input() as path:
        return list(read_query_rows(path, reader, form=form, name="standard input"))


@contextmanager
def standard_input() -> Iterator[Path]:
    """Yield a file with what standard input holds, so that its form can be told before it is read."""
    with tempfile.NamedTemporaryFile(prefix="eccos-stdin-", delete=False) as kept:
        shutil.copyfileobj(sys.stdin.buffer, kept)
    try:
        yield Path(kept.name)
    finally:
        os.unlink(kept.name)


@contextmanager
def write_whole(path: Path) -> Iterator[Any]:
    """Write a file so that nobody sees half of it: beside it, synced, then renamed.

    Yields
    ------
    binary file
        Open for writing. When the block raises, Ctrl-C included, nothing is left.
    """
    handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes it private; a result is as readable as any new file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(beside, 0o666 & ~umask)
        os.replace(beside, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside)
        raise


def write_lines(path: Path | None, lines: Iterable[str]) -> None:
    """Write lines into a file as a whole, or to standard output."""
    if path is None:
        for line in lines:
            sys.stdout.write(f"{line}\n")
        return
    with write_whole(path) as stream:
        for line in lines:
            stream.write(f"{line}\n".encode("utf-8", "replace"))


def csv_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Return rows as lines of CSV under a header; lists and objects in a cell are JSON, nothing is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="")
    table: list[list[Any]] = [names, *([row.get(name) for name in names] for row in rows)]
    for cells in table:
        writer.writerow([json_text(cell) if isinstance(cell, list | dict) else cell for cell in cells])
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def json_text(value: Any, *, indent: int | None = None, out: Path | None = None) -> str:
    """Return a value as JSON, in ASCII where standard output takes no more than that."""
    plain = out is None and not is_utf8(sys.stdout)
    return json.dumps(value, ensure_ascii=plain, indent=indent, allow_nan=False)


def is_utf8(stream: Any) -> bool:
    """Say whether a stream takes every character."""
    return str(getattr(stream, "encoding", None) or "").lower().replace("-", "") in ("utf8", "utf8sig")
