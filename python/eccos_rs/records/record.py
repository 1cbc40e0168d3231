"""The one form of labelled data: a query and how each model answered it (the form of the QAServe set)."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from eccos_rs.catalogue.names import EFFORTS, join_options, parse_name, split_options
from eccos_rs.domain.llm import LANES
from eccos_rs.domain.pricing import call_cost
from eccos_rs.errors import RecordError
from eccos_rs.records.check import MOST_TOKENS, Place, check_columns
from eccos_rs.records.columns import OPTION_COLUMNS, OUTPUT_COLUMNS, RECORD_COLUMNS, ColumnMap

__all__ = [
    "Output",
    "PriceError",
    "Prices",
    "ReadOptions",
    "Record",
    "parse_id",
    "parse_model",
    "parse_record",
    "plain_output",
]

Prices = Mapping[str, tuple[float, float]]
"""Model name to (input price, output price), both in US dollars per million tokens."""

NEEDED = ("query", "dataset", "input_tokens", "outputs")
OUTPUT_NEEDED = ("model", "quality", "output_tokens")


@dataclass(frozen=True, slots=True)
class Output:
    """How one model answered one query.

    Attributes
    ----------
    model : str
        Model name; with the effort and the lane behind it (``o3@low``) where it was asked in several ways.
    quality : float
        1 right, 0 wrong, or anything between.
    output_tokens : int
        Length of the answer, tokens.
    cost_usd : float
        What the call cost, US dollars.
    input_tokens : int or None
        Length of the prompt as this model counted it, tokens; None where it is the record's.
    """

    model: str
    quality: float
    output_tokens: int
    cost_usd: float
    input_tokens: int | None = None


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
        Length of the query, tokens; an output that states its own goes by that.
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
        fields["outputs"] = [_output_fields(output) for output in self.outputs]
        return fields

    def prompt_tokens(self, output: Output) -> int:
        """Return the input tokens of one output: its own count, else the record's."""
        return self.input_tokens if output.input_tokens is None else output.input_tokens


def _output_fields(output: Output) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "model": output.model,
        "quality": output.quality,
        "output_tokens": output.output_tokens,
        "cost_usd": output.cost_usd,
    }
    return fields if output.input_tokens is None else {**fields, "input_tokens": output.input_tokens}


class PriceError(RecordError):
    """A call has neither a cost nor a price."""


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
    columns : ColumnMap
        The file's own names for the columns.
    """

    quality_scale: float = 1.0
    ignore: Collection[str] = ()
    prices: Prices | None = None
    on_error: Callable[[RecordError], None] | None = None
    columns: ColumnMap = field(default_factory=ColumnMap)

    def __post_init__(self) -> None:
        if not 0 < self.quality_scale < float("inf"):
            raise RecordError(
                f"quality_scale: got {self.quality_scale}, wanted a positive number such as 1, 10 or 100"
            )

    def cost(self, model: str, tokens: tuple[int, int], place: Place) -> float:
        """US dollars for (input, output) tokens by the price list; a model without a price is refused."""
        if self.prices is not None and model not in self.prices:
            # An effort has the price of its model; a lane has one of its own.
            name, _, lane = split_options(model)
            model = next((each for each in (join_options(name, None, lane),) if each in self.prices), model)
        if self.prices is None or model not in self.prices:
            listed = "no price list was given" if self.prices is None else "it is not in the price list"
            raise PriceError(
                f"{place}: model {model!r} has neither a cost here nor a price ({listed}); "
                "a missing price is never taken as 0: name a pool file with its prices (--pool)"
            )
        return call_cost(*tokens, *self.prices[model])

    def report(self, error: RecordError) -> None:
        """Pass an error on, or raise it."""
        if self.on_error is None:
            raise error
        self.on_error(error)


def parse_record(row: Mapping[str, Any], place: Place, options: ReadOptions) -> Record:
    """Check one row in the record form."""
    check_columns(row, place, known=RECORD_COLUMNS, needed=NEEDED, ignore=options.ignore)
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
    plain = plain_output(item, options) if item.keys() <= OUTPUT_COLUMNS else None
    if plain is not None:
        return plain
    check_columns(
        item,
        Place(column.source, column.row, f"outputs[{index}]."),
        known=OUTPUT_COLUMNS | OPTION_COLUMNS,
        needed=OUTPUT_NEEDED,
        ignore=options.ignore,
    )
    model = parse_model(item, lambda name: column.inside(index, name), options)
    output_tokens = column.inside(index, "output_tokens").count(item["output_tokens"])
    paid, own = item.get("cost_usd"), item.get("input_tokens")
    spot = column.inside(index, "cost_usd")
    asked = None if own is None else column.inside(index, "input_tokens").count(own)
    tokens = (input_tokens if asked is None else asked, output_tokens)
    return Output(
        model=model,
        quality=column.inside(index, "quality").quality(item["quality"], options.quality_scale),
        output_tokens=output_tokens,
        cost_usd=options.cost(model, tokens, spot) if paid is None else spot.money(paid),
        input_tokens=asked,
    )


def parse_model(item: Mapping[str, Any], at: Callable[[str], Place], options: ReadOptions) -> str:
    """Return the name of an output's column: its model, with the effort and the lane that it was asked at."""
    model = at("model").text(item["model"])
    told = {
        name: None if name in options.ignore else _option(item.get(name), known, at(name))
        for name, known in (("effort", EFFORTS), ("lane", LANES))
    }
    spelt = parse_name(model).effort
    if told["effort"] is not None and spelt not in (None, "thinking"):
        if spelt != told["effort"]:
            raise at("effort").fail(f"is {told['effort']!r}, the model {model!r} says {spelt!r}")
        told["effort"] = None
    return join_options(model, told["effort"], told["lane"])


def _option(value: Any, known: tuple[str, ...], place: Place) -> str | None:
    if value is None or value != value or value == "":  # noqa: PLR0124 - NaN, as pandas has a missing text
        return None
    if not isinstance(value, str) or value.strip().lower() not in known:
        raise place.fail(f"got {value!r}, wanted one of {', '.join(known)}, or nothing")
    return value.strip().lower()


def plain_output(item: Mapping[str, Any], options: ReadOptions) -> Output | None:
    """Build an output whose values need no second look, as nearly all do.

    None sends it the careful way, which takes more forms of a value and finds the words for a mistake.
    """
    model, quality = item.get("model"), item.get("quality")
    tokens, cost, own = item.get("output_tokens"), item.get("cost_usd"), item.get("input_tokens")
    if (own is not None and (type(own) is not int or not 0 <= own <= MOST_TOKENS)) or own is True:
        return None
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
        return Output(model, quality, tokens, cost, own)
    return None


def parse_id(value: Any, place: Place) -> str | None:
    """Return an id as text; whole numbers become their digits."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return place.text(value)
