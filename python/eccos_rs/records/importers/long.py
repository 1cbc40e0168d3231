"""A table of anyone's own: one row per (query, model), its columns under any of their usual names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eccos_rs.records.importers.base import QueryGatherer, gather_rows, is_missing, list_text
from eccos_rs.records.record import Output
from eccos_rs.records.tidy import number_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from eccos_rs.records.check import Place
    from eccos_rs.records.importers.base import ImportOptions
    from eccos_rs.records.record import Record

__all__ = ["NAMES", "read", "sniff"]

NAMES = {
    "query": ("query", "prompt", "question", "instruction", "messages", "input", "text"),
    "model": ("model", "model_name", "model_id", "llm", "engine"),
    "quality": (
        *("quality", "score", "correct", "is_correct", "correctness", "accuracy", "acc", "success", "passed"),
        *("pass", "reward", "rating", "grade", "label"),
    ),
    "query_id": ("query_id", "question_id", "prompt_id", "sample_id", "example_id", "instance_id", "task_id"),
    "dataset": ("dataset", "benchmark", "eval_name", "task", "task_name", "category", "subject"),
    "input_tokens": ("input_tokens", "prompt_tokens", "num_input_tokens"),
    "output_tokens": ("output_tokens", "completion_tokens", "num_output_tokens", "response_tokens"),
    "cost_usd": ("cost_usd", "cost", "total_cost", "response_cost", "spend"),
    "response": ("response", "model_response", "completion", "output", "generation", "model_answer"),
}
"""What a column may be called, the name that counts first in front."""
_NEEDED = ("query", "model", "quality")
_RIGHT = {"yes": 1.0, "correct": 1.0, "pass": 1.0, "passed": 1.0}
_WRONG = {"no": 0.0, "incorrect": 0.0, "wrong": 0.0, "fail": 0.0, "failed": 0.0}


def _columns(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the file's name of each field that it has."""
    lower = {str(name).strip().lower(): str(name) for name in row}
    found = {
        field: next((lower[name] for name in names if name in lower), None) for field, names in NAMES.items()
    }
    return {field: name for field, name in found.items() if name is not None}


def sniff(row: dict[str, Any]) -> bool:
    """Tell the form by a query, a model and how good it was."""
    return all(field in _columns(row) for field in _NEEDED)


def read(paths: list[Path], options: ImportOptions) -> Iterator[Record]:
    """Read CSV, JSON lines, JSON or Parquet.

    Rows of one query are told by its id and dataset, else by its text. Tokens are as stated, else counted
    (the answer's from its text), else as assumed. A cost is as stated, else by the price list.
    """
    yield from gather_rows(paths, _add, options)


def _add(gatherer: QueryGatherer, row: dict[str, Any], place: Place, options: ImportOptions) -> None:
    names = _columns(row)
    for field in _NEEDED:
        if field not in names:
            wanted = " or ".join(map(repr, NAMES[field]))
            raise place.at(field).fail(
                f"no column is called {wanted}; the columns are {', '.join(map(repr, row))}"
            )

    def cell(field: str) -> Any:
        return row.get(names[field]) if field in names else None

    def at(field: str) -> Place:
        return place.at(names.get(field, field))

    text = at("query").text(list_text(cell("query")) if cell("query") is not None else None)
    model = at("model").text(cell("model"))
    dataset = str(options.dataset or cell("dataset") or "own")
    stated = number_in(cell("input_tokens"))
    asked = options.count(text) if is_missing(stated) else at("input_tokens").count(stated)
    length = options.length(cell("output_tokens"), cell("response"), at("output_tokens"))
    quality = at("quality").quality(_graded(cell("quality")), options.quality_scale)
    cost = options.paid(cell("cost_usd"), model, (asked, length), at("cost_usd"))
    key = (dataset, "" if is_missing(cell("query_id")) else str(cell("query_id")), text)
    gatherer.add(key, (text, dataset, asked), Output(model, quality, length, cost), place)


def _graded(cell: Any) -> Any:
    word = cell.strip().lower() if isinstance(cell, str) else None
    return _RIGHT.get(word, _WRONG.get(word, number_in(cell))) if word is not None else number_in(cell)
