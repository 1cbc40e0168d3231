"""Files of queries of any size as a sequence of parts, the same parts at every reading."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.bulk.columns import arrow_columns
from eccos_rs.bulk.queries import RowReader, read_query_rows
from eccos_rs.errors import InputError
from eccos_rs.records.files import is_index, parquet
from eccos_rs.records.forms import FORM_SUFFIXES, FileLayout, detect_layout, known_suffix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eccos_rs.domain.query import Query

__all__ = ["Part", "Source", "find_files"]


@dataclass(frozen=True, slots=True)
class Part:
    """Some consecutive rows of one file.

    Attributes
    ----------
    number : int
        From 0, over all files.
    file : Path
    first : int
        Its first row within the file, from 0.
    queries : list of Query
    own : pyarrow.Table or None
        The rows' own columns; None where there are none (lines of text).
    """

    number: int
    file: Path
    first: int
    queries: list[Query]
    own: Any


def find_files(sources: Sequence[str | Path]) -> list[Path]:
    """Return the files of queries of some paths; a folder stands for all that it holds, in order of names.

    Raises
    ------
    InputError
        A path is not there, or a folder holds no file of rows.
    """
    files: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            found = sorted(
                path
                for path in source.rglob("*")
                if path.is_file()
                and known_suffix(path) in FORM_SUFFIXES
                and not any(part[0] in "._" for part in path.relative_to(source).parts)
            )
            if not found:
                raise InputError(f"{source}: the folder holds no {', '.join(FORM_SUFFIXES)} file")
            files += found
        elif source.is_file():
            files.append(source)
        else:
            raise FileNotFoundError(errno.ENOENT, "there is no such file or folder", str(source))
    return files


@dataclass(frozen=True, slots=True)
class Source:
    """Files cut into parts.

    Parameters
    ----------
    files : sequence of Path
    reader : RowReader
    form : str
        As `read_query_rows` takes it.
    rows : int
        Rows per part at most; a part never spans two files.
    """

    files: Sequence[Path]
    reader: RowReader = field(default_factory=RowReader)
    form: str = "auto"
    rows: int = 20_000

    def parts(self, wanted: Any = None) -> Iterator[Part | int]:
        """Read the parts one after another.

        Parameters
        ----------
        wanted : callable, optional
            Takes a part's number; the rows of a part that is not wanted are passed over, and its number
            stands in its place.
        """
        number = 0
        for file in self.files:
            for part in self._file_parts(file, number, wanted):
                yield part
                number += 1

    def _file_parts(self, file: Path, start: int, wanted: Any) -> Iterator[Part | int]:
        columns = () if self.reader.column is None else (self.reader.column,)
        if self.form == "parquet" or (
            self.form == "auto" and detect_layout(file, columns) == FileLayout("parquet")
        ):
            yield from self._parquet(file, start, wanted)
            return
        rows = read_query_rows(file, self.reader, form=self.form)
        first, empty = 0, True
        while some := list(islice(rows, self.rows)):
            number, empty = start + first // self.rows, False
            if wanted is None or wanted(number):
                yield self._part(number, file, first, some)
            else:
                yield number
            first += len(some)
        if empty:
            yield Part(start, file, 0, [], None)

    def _part(self, number: int, file: Path, first: int, some: list[Any]) -> Part:
        import pyarrow as pa

        own = [row.own for row in some]
        names = list(dict.fromkeys(name for row in own for name in row))
        table = pa.table(arrow_columns(own, names)) if names else None
        return Part(number, file, first, [row.query for row in some], _with_folders(table, file, len(some)))

    def _parquet(self, file: Path, start: int, wanted: Any) -> Iterator[Part | int]:
        import pyarrow as pa

        with parquet().ParquetFile(file) as opened:
            names = [name for name in opened.schema_arrow.names if not is_index(name)]
            number, first, held = start, 0, []
            for batch in _sliced(opened, names, self.rows):
                held.append(batch)
                size = sum(map(len, held))
                if size < self.rows:
                    continue
                yield self._table_part(number, file, first, pa.Table.from_batches(held), wanted)
                number, first, held = number + 1, first + size, []
            if held or first == 0:
                table = pa.Table.from_batches(held) if held else opened.schema_arrow.empty_table()
                yield self._table_part(number, file, first, table, wanted)

    def _table_part(self, number: int, file: Path, first: int, table: Any, wanted: Any) -> Part | int:
        if wanted is not None and not wanted(number):
            return number
        queries = [
            self.reader.row(f"{file}, row {first + at + 1}", row).query
            for at, row in enumerate(table.to_pylist())
        ]
        return Part(number, file, first, queries, _with_folders(table, file, len(table)))


def _sliced(opened: Any, names: list[str], rows: int) -> Iterator[Any]:
    """Yield batches that end where parts end."""
    left = rows
    for batch in opened.iter_batches(batch_size=min(rows, 8192), columns=names):
        rest = batch
        while len(rest) >= left:
            yield rest.slice(0, left)
            rest, left = rest.slice(left), rows
        if len(rest):
            yield rest
            left -= len(rest)


def _with_folders(table: Any, file: Path, rows: int) -> Any:
    """Add the columns that a partitioned data set keeps in the names of its folders (`day=3/`)."""
    import pyarrow as pa

    for folder in file.parent.parts:
        name, sign, value = folder.partition("=")
        if sign and name.isidentifier() and (table is None or name not in table.column_names):
            column = pa.array([value] * rows)
            table = pa.table({name: column}) if table is None else table.append_column(name, column)
    return table
