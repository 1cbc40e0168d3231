"""What a router knows of its models, and how it learns more: labels, feedback, a bundle to keep it in."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from eccos_rs.domain.query import Query
from eccos_rs.errors import InputError
from eccos_rs.predict.prior.learned import LearnedPredictor, ModelOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from os import PathLike

    from eccos_rs.pools.pool import Pool
    from eccos_rs.predict.bundle import Bundle
    from eccos_rs.predict.prior.known import ModelPrior
    from eccos_rs.predict.protocol import Predictor
    from eccos_rs.records import Record, RecordTable
    from eccos_rs.routing.policy import Policy

__all__ = ["Knowing", "Knowledge", "KnowledgeRow", "pool_knowledge"]

REMEMBERED = 10_000
"""Queries with an id that feedback may speak of by it, the newest."""
TRAINED_STD, TELLING_LABELS = 0.1, 500
"""Standard deviation of the level of a model that was trained on; labels that tell a model from another query
by query."""
_FLIP = 0.2
"""Typical p (1 - p): an error of a level in log odds is one of so much in quality."""


@dataclass(frozen=True, slots=True)
class KnowledgeRow:
    """What the forecasts of one model rest on.

    Parameters
    ----------
    model : str
    basis : str
        ``"labels"`` (a predictor trained on them), ``"category scores"``, ``"overall score"``,
        ``"other benchmarks"``, ``"arena"`` or ``"nothing"``.
    level_std : float
        Standard deviation of its level, log odds: all its forecasts may be off together by so much.
    points : float
        The same in points of quality, about: one standard deviation.
    labels : int
        Graded outcomes learned since.
    tells_apart : bool
        Whether it is told from the others query by query, or only ordered among them.
    tokens : str
        What its lengths rest on: ``"labels"``, ``"counts"`` or ``"other models"``.
    traffic : str
        What it is known for.
    note : str
        What differs between the model asked for and the one that is known, which of its scores contradict
        each other or are not used; empty when there is nothing.
    """

    model: str
    basis: str
    level_std: float
    points: float
    labels: int
    tells_apart: bool
    tokens: str
    traffic: str
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


class Knowledge(tuple[KnowledgeRow, ...]):
    """One `KnowledgeRow` a model of the pool, printed as a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        rows = self.cells()
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
        ]
        return "\n".join(line.rstrip() for line in lines)

    def cells(self) -> list[tuple[str, ...]]:
        """Return column headers, then a row of texts per model."""
        head = ("model", "rests on", "level +-", "labels", "told apart", "lengths from", "good for")
        return [head, *map(_cells, self)]


def _cells(row: KnowledgeRow) -> tuple[str, ...]:
    basis = f"{row.basis} ({row.note})" if row.note else row.basis
    apart = "yes" if row.tells_apart else "ordered only"
    return row.model, basis, f"{row.points:.1f} points", str(row.labels), apart, row.tokens, row.traffic


def pool_knowledge(
    names: Sequence[str], priors: Sequence[ModelPrior], learned: LearnedPredictor | None = None
) -> Knowledge:
    """Return what forecasts of models rest on: their priors, else the labels they were trained on."""
    make_prior = {prior.name: prior for prior in priors}
    counts, answers = ({}, {}) if learned is None else (learned.labels, learned.counts)
    rows = []
    for name in names:
        prior, labels, counted = make_prior.get(name), counts.get(name, 0), answers.get(name, 0)
        std = TRAINED_STD if prior is None else prior.level_std
        std = std if learned is None else learned.level_std_for(name)
        rows.append(
            KnowledgeRow(
                name,
                "labels" if prior is None else prior.basis,
                round(std, 3),
                round(100 * _FLIP * std, 1),
                labels,
                prior is None or prior.basis == "category scores" or labels >= TELLING_LABELS,
                "labels" if prior is None else "counts" if prior.tokens_told or counted else "other models",
                "queries like those it was trained on" if prior is None else _traffic(prior.basis),
                "" if prior is None else prior.note,
            )
        )
    return Knowledge(rows)


