"""LLMRouterBench: one JSON file per (dataset, split, model), below `results/bench/`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import RecordError
from eccos_rs.records.check import Place, check_columns
from eccos_rs.records.files import open_text
from eccos_rs.records.importers.base import QueryGatherer, is_missing, message_text
from eccos_rs.records.record import Output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from eccos_rs.records.importers.base import ImportOptions
    from eccos_rs.records.record import Record

__all__ = ["read", "sniff"]

COLUMNS = {
    "index", "origin_query", "prompt", "prompt_tokens", "completion_tokens", "cost", "score", "prediction",
    "ground_truth", "raw_output", "extra_fields",
}  # fmt: skip
NEEDED = ("index", "score", "prompt_tokens", "completion_tokens")


def sniff(row: dict[str, Any]) -> bool:
    """Tell a result file by its `records` with scores."""
    records = row.get("records")
    first = records[0] if isinstance(records, list) and records else None
    return isinstance(first, dict) and "score" in first and "index" in first


def read(paths: list[Path], options: ImportOptions) -> Iterator[Record]:
    """Read result files; of several runs of one (dataset, split, model) the newest counts, demo runs do not.

    Dataset, split and model come from the file, or from its path where an older file does not say. A cost of
    0 is how these files write an unknown price, so the price list is then asked.
    """
    gatherer = QueryGatherer()
    for path, content, (dataset, split, model) in _newest(paths):
        for number, row in enumerate(content["records"], start=1):
            place = Place(path.name, number)
            try:
                _add(gatherer, row, (options.dataset or dataset, split, model), (place, options))
            except RecordError as error:
                options.report(error)
    yield from gatherer.close()


def _add(
    gatherer: QueryGatherer, row: Any, run: tuple[str, str, str], context: tuple[Place, ImportOptions]
) -> None:
    (dataset, split, model), (place, options) = run, context
    if not isinstance(row, dict):
        raise place.at("records").fail(f"got a {type(row).__name__}, wanted an object")
    check_columns(row, place, known=COLUMNS, needed=NEEDED, ignore=options.ignore)
    column = "origin_query" if is_missing(row.get("prompt")) else "prompt"
    text = place.at(column).text(message_text(row.get(column) or ""))
    tokens = (
        place.at("prompt_tokens").count(row["prompt_tokens"]),
        place.at("completion_tokens").count(row["completion_tokens"]),
    )
    quality = place.at("score").quality(row["score"], options.quality_scale)
    cost = options.paid(row.get("cost"), model, tokens, place.at("cost"))
    # A model may be sent the question in another wrapping; the index is what its runs share.
    key = (dataset, split, str(row["index"]))
    gatherer.add(key, (text, dataset, tokens[0]), Output(model, quality, tokens[1], cost), place)


def _newest(paths: list[Path]) -> Iterator[tuple[Path, dict[str, Any], tuple[str, str, str]]]:
    runs: dict[tuple[str, str, str], tuple[tuple[str, str], Path]] = {}
    for path in paths:
        content = _load(path)
        if content.get("demo"):
            continue
        run, stamp = _parse_run(path, content), re.search(r"\d{8}_\d{6}", path.name)
        age = (stamp.group() if stamp else "", path.name)
        if run not in runs or runs[run][0] < age:
            runs[run] = (age, path)
    for run in sorted(runs):
        path = runs[run][1]
        yield path, _load(path), run


def _load(path: Path) -> dict[str, Any]:
    with open_text(path) as text:
        try:
            content = json.load(text)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"{path}: is not JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("records"), list):
        raise RecordError(f"{path}: wanted an object with a list of 'records'")
    return content


def _parse_run(path: Path, content: dict[str, Any]) -> tuple[str, str, str]:
    # .../<dataset>/<split>/<model>/<file>.json
    parents = [parent.name for parent in path.resolve().parents][:3]
    fallback = dict(zip(("model_name", "split", "dataset_name"), parents, strict=True))
    names = {key: content.get(key) or fallback[key] for key in fallback}
    return str(names["dataset_name"]), str(names["split"]), str(names["model_name"])
