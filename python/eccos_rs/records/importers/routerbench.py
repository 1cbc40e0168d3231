"""RouterBench: one wide row per prompt, with `model`, `model|total_cost` and `model|model_response`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eccos_rs.errors import RecordError
from eccos_rs.records.check import Place, check_columns
from eccos_rs.records.files import iter_rows
from eccos_rs.records.importers.base import is_missing, list_text, must_have_models
from eccos_rs.records.record import Output, Record
from eccos_rs.records.seen import SeenIds
from eccos_rs.records.tidy import number_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from eccos_rs.records.importers.base import ImportOptions

__all__ = ["read", "sniff"]

COST, ANSWER = "|total_cost", "|model_response"
OTHER = {"sample_id", "prompt", "eval_name", "oracle_model_to_route_to"}


def sniff(row: dict[str, Any]) -> bool:
    """Tell the form by its `model|total_cost` columns."""
    return "prompt" in row and any(name.endswith((COST, ANSWER)) for name in row)


def read(path: Path, options: ImportOptions) -> Iterator[Record]:
    """Read CSV or Parquet; lengths are counted from prompts and answers, costs are the file's own.

    A model whose cells are all empty in a row was not asked there.
    """
    seen = SeenIds()
    for number, row in iter_rows(path):
        place = Place(path.name, number)
        try:
            record = _record(row, place, options)
            seen.add(record.id or "", place.at("sample_id"))
            yield record
        except RecordError as error:
            options.report(error)


def _record(row: dict[str, Any], place: Place, options: ImportOptions) -> Record:
    models = list(dict.fromkeys(name.rsplit("|", 1)[0] for name in row if name.endswith((COST, ANSWER))))
    models = [name for name in models if name in row]
    must_have_models(models, place.source, f"'model' beside 'model{COST}'")
    known = {*OTHER, *models, *(name + end for name in models for end in (COST, ANSWER))}
    check_columns(row, place, known=known, needed=("sample_id", "prompt", "eval_name"), ignore=options.ignore)
    query = list_text(place.at("prompt").text(row["prompt"]))
    input_tokens = options.count(query)
    outputs = []
    for model in models:
        paid, answer = row.get(model + COST), row.get(model + ANSWER)
        quality = number_in(row[model])
        if is_missing(quality) and is_missing(paid) and is_missing(answer):
            continue
        text = None if is_missing(answer) else list_text(answer)
        length = options.length(None, text, place.at(model + ANSWER))
        outputs.append(
            Output(
                model,
                place.at(model).quality(quality, options.quality_scale),
                length,
                options.paid(paid, model, (input_tokens, length), place.at(model + COST)),
            )
        )
    if not outputs:
        raise place.fail("no model has a value")
    dataset = place.at("eval_name").text(row["eval_name"])
    return Record(
        query, dataset, input_tokens, tuple(outputs), place.at("sample_id").text(str(row["sample_id"]))
    )
