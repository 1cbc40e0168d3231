"""What several commands share: reading queries, writing whole files, progress, consoles."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from eccos_rs.errors import InputError, MissingExtraError, QueryError
from eccos_rs.routing.query import Query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import Console

__all__ = ["console", "needing_extra", "progress_bar", "read_queries", "write_whole"]

InputForm = Literal["auto", "text", "jsonl"]

_PIPE_WIDTH = 120
"""Columns of a table that goes to a file or a pipe, where no terminal says how many there are."""


def console(*, stderr: bool = False) -> Console:
    """Return a console for tables, as wide as the terminal; `COLUMNS` goes above it."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _PIPE_WIDTH
    return made


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
    """Read a file or standard input.

    Parameters
    ----------
    source : str
        A path, or ``-`` for standard input.
    form : {"auto", "text", "jsonl"}
        One query a line, or one JSON value a line: a text, a list of chat messages, or an object with
        ``query`` or ``messages`` and other fields of `Query`. ``auto`` goes by the first line.

    Returns
    -------
    list of Query
        Empty lines are left out.

    Raises
    ------
    QueryError
        A line is malformed; the sentence names it.
    InputError
        The file cannot be read.
    """
    name = "standard input" if source == "-" else source
    try:
        raw = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}, line {line}: not UTF-8 text") from error
    # Only \n ends a line: other signs that Unicode counts as line ends may stand inside a query.
    lines = [(at, line.removesuffix("\r")) for at, line in enumerate(text.split("\n"), 1) if line.strip()]
    if form == "auto":
        form = "jsonl" if lines and _is_json(lines[0][1]) else "text"
    return [_query(f"{name}, line {at}", line, form) for at, line in lines]


def _is_json(line: str) -> bool:
    if not line.lstrip().startswith(("{", "[", '"')):
        return False
    try:
        return isinstance(json.loads(line), dict | list | str)
    except (ValueError, RecursionError):
        # A line that opens as an object is a broken one, not prose.
        return line.lstrip().startswith("{")


def _query(place: str, line: str, form: InputForm) -> Query:
    try:
        return Query.of(line if form == "text" else json.loads(line))
    except QueryError as error:
        raise QueryError(f"{place}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise QueryError(f"{place}: not valid JSON: {error}") from error


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
            stream.write(f"{line}\n".encode())
