"""Files of records: read in the record form or the tidy form, written whole or not at all."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from eccos_rs.errors import RecordError
from eccos_rs.records.check import Place
from eccos_rs.records.columns import ColumnMap
from eccos_rs.records.files import known_suffix, parquet, replacing, write_json_lines
from eccos_rs.records.record import Prices, ReadOptions, Record, parse_record
from eccos_rs.records.seen import SeenIds
from eccos_rs.records.tidy import read_tidy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

__all__ = ["read_records", "write_records"]


def read_records(
    path: str | Path,
    *,
    quality_scale: float = 1.0,
    ignore: Collection[str] = (),
    prices: Prices | None = None,
    on_error: Callable[[RecordError], None] | None = None,
    columns: ColumnMap | None = None,
) -> Iterator[Record]:
    """Stream the records of a file in the record form or the tidy form.

    Parameters
    ----------
    path : path
        JSONL (gzipped or not), JSON, or Parquet, with one row per query (`query`, `dataset`, `input_tokens`,
        `outputs`, optionally `id`); or the tidy form, with one row per (query, model): `query_id`,
        `dataset`, `query`, `model`, `quality`, `input_tokens`, `output_tokens`, `cost_usd`. Beside `model`
        may stand `effort` and `lane`: a model asked in several ways is a column for each (``o3@low``).
        JSONL and CSV are
        read line by line and Parquet by row group, so a file may be larger than the memory; a tidy file must
        then have its rows ordered by query.
    quality_scale : float, default 1.0
        What stands for a perfect answer in the file; qualities are divided by it.
    ignore : collection of str
        Unknown columns to leave out in silence; `"*"` stands for all.
    prices : mapping, optional
        Model to (input, output) US dollars per million tokens, to fill in a missing `cost_usd`.
    on_error : callable, optional
        Takes each `RecordError`, and the record is left out; without it the first one is raised.
    columns : ColumnMap, optional
        The file's own names for the columns.

    Yields
    ------
    Record
        In the order of the file.

    Raises
    ------
    RecordError
        With the row and the column: a missing or unknown column, a quality that is NaN or outside [0, 1], a
        missing price, a negative count, a model twice in one record, an id twice in one file, a line that is
        not JSON.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from eccos_rs.records import Output, Record
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.jsonl"
    >>> output = Output("small", quality=1.0, output_tokens=12, cost_usd=0.00001)
    >>> write_records(path, [Record("2 + 2?", "sums", 5, (output,), id="a")])
    1
    >>> [record.outputs[0].model for record in read_records(path)]
    ['small']
    """
    options = ReadOptions(quality_scale, ignore, prices, on_error, columns or ColumnMap())
    path = Path(path)
    rows = options.columns.rows(path)
    first = next(rows, None)
    if first is None:
        return
    if "outputs" not in first[1] and "model" in first[1]:
        rows.close()  # type: ignore[attr-defined]
        yield from read_tidy(path, options)
        return
    seen = SeenIds()
    for number, row in chain([first], rows):
        place = Place(path.name, number)
        try:
            record = parse_record(row, place, options)
            if record.id is not None:
                seen.add(record.id, place.at("id"))
        except RecordError as error:
            options.report(error)
        else:
            yield record


def write_records(
    path: str | Path, records: Iterable[Record], *, form: Literal["record", "tidy"] = "record"
) -> int:
    """Write records to a file that appears complete or not at all.

    Parameters
    ----------
    path : path
        `.jsonl`, `.jsonl.gz` or `.parquet`. An older file of that name is replaced when all is written.
    records : iterable of Record
        Consumed one by one; a generator will do.
    form : {"record", "tidy"}, default "record"
        One row per query, or one row per (query, model).

    Returns
    -------
    int
        How many records were written.

    Raises
    ------
    RecordError
        The name's suffix is of another form, or a record would be refused when it is read back.
    """
    path = Path(path)
    suffix = known_suffix(path)
    if suffix not in {".jsonl", ".ndjson", ".parquet", ".pq"}:
        raise RecordError(f"{path}: got the suffix {suffix!r}, wanted .jsonl, .jsonl.gz or .parquet")
    if form not in ("record", "tidy"):
        raise RecordError(f"form: got {form!r}, wanted 'record' or 'tidy'")
    counter = _Checked(records)
    rows = (record.to_dict() for record in counter) if form == "record" else _tidy_rows(counter)
    with replacing(path) as beside:
        if suffix in {".parquet", ".pq"}:
            _write_parquet(beside, rows, form)
        else:
            write_json_lines(beside, rows)
    return counter.count


class _Checked:
    """Passes records on that could be read back, and counts them."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = records
        self.count = 0

    def __iter__(self) -> Iterator[Record]:
        seen, options = SeenIds(), ReadOptions()
        for record in self.records:
            self.count += 1
            place = Place("the records to write", self.count)
            parse_record(record.to_dict(), place, options)
            if record.id is not None:
                seen.add(record.id, place.at("id"))
            yield record


def _tidy_rows(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    for number, record in enumerate(records, start=1):
        for o in record.outputs:
            yield {
                "query_id": str(number) if record.id is None else record.id, "dataset": record.dataset,
                "query": record.query, "model": o.model, "quality": o.quality,
                "input_tokens": record.prompt_tokens(o), "output_tokens": o.output_tokens,
                "cost_usd": o.cost_usd,
            }  # fmt: skip


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]], form: str) -> None:
    module = parquet()
    import pyarrow as pa

    answer = [
        ("model", pa.string()),
        ("quality", pa.float64()),
        ("output_tokens", pa.int64()),
        ("cost_usd", pa.float64()),
    ]
    if form == "record":
        fields = [
            ("id", pa.string()),
            ("query", pa.string()),
            ("dataset", pa.string()),
            ("input_tokens", pa.int64()),
        ]
        outputs = pa.list_(pa.struct([*answer, ("input_tokens", pa.int64())]))
        schema = pa.schema([*fields, ("outputs", outputs)])
    else:
        fields = [("query_id", pa.string()), ("dataset", pa.string()), ("query", pa.string())]
        schema = pa.schema([*fields, *answer[:2], ("input_tokens", pa.int64()), *answer[2:]])
    with module.ParquetWriter(path, schema) as writer:
        batch: list[dict[str, Any]] = []
        for row in rows:
            batch.append(row)
            if len(batch) == 4096:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                batch.clear()
        if batch:
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
