"""The one form of labelled data: a query and how each model answered it (the form of the QAServe set)."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from eccos_rs.domain.pricing import call_cost
from eccos_rs.errors import RecordError
from eccos_rs.records.check import MOST_TOKENS, Place, check_columns
from eccos_rs.records.files import iter_rows, parquet, replacing, suffix_of, write_json_lines
from eccos_rs.records.seen import SeenIds

__all__ = ["Output", "Prices", "ReadOptions", "Record", "read_records", "write_records"]

Prices = Mapping[str, tuple[float, float]]
"""Model name to (input price, output price), both in US dollars per million tokens."""

COLUMNS = {"query", "dataset", "input_tokens", "outputs", "id", "query_id"}
NEEDED = ("query", "dataset", "input_tokens", "outputs")
OUTPUT_COLUMNS = {"model", "quality", "output_tokens", "cost_usd"}
OUTPUT_NEEDED = ("model", "quality", "output_tokens")


@dataclass(frozen=True, slots=True)
class Output:
    """How one model answered one query.

    Attributes
    ----------
    model : str
        Model name.
    quality : float
        1 right, 0 wrong, or anything between.
    output_tokens : int
        Length of the answer, tokens.
    cost_usd : float
        What the call cost, US dollars.
    """

    model: str
    quality: float
    output_tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Record:
    """One query with the outputs of the models that were asked.

    Attributes
    ----------
    query : str
        What a router may see.
    dataset : str
        Source or subject, such as `"gsm8k"` or `"mmlu_pro/physics"`.
    input_tokens : int
        Length of the query, tokens.
    outputs : tuple of Output
        One for each model that was asked, no model twice.
    id : str or None
        Unique within a file when given.
    """

    query: str
    dataset: str
    input_tokens: int
    outputs: tuple[Output, ...]
    id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, in the order that files use."""
        fields: dict[str, Any] = {} if self.id is None else {"id": self.id}
        fields |= {"query": self.query, "dataset": self.dataset, "input_tokens": self.input_tokens}
        fields["outputs"] = [
            {"model": o.model, "quality": o.quality, "output_tokens": o.output_tokens, "cost_usd": o.cost_usd}
            for o in self.outputs
        ]
        return fields


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How strictly to read.

    Attributes
    ----------
    quality_scale : float
        What stands for a perfect answer in the file; qualities are divided by it.
    ignore : collection of str
        Unknown columns to leave out in silence; `"*"` stands for all.
    prices : Prices or None
        Fill in `cost_usd` where a file has none.
    on_error : callable or None
        Takes each `RecordError`, and the record is left out; without it the first one is raised.
    """

    quality_scale: float = 1.0
    ignore: Collection[str] = ()
    prices: Prices | None = None
    on_error: Callable[[RecordError], None] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.quality_scale < float("inf"):
            raise RecordError(
                f"quality_scale: got {self.quality_scale}, wanted a positive number such as 1, 10 or 100"
            )

    def cost(self, model: str, tokens: tuple[int, int], place: Place) -> float:
        """US dollars for (input, output) tokens by the price list; a model without a price is refused."""
        if self.prices is None or model not in self.prices:
            listed = "no price list was given" if self.prices is None else "it is not in the price list"
            raise place.fail(
                f"model {model!r} has neither a cost here nor a price ({listed}); "
                "a missing price is never taken as 0: name a pool file with its prices (--pool)"
            )
        return call_cost(*tokens, *self.prices[model])

    def report(self, error: RecordError) -> None:
        """Pass an error on, or raise it."""
        if self.on_error is None:
            raise error
        self.on_error(error)


def read_records(
    path: str | Path,
    *,
    quality_scale: float = 1.0,
    ignore: Collection[str] = (),
    prices: Prices | None = None,
    on_error: Callable[[RecordError], None] | None = None,
) -> Iterator[Record]:
    """Stream the records of a file in the record form or the tidy form.

    Parameters
    ----------
    path : path
        JSONL (gzipped or not), JSON, or Parquet, with one row a query (`query`, `dataset`, `input_tokens`,
        `outputs`, optionally `id`); or the tidy form, also as CSV, with one row a (query, model): `query_id`,
        `dataset`, `query`, `model`, `quality`, `input_tokens`, `output_tokens`, `cost_usd`. JSONL and CSV are
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
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.jsonl"
    >>> output = Output("small", quality=1.0, output_tokens=12, cost_usd=0.00001)
    >>> write_records(path, [Record("2 + 2?", "sums", 5, (output,), id="a")])
    1
    >>> [record.outputs[0].model for record in read_records(path)]
    ['small']
    """
    options = ReadOptions(quality_scale, ignore, prices, on_error)
    path = Path(path)
    rows = iter_rows(path)
    first = next(rows, None)
    if first is None:
        return
    if "outputs" not in first[1] and "model" in first[1]:
        from eccos_rs.records.tidy import read_tidy

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


def parse_record(row: Mapping[str, Any], place: Place, options: ReadOptions) -> Record:
    """Check one row in the record form."""
    check_columns(row, place, known=COLUMNS, needed=NEEDED, ignore=options.ignore)
    input_tokens = place.at("input_tokens").count(row["input_tokens"])
    listed = row["outputs"]
    column = place.at("outputs")
    if not isinstance(listed, (list, tuple)) or not listed:
        raise column.fail("wanted a list with at least one output")
    outputs = tuple(
        _parse_output(item, column, index, (input_tokens, options)) for index, item in enumerate(listed)
    )
    models = [output.model for output in outputs]
    if len(set(models)) < len(models):
        twice = next(name for name in models if models.count(name) > 1)
        raise column.fail(f"model {twice!r} stands there twice")
    return Record(
        query=place.at("query").text(row["query"]),
        dataset=place.at("dataset").text(row["dataset"]),
        input_tokens=input_tokens,
        outputs=outputs,
        id=parse_id(row.get("id", row.get("query_id")), place.at("id")),
    )


def _parse_output(item: Any, column: Place, index: int, context: tuple[int, ReadOptions]) -> Output:
    input_tokens, options = context
    if not isinstance(item, Mapping):
        raise column.fail(f"item {index} is a {type(item).__name__}, wanted an object")
    plain = plain_output(item, options) if len(item) == len(OUTPUT_COLUMNS) else None
    if plain is not None:
        return plain
    check_columns(
        item,
        Place(column.source, column.row, f"outputs[{index}]."),
        known=OUTPUT_COLUMNS,
        needed=OUTPUT_NEEDED,
        ignore=options.ignore,
    )
    model = column.inside(index, "model").text(item["model"])
    output_tokens = column.inside(index, "output_tokens").count(item["output_tokens"])
    paid = item.get("cost_usd")
    spot = column.inside(index, "cost_usd")
    return Output(
        model=model,
        quality=column.inside(index, "quality").quality(item["quality"], options.quality_scale),
        output_tokens=output_tokens,
        cost_usd=options.cost(model, (input_tokens, output_tokens), spot)
        if paid is None
        else spot.money(paid),
    )


def plain_output(item: Mapping[str, Any], options: ReadOptions) -> Output | None:
    """Build an output whose values need no second look, as nearly all do.

    None sends it the careful way, which takes more forms of a value and finds the words for a mistake.
    """
    model, quality = item.get("model"), item.get("quality")
    tokens, cost = item.get("output_tokens"), item.get("cost_usd")
    if (
        type(model) is str
        and type(quality) is float
        and type(tokens) is int
        and type(cost) is float
        and 0.0 <= quality <= 1.0 == options.quality_scale
        and 0.0 <= cost < math.inf
        and 0 <= tokens <= MOST_TOKENS
        and model.strip()
    ):
        return Output(model, quality, tokens, cost)
    return None


def parse_id(value: Any, place: Place) -> str | None:
    """Return an id as text; whole numbers become their digits."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return place.text(value)


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
        One row a query, or one row a (query, model).

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
    suffix = suffix_of(path)
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
                "input_tokens": record.input_tokens, "output_tokens": o.output_tokens, "cost_usd": o.cost_usd,
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
        schema = pa.schema([*fields, ("outputs", pa.list_(pa.struct(answer)))])
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
