"""What a data set holds, gathered while its records stream by."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import RecordError
from eccos_rs.records.check import Place
from eccos_rs.records.grouping import normalise
from eccos_rs.records.seen import SeenIds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import RenderableType

    from eccos_rs.records.record import Record

__all__ = ["DatasetSummary", "ModelSummary", "Report", "Summary"]

# Fewer values than this may all be low by chance.
ENOUGH_FOR_A_SCALE = 20


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """One model over a data set: means over the queries that it answered.

    `coverage` is the share of all queries, `cost_usd` US dollars per query, `total_usd` their sum,
    `output_tokens` tokens.
    """

    model: str
    queries: int
    coverage: float
    quality: float
    output_tokens: float
    cost_usd: float
    total_usd: float


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """One dataset: how many queries, the mean over all its outputs, the oracle, and its best model."""

    dataset: str
    queries: int
    quality: float
    oracle: float
    best_model: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a data set holds.

    Attributes
    ----------
    queries, outputs : int
        Records, and (query, model) pairs.
    repeated : int
        Queries whose text, normalised, stood there before.
    coverage : float
        Share of the (query, model) pairs that were observed.
    input_tokens : float
        Mean tokens per query.
    oracle_quality, oracle_cost_usd : float
        Mean over the queries of the best output, and the mean cost of the cheapest such output, US dollars.
    best_single : str
        The model with the highest mean quality; between equals the cheaper.
    models : tuple of ModelSummary
        In the order of first appearance.
    datasets : tuple of DatasetSummary
        By name.
    notes : tuple of str
        What a reader should know before training on it.
    """

    queries: int
    outputs: int
    repeated: int
    coverage: float
    input_tokens: float
    oracle_quality: float
    oracle_cost_usd: float
    best_single: str
    models: tuple[ModelSummary, ...]
    datasets: tuple[DatasetSummary, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        return asdict(self)

    def render(self) -> RenderableType:
        """Return tables for a `rich` console."""
        from rich.console import Group
        from rich.text import Text

        from eccos_rs.domain.tables import light_table

        models = light_table(f"{self.queries:,} queries, {len(self.models)} models")
        models.add_column("model", overflow="fold")
        for head in ("queries", "coverage", "quality", "tokens out", "US$ per 1k"):
            models.add_column(head, justify="right")
        for m in self.models:
            models.add_row(
                f"{m.model} *" if m.model == self.best_single else m.model,
                f"{m.queries:,}",
                f"{m.coverage:.1%}",
                f"{m.quality:.4f}",
                f"{m.output_tokens:,.0f}",
                f"{m.cost_usd * 1e3:,.4f}",
            )
        models.add_section()
        cost = f"{self.oracle_cost_usd * 1e3:,.4f}"
        models.caption = "* best single model"
        models.add_row("oracle", f"{self.queries:,}", "", f"{self.oracle_quality:.4f}", "", cost)
        sets = light_table("datasets")
        sets.add_column("dataset", overflow="fold")
        for head in ("queries", "mean quality", "oracle"):
            sets.add_column(head, justify="right")
        sets.add_column("best model")
        for d in self.datasets:
            sets.add_row(d.dataset, f"{d.queries:,}", f"{d.quality:.4f}", f"{d.oracle:.4f}", d.best_model)
        return Group(models, sets, *(Text(f"note: {note}") for note in self.notes))


@dataclass(slots=True)
class _Sums:
    count: int = 0
    quality: float = 0.0
    tokens: float = 0.0
    cost: float = 0.0
    top: float = 0.0
    first: int = 0

    @property
    def mean(self) -> float:
        return self.quality / self.count if self.count else 0.0


@dataclass(slots=True)
class _Dataset:
    queries: int = 0
    oracle: float = 0.0
    models: dict[str, _Sums] = field(default_factory=dict)


class Summary:
    """Gathers a `Report` from records that stream by.

    Parameters
    ----------
    quality_scale : float, default 1.0
        The scale that the qualities had in the file; above 1, a dataset that never leaves [0, 1] of it is
        reported.

    Examples
    --------
    >>> from eccos_rs.records import Output, Record
    >>> summary = Summary()
    >>> list(summary.watch([Record("2 + 2?", "sums", 5, (Output("small", 1.0, 3, 0.001),))])) and None
    >>> summary.report().oracle_quality
    1.0
    """

    def __init__(self, *, quality_scale: float = 1.0) -> None:
        self._scale = quality_scale
        self._datasets: dict[str, _Dataset] = {}
        self._texts = SeenIds()
        self._repeated = 0
        self._queries = self._outputs = self._input_tokens = 0
        self._oracle = self._oracle_cost = 0.0
        self._order: dict[str, None] = {}

    def watch(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records as they come, taking note of each."""
        for record in records:
            self.add(record)
            yield record

    def add(self, record: Record) -> None:
        """Take note of one record."""
        self._queries += 1
        self._outputs += len(record.outputs)
        self._input_tokens += record.input_tokens
        text = normalise(record.query)
        if self._texts.find_row(text) is None:
            self._texts.add(text, Place("", self._queries))
        else:
            self._repeated += 1
        best = min(record.outputs, key=lambda output: (-output.quality, output.cost_usd))
        self._oracle += best.quality
        self._oracle_cost += best.cost_usd
        entry = self._datasets.setdefault(record.dataset, _Dataset())
        entry.queries += 1
        entry.oracle += best.quality
        for output in record.outputs:
            self._order.setdefault(output.model)
            sums = entry.models.setdefault(output.model, _Sums(first=self._queries))
            sums.count += 1
            sums.quality += output.quality
            sums.tokens += output.output_tokens
            sums.cost += output.cost_usd
            sums.top = max(sums.top, output.quality * self._scale)

    def check_scales(self) -> None:
        """Refuse a set in which some qualities look as if they were on [0, 1] and others on the stated scale.

        Raises
        ------
        RecordError
            With the dataset, the model and the record where the odd ones begin.
        """
        if self._scale <= 1.0 or all(
            s.top <= 1.0 for d in self._datasets.values() for s in d.models.values()
        ):
            return
        for name, entry in self._datasets.items():
            for model, sums in entry.models.items():
                if sums.count >= ENOUGH_FOR_A_SCALE and 0.0 < sums.top <= 1.0:
                    raise RecordError(
                        f"record {sums.first}, column 'quality': mixed scales: with quality_scale="
                        f"{self._scale:g} the {sums.count} qualities of model {model!r} on dataset "
                        f"{name!r} never pass 1, others do"
                    )

    def report(self) -> Report:
        """Return what was seen.

        Raises
        ------
        RecordError
            Nothing was seen.
        """
        if not self._queries:
            raise RecordError("the data set holds no record")
        models = tuple(self._model(name) for name in self._order)
        best = max(models, key=lambda m: (m.quality, -m.cost_usd))
        return Report(
            queries=self._queries,
            outputs=self._outputs,
            repeated=self._repeated,
            coverage=self._outputs / (self._queries * len(models)),
            input_tokens=self._input_tokens / self._queries,
            oracle_quality=self._oracle / self._queries,
            oracle_cost_usd=self._oracle_cost / self._queries,
            best_single=best.model,
            models=models,
            datasets=tuple(self._dataset(name) for name in sorted(self._datasets)),
            notes=tuple(self._notes(models)),
        )

    def _model(self, name: str) -> ModelSummary:
        parts = [entry.models[name] for entry in self._datasets.values() if name in entry.models]
        count = sum(part.count for part in parts)
        cost = sum(part.cost for part in parts)
        return ModelSummary(
            model=name,
            queries=count,
            coverage=count / self._queries,
            quality=sum(part.quality for part in parts) / count,
            output_tokens=sum(part.tokens for part in parts) / count,
            cost_usd=cost / count,
            total_usd=cost,
        )

    def _dataset(self, name: str) -> DatasetSummary:
        entry = self._datasets[name]
        parts = entry.models.values()
        return DatasetSummary(
            dataset=name,
            queries=entry.queries,
            quality=sum(part.quality for part in parts) / sum(part.count for part in parts),
            oracle=entry.oracle / entry.queries,
            best_model=max(entry.models, key=lambda model: entry.models[model].mean),
        )

    def _notes(self, models: tuple[ModelSummary, ...]) -> Iterator[str]:
        if self._repeated:
            yield f"{self._repeated:,} queries repeat an earlier text; split_by_text keeps such together"
        if len(models) == 1:
            yield "there is one model alone, so there is nothing to route between"
        for m in models:
            if m.quality in (0.0, 1.0):
                yield f"{m.model} is always {'right' if m.quality else 'wrong'}: nothing to learn there"
            if m.coverage < 1:
                yield f"{m.model} was asked {m.queries:,} of {self._queries:,} queries"
            if m.total_usd == 0:
                yield f"{m.model} costs nothing"
