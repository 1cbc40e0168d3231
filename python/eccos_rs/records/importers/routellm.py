"""RouteLLM's response tables: GSM8K (with the answers) and MMLU (right or wrong alone)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eccos_rs.errors import RecordError
from eccos_rs.records.check import Place
from eccos_rs.records.files import iter_rows
from eccos_rs.records.importers.base import is_missing, must_have_models
from eccos_rs.records.record import Output, Record
from eccos_rs.records.tidy import number_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from eccos_rs.records.importers.base import ImportOptions

__all__ = ["read_gsm8k", "read_mmlu", "sniff_gsm8k", "sniff_mmlu"]

ANSWER = "_response"


def sniff_gsm8k(row: dict[str, Any]) -> bool:
    """Tell the GSM8K table: `prompt`, a column for each model, and its `_response`."""
    return "prompt" in row and any(name.endswith(ANSWER) and name.removesuffix(ANSWER) in row for name in row)


def sniff_mmlu(row: dict[str, Any]) -> bool:
    """Tell an MMLU table: `prompt` and nothing but truth values."""
    rest = [value for name, value in row.items() if name != "prompt"]
    return "prompt" in row and bool(rest) and all(number_in(value) in (True, False) for value in rest)


def read_gsm8k(path: Path, options: ImportOptions) -> Iterator[Record]:
    """Read `prompt`, `<model>` (true or false), `<model>_response`; lengths are counted from the answers."""
    yield from _read(path, options, options.dataset or "gsm8k")


def read_mmlu(path: Path, options: ImportOptions) -> Iterator[Record]:
    """Read `prompt`, `<model>` (true or false); the file's name says the subject.

    The runs behind these tables asked for one token, so an answer counts as one unless another length is
    stated.
    """
    subject = path.name.split(".")[0].removeprefix("mmlu_")
    yield from _read(path, options, options.dataset or f"mmlu/{subject}", length=1)


def _read(path: Path, options: ImportOptions, dataset: str, length: int | None = None) -> Iterator[Record]:
    for number, row in iter_rows(path):
        place = Place(path.name, number)
        try:
            models = [name for name in row if name != "prompt" and not name.endswith(ANSWER)]
            must_have_models(models, path.name, "columns named after the models beside 'prompt'")
            query = place.at("prompt").text(row.get("prompt"))
            input_tokens = options.count(query)
            outputs = []
            for model in models:
                spot = place.at(model)
                if is_missing(row[model]):
                    continue
                quality = spot.quality(number_in(row[model]), options.quality_scale)
                stated = length if options.output_tokens is None else options.output_tokens
                answer = row.get(model + ANSWER)
                tokens = (
                    input_tokens,
                    options.length(None if isinstance(answer, str) else stated, answer, spot),
                )
                outputs.append(Output(model, quality, tokens[1], options.cost(model, tokens, spot)))
            if not outputs:
                raise place.fail("no model has a value")
            yield Record(query, dataset, input_tokens, tuple(outputs), f"{dataset}/{number}")
        except RecordError as error:
            options.report(error)
