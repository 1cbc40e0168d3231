"""From what a caller has at hand to queries, and from queries to a prediction, in slices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from eccos_rs.domain.query import Query
from eccos_rs.domain.rows import rows_in
from eccos_rs.errors import InputError, QueryError
from eccos_rs.predict.protocol import Prediction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eccos_rs.predict.protocol import Predictor

__all__ = ["Item", "as_queries", "predict_slices"]

Item = str | Query | Mapping[str, Any] | list[Mapping[str, Any]]
"""What a batch holds: texts, chats, mappings or `Query`."""

SLICE = 1024
"""Queries predicted at a time: what a slice needs is freed before the next, so memory stays bounded."""


def as_queries(batch: Iterable[Item]) -> list[Query]:
    """Read a batch; an error names the position of its query."""
    if isinstance(batch, str | bytes | Query | Mapping):
        raise QueryError(
            f"a batch is a list of queries, got a single {type(batch).__name__}; put it in a list"
        )
    try:
        items = iter(rows_in(batch))
    except TypeError:
        raise QueryError(f"a batch is a list of queries, got {type(batch).__name__}") from None
    queries = []
    for at, item in enumerate(items):
        try:
            queries.append(Query(item) if type(item) is str else Query.of(item))
        except QueryError as error:
            raise QueryError(f"query {at}: {error}") from error
    return queries


def predict_slices(
    models: Sequence[str],
    predictor: Predictor,
    queries: Sequence[Query],
    progress: Callable[[int], object] | None,
    *,
    keep_embedding: bool,
) -> Prediction:
    """Predict in slices, for these models in this order."""
    parts = []
    for start in range(0, max(1, len(queries)), SLICE):
        some = queries[start : start + SLICE]
        part = predictor.predict(some)
        if len(part) != len(some):
            raise InputError(f"the predictor gave {len(part)} rows for {len(some)} queries")
        part = part.select(models)
        parts.append(part if keep_embedding else part.without_embedding())
        if progress is not None and some:
            progress(len(some))
    return parts[0] if len(parts) == 1 else Prediction.concatenate(parts)
