"""Which query of a batch made it fail: that one is named, and nobody has to guess."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from eccos_rs.errors import EccosError, QueryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from eccos_rs.domain.query import Query

__all__ = ["blame_rows", "find_culprit"]


@contextmanager
def blame_rows(queries: Sequence[Query], attempt: Callable[[Sequence[Query]], object]) -> Iterator[None]:
    """Name the row that makes a batch fail, where the failure does not name it itself.

    Parameters
    ----------
    queries : sequence of Query
        The batch.
    attempt : callable
        Does the same with other queries; it is called on halves of the batch until one query is left.

    Raises
    ------
    QueryError
        In place of any exception that is none of the package's own and that one query alone brings about.
    """
    try:
        yield
    except EccosError:
        raise
    except Exception as error:
        row = find_culprit(queries, attempt)
        if row is None:
            raise
        name = "" if queries[row].id is None else f" (id {queries[row].id!r})"
        raise QueryError(f"query {row}{name} cannot be routed: {type(error).__name__}: {error}") from error


def find_culprit(queries: Sequence[Query], attempt: Callable[[Sequence[Query]], object]) -> int | None:
    """Return the row of the first query with which `attempt` fails; None where no query alone makes it."""
    start, end = 0, len(queries)
    while end - start > 1:
        middle = (start + end) // 2
        if _fails(queries[start:middle], attempt):
            end = middle
        elif _fails(queries[middle:end], attempt):
            start = middle
        else:
            return None
    return start if end > start and _fails(queries[start:end], attempt) else None


def _fails(queries: Sequence[Query], attempt: Callable[[Sequence[Query]], object]) -> bool:
    try:
        attempt(queries)
    except EccosError:
        return False
    except Exception:
        return True
    return False
