"""LLMRouter's routing data: one row per (query, model) with `task_name`, `model_name`, `performance`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from eccos_rs.records.check import Place, check_columns
from eccos_rs.records.importers.base import QueryGatherer, gather_rows, is_missing, message_text
from eccos_rs.records.record import Output
from eccos_rs.records.tidy import number_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from eccos_rs.records.importers.base import ImportOptions
    from eccos_rs.records.record import Record

__all__ = ["read", "sniff"]

COLUMNS = {
    "task_name", "query", "ground_truth", "metric", "choices", "task_id", "model_name", "response",
    "token_num", "input_tokens", "output_tokens", "response_time", "api_key_used", "performance",
    "embedding_id", "user_id", "fig_id",
}  # fmt: skip
NEEDED = ("task_name", "query", "model_name", "performance")


def sniff(row: dict[str, Any]) -> bool:
    """Tell the form by its four columns."""
    return all(column in row for column in NEEDED)


def read(paths: list[Path], options: ImportOptions) -> Iterator[Record]:
    """Read JSONL, JSON or Parquet; the form has no costs, so the price list gives them.

    A question's options, which stand apart, are added to its text: a router should see what the models saw.
    Lengths are the file's, else counted from query and answer.
    """
    yield from gather_rows(paths, _add, options)


def _add(gatherer: QueryGatherer, row: dict[str, Any], place: Place, options: ImportOptions) -> None:
    check_columns(row, place, known=COLUMNS, needed=NEEDED, ignore=options.ignore)
    text = place.at("query").text(message_text(row["query"])) + _options(row.get("choices"))
    task, model = place.at("task_name").text(row["task_name"]), place.at("model_name").text(row["model_name"])
    stated = number_in(row.get("input_tokens"))
    asked = options.count(text) if is_missing(stated) else place.at("input_tokens").count(stated)
    length = options.length(row.get("output_tokens"), row.get("response"), place.at("output_tokens"))
    quality = place.at("performance").quality(number_in(row["performance"]), options.quality_scale)
    cost = options.cost(model, (asked, length), place.at("model_name"))
    key = (task, text, str(row.get("ground_truth")), str(row.get("user_id")))
    gatherer.add(key, (text, task, asked), Output(model, quality, length, cost), place)


def _options(choices: Any) -> str:
    if isinstance(choices, str):
        try:
            choices = json.loads(choices)
        except json.JSONDecodeError:
            return ""
    if not isinstance(choices, dict) or not isinstance(choices.get("text"), list):
        return ""
    texts = choices["text"]
    # The data writes the key both ways, after the two benchmarks it comes from.
    labels = choices.get("labels") or choices.get("label") or [chr(65 + index) for index in range(len(texts))]
    return "".join(f"\n({label}) {text}" for label, text in zip(labels, texts, strict=False))
