"""What all importers share: their options, cells of wide tables, and rows gathered by query."""

from __future__ import annotations

import ast
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import RecordError
from eccos_rs.records.check import Place
from eccos_rs.records.files import iter_rows
from eccos_rs.records.record import Output, ReadOptions, Record
from eccos_rs.records.tidy import number_in, with_counts
from eccos_rs.records.tokens import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

__all__ = ["ImportOptions", "QueryGatherer", "gather_rows", "is_missing", "list_text", "message_text"]


@dataclass(frozen=True, slots=True)
class ImportOptions(ReadOptions):
    """How to import; the options of reading, and what a foreign form may lack.

    Attributes
    ----------
    dataset : str or None
        Dataset name for a form that has none.
    output_tokens : int or None
        Answer length to assume where a form has neither counts nor answers.
    count : callable
        Counts the tokens of a text where a form has no counts.
    """

    dataset: str | None = None
    output_tokens: int | None = None
    count: Callable[[str], int] = field(default=estimate_tokens)

    def length(self, stated: Any, answer: Any, place: Place) -> int:
        """Return an answer's tokens: as stated, else counted from the answer, else as assumed."""
        stated = number_in(stated)
        if not is_missing(stated):
            return place.count(stated)
        if isinstance(answer, str):
            return self.count(answer)
        if self.output_tokens is not None:
            return self.output_tokens
        raise place.fail(
            "the form has no answer lengths and no answers to count; state a length to assume "
            "(output_tokens, or --output-tokens on the command line)"
        )

    def paid(self, stated: Any, model: str, tokens: tuple[int, int], place: Place) -> float:
        """Return US dollars as stated, else by the price list.

        A stated 0 for a call that used tokens is how these forms write an unknown price, so it counts as
        missing.
        """
        stated = number_in(stated)
        if not is_missing(stated):
            cost = place.money(stated)
            if cost > 0 or sum(tokens) == 0:
                return cost
        return self.cost(model, tokens, place)


def is_missing(value: Any) -> bool:
    """Tell whether a cell is empty: None, NaN or a blank text."""
    if value is None:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    return isinstance(value, str) and not value.strip()


def list_text(value: Any) -> str:
    """Return the text of a cell that holds a list of texts, written as Python or as a real list."""
    if isinstance(value, str):
        if value[:1] not in "[(" or value[-1:] not in "])":
            return value
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return str(value)
    if isinstance(value, (list, tuple)):
        return "\n\n".join(part if isinstance(part, str) else message_text([part]) for part in value)
    return str(value)


def message_text(value: Any) -> str:
    """Return the text of a query that is a text or a list of chat messages."""
    if isinstance(value, list):
        parts = [part.get("content", "") if isinstance(part, dict) else part for part in value]
        return "\n\n".join(str(part) for part in parts if part)
    return str(value)


class QueryGatherer:
    """Gathers rows of one (query, model) each into records; ids are the dataset's name and a number."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, ...], tuple[str, str, dict[str, Output]]] = {}

    def add(self, key: tuple[str, ...], query: tuple[str, str, int], output: Output, place: Place) -> None:
        """Add one output.

        Parameters
        ----------
        key : tuple of str
            What tells queries apart.
        query : (str, str, int)
            Text, dataset, input tokens as this model counted them.
        output : Output
            The model's answer.
        place : Place
            Where the row stands.

        Raises
        ------
        RecordError
            The same model answered the same query twice.
        """
        text, dataset, tokens = query
        entry = self._entries.setdefault(key, (text, dataset, {}))
        if output.model in entry[2]:
            raise place.fail(f"model {output.model!r} answers this query a second time ({text[:40]!r})")
        entry[2][output.model] = replace(output, input_tokens=tokens)

    def close(self) -> Iterator[Record]:
        """Yield the records in the order of their first rows, with each model's own count of input tokens."""
        numbers: Counter[str] = Counter()
        for text, dataset, outputs in self._entries.values():
            numbers[dataset] += 1
            name = f"{dataset}/{numbers[dataset]}"
            yield with_counts(Record(text, dataset, 0, (), name), tuple(outputs.values()))
        self._entries.clear()


def needed_text(row: Mapping[str, Any], column: str, place: Place) -> str:
    """Return a text that the row must have."""
    if column not in row:
        raise place.at(column).fail(f"the column is missing; the columns are {', '.join(map(repr, row))}")
    return place.at(column).text(row[column])


def must_have_models(models: list[str], source: str, wanted: str) -> None:
    """Refuse a wide table in which no model's column was found."""
    if not models:
        raise RecordError(f"{source}: no model's column was found; wanted {wanted}")


def gather_rows(
    paths: Iterable[Path],
    add: Callable[[QueryGatherer, dict[str, Any], Place, ImportOptions], None],
    options: ImportOptions,
) -> Iterator[Record]:
    """Gather files that hold one answer a row; a row that `add` refuses is reported, and the rest goes on."""
    gatherer = QueryGatherer()
    for path in paths:
        for number, row in iter_rows(path):
            place = Place(path.name, number)
            try:
                add(gatherer, row, place, options)
            except RecordError as error:
                options.report(error)
    yield from gatherer.close()
