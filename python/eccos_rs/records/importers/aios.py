"""AIOS's bootstrap data: a query with `outputs: [{model_name, correctness, output_token_length}]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eccos_rs.errors import RecordError
from eccos_rs.records.check import Place, check_columns
from eccos_rs.records.files import iter_rows
from eccos_rs.records.record import Output, Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from eccos_rs.records.importers.base import ImportOptions

__all__ = ["read", "sniff"]

NEEDED = ("query", "input_token_length", "outputs")
COLUMNS = {*NEEDED, "dataset", "id"}
OUTPUT_COLUMNS = ("model_name", "correctness", "output_token_length")


def sniff(row: dict[str, Any]) -> bool:
    """Tell the form by `input_token_length` beside `outputs`."""
    return "input_token_length" in row and "outputs" in row


def read(path: Path, options: ImportOptions) -> Iterator[Record]:
    """Read a JSON array or JSONL; the form has no costs, so the price list gives them."""
    for number, row in iter_rows(path):
        place = Place(path.name, number)
        try:
            yield _record(row, place, options)
        except RecordError as error:
            options.report(error)


def _record(row: dict[str, Any], place: Place, options: ImportOptions) -> Record:
    check_columns(row, place, known=COLUMNS, needed=NEEDED, ignore=options.ignore)
    asked = place.at("input_token_length").count(row["input_token_length"])
    column = place.at("outputs")
    if not isinstance(row["outputs"], list) or not row["outputs"]:
        raise column.fail("wanted a list with at least one output")
    outputs: dict[str, Output] = {}
    for index, item in enumerate(row["outputs"]):
        if not isinstance(item, dict):
            raise column.fail(f"item {index} is a {type(item).__name__}, wanted an object")
        spot = Place(place.source, place.row, f"outputs[{index}].")
        check_columns(item, spot, known=OUTPUT_COLUMNS, needed=OUTPUT_COLUMNS, ignore=options.ignore)
        model = column.inside(index, "model_name").text(item["model_name"])
        if model in outputs:
            raise column.fail(f"model {model!r} stands there twice")
        length = column.inside(index, "output_token_length").count(item["output_token_length"])
        quality = column.inside(index, "correctness").quality(item["correctness"], options.quality_scale)
        cost = options.cost(model, (asked, length), column.inside(index, "model_name"))
        outputs[model] = Output(model, quality, length, cost)
    dataset = options.dataset or str(row.get("dataset") or "aios")
    name = str(row.get("id") or f"{dataset}/{place.row}")
    return Record(place.at("query").text(row["query"]), dataset, asked, tuple(outputs.values()), name)
