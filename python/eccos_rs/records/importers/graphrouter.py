"""GraphRouter's `router_data.csv`: one row per (query, model) with `task_id`, `llm`, `effect`, `cost`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eccos_rs.records.check import Place, check_columns
from eccos_rs.records.importers.base import QueryGatherer, gather_rows, is_missing
from eccos_rs.records.record import Output
from eccos_rs.records.tidy import number_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from eccos_rs.records.importers.base import ImportOptions
    from eccos_rs.records.record import Record

__all__ = ["read", "sniff"]

COLUMNS = {
    "task_id", "task_description", "task_description_embedding", "query", "query_embedding", "ground_truth",
    "metric", "llm", "effect", "cost", "cost_usd", "response", "record_index", "input_tokens",
    "output_tokens",
}  # fmt: skip
NEEDED = ("task_id", "query", "llm", "effect")


def sniff(row: dict[str, Any]) -> bool:
    """Tell the form by its four columns."""
    return all(column in row for column in NEEDED)


def read(paths: list[Path], options: ImportOptions) -> Iterator[Record]:
    """Read CSV or Parquet.

    The column `cost` is scaled to [0, 1] within each task, so it is not money and is not used: `cost_usd` is,
    where a file has it, else the price list with the answer's length (from `output_tokens`, from `response`,
    or as assumed, which is how the form's own makers priced it).
    """
    yield from gather_rows(paths, _add, options)


def _add(gatherer: QueryGatherer, row: dict[str, Any], place: Place, options: ImportOptions) -> None:
    check_columns(row, place, known=COLUMNS, needed=NEEDED, ignore=options.ignore)
    task, text = place.at("task_id").text(str(row["task_id"])), place.at("query").text(row["query"])
    model = place.at("llm").text(row["llm"])
    stated = number_in(row.get("input_tokens"))
    asked = options.count(text) if is_missing(stated) else place.at("input_tokens").count(stated)
    length = options.length(row.get("output_tokens"), row.get("response"), place.at("output_tokens"))
    quality = place.at("effect").quality(number_in(row["effect"]), options.quality_scale)
    cost = options.paid(row.get("cost_usd"), model, (asked, length), place.at("cost_usd"))
    key = (task, text, str(row.get("ground_truth")))
    gatherer.add(key, (text, task, asked), Output(model, quality, length, cost), place)
