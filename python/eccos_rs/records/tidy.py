"""The tidy form: one row for each (query, model), rows of a query together or not."""

from __future__ import annotations

from dataclasses import replace
from statistics import median_low
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import RecordError
from eccos_rs.records.check import MOST_TOKENS, Place, check_columns
from eccos_rs.records.columns import OPTION_COLUMNS, TIDY_COLUMNS, ColumnMap
from eccos_rs.records.files import iter_rows, known_suffix, parquet_rows
from eccos_rs.records.record import Output, ReadOptions, Record, parse_id, parse_model, plain_output
from eccos_rs.records.seen import SeenIds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Gatherer", "number_in", "read_tidy"]

NEEDED = ("query_id", "dataset", "query", "model", "quality", "input_tokens", "output_tokens")


class Gatherer:
    """Builds records from rows of one (query, model) each, and checks that rows of one query agree."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Place, Record, list[Output]]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, key: str) -> bool:
        return key in self._open

    def add(self, key: str, query: Record, output: Output, place: Place) -> None:
        """Add one output with its model's count of input tokens; `query` carries the text and dataset."""
        entry = self._open.get(key)
        if entry is None:
            self._open[key] = (place, query, [output])
            return
        first, known, outputs = entry
        for column in ("query", "dataset"):
            if getattr(known, column) != getattr(query, column):
                raise place.at(column).fail(
                    f"query {key!r} has {_short(getattr(query, column))} here and "
                    f"{_short(getattr(known, column))} in row {first.row}; rows of one query must agree"
                )
        if any(output.model == other.model for other in outputs):
            raise place.at("model").fail(f"query {key!r} has model {output.model!r} twice")
        outputs.append(output)

    def close(self) -> Iterator[Record]:
        """Hand out the records in the order in which their first rows came, and forget them."""
        for _, query, outputs in self._open.values():
            yield with_counts(query, outputs)
        self._open.clear()


def with_counts(query: Record, outputs: Sequence[Output]) -> Record:
    """Return a record of outputs that each state their input tokens.

    The record's own count is their lower median; an output keeps its count where that is another one.
    """
    counts = [output.input_tokens for output in outputs if output.input_tokens is not None]
    usual = median_low(counts) if counts else query.input_tokens
    kept = tuple(replace(o, input_tokens=None) if o.input_tokens == usual else o for o in outputs)
    return Record(query.query, query.dataset, usual, kept, query.id)


def read_tidy(path: Path, options: ReadOptions) -> Iterator[Record]:
    """Stream a tidy file.

    A file whose rows are ordered by query is streamed within bounded memory. Rows that are scattered (one
    model after the other, say) are gathered first, which holds the whole file's texts in memory.
    """
    gatherer, scattered = Gatherer(), not _is_ordered(path, options.columns)
    current: str | None = None
    for number, row in options.columns.rows(path):
        place = Place(path.name, number)
        try:
            key, query, output = parse_tidy(row, place, options)
            if key != current and not scattered:
                yield from gatherer.close()
            current = key
            gatherer.add(key, query, output, place)
        except RecordError as error:
            options.report(error)
    yield from gatherer.close()


def _is_ordered(path: Path, columns: ColumnMap) -> bool:
    """Whether the rows of each query stand together; looks at the ids alone."""
    seen, current = SeenIds(), None
    for number, key in enumerate(_ids(path, columns.column("query_id")), start=1):
        if key == current:
            continue
        if seen.find_row(key) is not None:
            return False
        seen.add(key, Place(path.name, number))
        current = key
    return True


def _ids(path: Path, column: str) -> Iterator[str]:
    if known_suffix(path) in {".parquet", ".pq"}:
        rows = parquet_rows(path, [column])
    else:
        rows = (row for _, row in iter_rows(path))
    for row in rows:
        yield str(row.get(column))


def parse_tidy(row: Mapping[str, Any], place: Place, options: ReadOptions) -> tuple[str, Record, Output]:
    """Check one tidy row: the query's id, the query without outputs, and the output."""
    plain = _plain(row, options)
    if plain is not None:
        return plain
    known = TIDY_COLUMNS | OPTION_COLUMNS
    check_columns(row, place, known=known, needed=NEEDED, ignore=options.ignore)
    key = parse_id(row["query_id"], place.at("query_id"))
    if key is None:
        raise place.at("query_id").fail("is missing, wanted a text")
    model = parse_model(row, place.at, options)
    tokens = (
        place.at("input_tokens").count(number_in(row["input_tokens"])),
        place.at("output_tokens").count(number_in(row["output_tokens"])),
    )
    paid = number_in(row.get("cost_usd"))
    spot = place.at("cost_usd")
    output = Output(
        model=model,
        quality=place.at("quality").quality(number_in(row["quality"]), options.quality_scale),
        output_tokens=tokens[1],
        cost_usd=options.cost(model, tokens, spot) if paid is None else spot.money(paid),
        input_tokens=tokens[0],
    )
    query = Record(
        place.at("query").text(row["query"]), place.at("dataset").text(row["dataset"]), tokens[0], (), key
    )
    return key, query, output


def _plain(row: Mapping[str, Any], options: ReadOptions) -> tuple[str, Record, Output] | None:
    """Build from values that need no second look, or return None, which sends the row the careful way."""
    if row.keys() != TIDY_COLUMNS:
        return None
    key, text, dataset, tokens = row["query_id"], row["query"], row["dataset"], row["input_tokens"]
    output = plain_output(row, options)
    if (
        output is not None
        and type(key) is str
        and type(text) is str
        and type(dataset) is str
        and type(tokens) is int
        and 0 <= tokens <= MOST_TOKENS
        and key.strip()
        and text.strip()
        and dataset.strip()
    ):
        return key, Record(text, dataset, tokens, (), key), output
    return None


def number_in(cell: Any) -> Any:
    """Return the number or truth value that a CSV cell spells, None when empty; the rest is left as it is."""
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    if not text:
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        return cell


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