class Knowing:
    """The part of a `Router` that knows and learns."""

    pool: Pool
    predictor: Predictor
    policy: Policy
    #: Whether nobody named the models.
    usual: bool = False

    def knowledge(self) -> Knowledge:
        """Return what the forecasts of each model rest on.

        Returns
        -------
        Knowledge
            A tuple of `KnowledgeRow`, in the order of the pool; printed it is a table.

        Examples
        --------
        >>> from eccos_rs import Router
        >>> row = Router.load().knowledge()[0]
        >>> row.basis, row.tells_apart
        ('labels', True)
        """
        predictor = self.predictor
        learned = predictor if isinstance(predictor, LearnedPredictor) else None
        priors = getattr(predictor if learned is None else learned.base, "priors", ())
        return pool_knowledge(self.pool.names, priors, learned)

    @property
    def basis(self) -> str | None:
        """What the forecasts rest on, in one line; None where a predictor was trained on these models."""
        predictor = self.predictor
        base = predictor.base if isinstance(predictor, LearnedPredictor) else predictor
        priors = getattr(base, "priors", None)
        if not priors:
            return None
        labels = sum(predictor.labels.values()) if isinstance(predictor, LearnedPredictor) else 0
        also = f"and {labels:,} outcomes learned" if labels else "no label"
        pool = f"; no pool was given: {len(priors)} widely used models" if self.usual else ""
        return f"published scores of the models, {also} (router.knowledge() shows them){pool}"

    def learn(self, records: Iterable[Record] | RecordTable) -> Self:
        """Sharpen the forecasts by labelled queries; nothing is trained anew, and no torch is needed.

        Parameters
        ----------
        records : iterable of Record, or RecordTable
            Queries with graded answers of models of the pool; label the same queries with all models. An
            answer without tokens is learned from in quality only. A model may be spelt otherwise than in the
            pool; answers at an effort or in a lane (``o3@low``) update that column alone.

        Returns
        -------
        Router
            This one; batches that are being routed meanwhile keep the old forecasts.

        Raises
        ------
        InputError
            No answer is of a model of the pool, or a quality lies outside of 0 to 1.
        """
        from eccos_rs.records import RecordTable

        listed = records.records() if isinstance(records, RecordTable) else records
        meant: dict[str, str] = {}
        pairs = [
            (
                Query(record.query),
                ModelOutcome(
                    meant.get(each.model) or meant.setdefault(each.model, self._column(each.model)),
                    float(each.quality),
                    _count(each.output_tokens),
                    input_tokens=_count(record.prompt_tokens(each) or None),
                ),
            )
            for record in listed
            for each in record.outputs
        ]
        self._learn_outcomes([query for query, _ in pairs], [outcome for _, outcome in pairs], "records")
        return self

    def feedback(
        self,
        query: str | Query,
        model: str,
        good: bool | float,
        *,
        channel: str = "feedback",
        output_tokens: float | None = None,
    ) -> Self:
        """Take up what somebody says of an answer, of whatever honesty.

        Parameters
        ----------
        query : str or Query
            The id of a query that this router has routed, or the query itself.
        model : str
            Who answered.
        good : bool or float
            In [0, 1].
        channel : str
            Where it comes from (``"thumbs"``, ``"retries"``): those of one channel share how unevenly
            good and bad answers are reported. What a channel says of differences between models is kept.
        output_tokens : float, optional
            Length of the answer.

        Returns
        -------
        Router
            This one. It is taken up by a later batch, when 2 % of what is known is new.

        Raises
        ------
        InputError
            The id is not of a routed query, the model is not in the pool, or `good` leaves 0 to 1.
        """
        asked = query if isinstance(query, Query) else self._remembered().get(query)
        if asked is None:
            raise InputError(
                f"query: {query!r} is not the id of a query that this router has routed (the newest "
                f"{REMEMBERED:,} are remembered); give the Query itself"
            )
        if not isinstance(channel, str) or not channel:
            raise InputError(f"channel: got {channel!r}, wanted a name such as 'thumbs'")
        tokens = float("nan") if output_tokens is None else float(output_tokens)
        self._learn_outcomes([asked], [ModelOutcome(model, float(good), tokens, channel)], "model", now=False)
        return self

    def save(self, path: str | PathLike[str]) -> Bundle:
        """Write the router as a bundle: what it was made of, its pool, and all that it has learned.

        Parameters
        ----------
        path : path-like
            A folder; an older bundle there is replaced as a whole.

        Returns
        -------
        Bundle
            `Router.load` takes it.

        Raises
        ------
        InputError
            The predictor was not made of a bundle.
        """
        from eccos_rs.predict.prior.saving import save_learned

        return save_learned(path, self.predictor, self.pool)

    def _column(self, name: str) -> str:
        """Return what the pool calls a model of records; the name itself where it holds no such column."""
        from eccos_rs.pools.columns import find_column

        at = find_column(name, self.pool, strict=True)
        return name if at < 0 else self.pool.names[at]

    def _learn_outcomes(
        self, queries: Sequence[Query], outcomes: Sequence[ModelOutcome], what: str, *, now: bool = True
    ) -> None:
        known = [at for at, outcome in enumerate(outcomes) if outcome.model in self.pool.names]
        if not known:
            got = ", ".join(sorted({repr(outcome.model) for outcome in outcomes})) or "no answer"
            raise InputError(f"{what}: got {got}; the models of the pool are {', '.join(self.pool.names)}")
        predictor = self.predictor
        learned = predictor if isinstance(predictor, LearnedPredictor) else LearnedPredictor(predictor)
        learned.learn([queries[at] for at in known], [outcomes[at] for at in known], now=now)
        self.predictor = learned

    def _remember(self, queries: Iterable[Query]) -> None:
        """Keep queries that have an id."""
        named = [query for query in queries if query.id is not None]
        if not named:
            return
        kept = self._remembered()
        with _remembering:
            for query in named:
                kept[str(query.id)] = query
            while len(kept) > REMEMBERED:
                kept.popitem(last=False)

    def _remembered(self) -> OrderedDict[str, Query]:
        kept: OrderedDict[str, Query] = self.__dict__.setdefault("_queries_by_id", OrderedDict())
        return kept


_remembering = threading.Lock()


def _count(tokens: Any) -> float:
    return float("nan") if tokens is None else float(tokens)


def _traffic(basis: str) -> str:
    return {
        "category scores": "exam questions, mathematics, code",
        "nothing": "nothing yet: 30 labels would tell",
    }.get(basis, "its rank among the others")
