"""Limits as data: capacities that several models share, and side rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.errors import ProblemError
from eccos_rs.solver import _numbers as numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["PooledCapacity", "SideRow"]


@dataclass(frozen=True, slots=True)
class PooledCapacity:
    """One capacity over the loads of several models together.

    What a provider grants an organisation, the slots of a GPU that serves several models, efforts of one
    model. A model may be in any number of them, beside its own `capacity`.

    Parameters
    ----------
    models : (K,) sequence of int, or (M,) array_like of bool
        Indices of the models that share it, or a mask.
    capacity : float
        Limit of the sum of their loads; >= 0, infinity for none.
    resource : int
        The resource of `load` that it limits, counted from 0.
    name : str
        What explanations call it; "pools[0]" and so on without one.

    Examples
    --------
    Models 0 and 1 of three share four slots:

    >>> PooledCapacity([0, 1], 4, name="gpu-0")
    PooledCapacity(models=[0, 1], capacity=4, resource=0, name='gpu-0')
    """

    models: Sequence[int] | ArrayLike
    capacity: float
    resource: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class SideRow:
    """A limit on the sum or the mean of figures of the caller, over all queries or some.

    The share of answers slower than a target, a second measure of quality, grams of CO2, the share of a
    tenant's traffic at one model. Exactly one of `at_most` and `at_least` is given.

    Parameters
    ----------
    values : (N, M) array_like
        The figure of query i at model j; finite, of either sign. Those of forbidden pairs and of queries that
        do not count may be anything.
    at_most, at_least : float, optional
        The limit, in the unit of `values`.
    mean : bool
        Limit the mean over the queries that count and have a model, instead of the sum.
    members : (N,) array_like of bool, optional
        The queries that count. Default: all.
    name : str
        What explanations call it; "rows[0]" and so on without one.

    Examples
    --------
    At most 5 % of the answers may be slow, where `slow` holds probabilities:

    >>> slow = [[0.01, 0.2], [0.02, 0.4]]
    >>> SideRow(slow, at_most=0.05, mean=True, name="slow answers").mean
    True
    """

    values: ArrayLike
    at_most: float | None = None
    at_least: float | None = None
    mean: bool = False
    members: ArrayLike | None = None
    name: str = ""


Pools = tuple["Pool", ...]


@dataclass(frozen=True, eq=False)
class Pool:
    """The same in the form that the core borrows."""

    models: NDArray[np.uint8]
    resource: int
    capacity: float
    name: str


def pools(given: object, m: int, r: int) -> Pools:
    """Make the pools plain; refuse what is none."""
    if given is None:
        return ()
    if isinstance(given, PooledCapacity) or not isinstance(given, list | tuple):
        raise ProblemError(f"pools is a {type(given).__name__}, wanted a list of PooledCapacity")
    return tuple(_pool(f"pools[{at}]", pool, m, r) for at, pool in enumerate(given))


def _pool(at: str, pool: object, m: int, r: int) -> Pool:
    if not isinstance(pool, PooledCapacity):
        raise ProblemError(f"{at} is a {type(pool).__name__}, wanted a PooledCapacity")
    resource = pool.resource
    if isinstance(resource, bool) or not isinstance(resource, int | np.integer) or not 0 <= resource < r:
        raise ProblemError(f"{at}.resource is {resource!r}, wanted a resource of load: 0 to {r - 1}")
    name = _name(at, pool.name)
    capacity = _number(f"{at}.capacity", pool.capacity)
    return Pool(_members(f"{at}.models", pool.models, m), int(resource), capacity, name)


def _name(at: str, name: object) -> str:
    """Return what a limit is called: its place in the list without a name."""
    if not isinstance(name, str):
        raise ProblemError(f"{at}.name is {name!r}, wanted a text")
    return name or at


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ProblemError(f"{name} is {value!r}, wanted a number") from None


def _members(name: str, models: object, m: int) -> NDArray[np.uint8]:
    """Make a mask of indices, or of a mask."""
    if not isinstance(models, np.ndarray):
        if not isinstance(models, list | tuple | range | set | frozenset):
            raise ProblemError(f"{name} is a {type(models).__name__}, wanted indices of models or a mask")
        models = _array(name, models)
    if not models.size or (models.dtype == np.bool_ and not models.any()):
        raise ProblemError(f"{name} is empty, wanted at least one model")
    if models.dtype == np.bool_:
        if models.shape != (m,):
            raise ProblemError(f"{name} is a mask of shape {models.shape}, wanted {(m,)} (one per model)")
        return np.ascontiguousarray(models).view(np.uint8)
    if models.ndim != 1 or models.dtype.kind not in "iu":
        raise ProblemError(f"{name} has dtype {models.dtype} and shape {models.shape}, wanted whole numbers")
    outside = models[(models < 0) | (models >= m)]
    if outside.size:
        raise ProblemError(f"{name} holds {outside[0]}, wanted models 0 to {m - 1}")
    mask = np.zeros(m, np.uint8)
    mask[models.astype(np.intp)] = 1
    return mask


def _array(name: str, values: Iterable[object]) -> NDArray[Any]:
    try:
        return np.array(list(values))
    except (TypeError, ValueError) as error:
        raise ProblemError(f"{name} is no array: {error}; wanted indices of models or a mask") from error


@dataclass(frozen=True, eq=False)
class Row:
    """A side row in the form that the core borrows."""

    values: NDArray[Any]
    members: NDArray[np.uint8] | None
    at_least: bool
    mean: bool
    limit: float
    name: str


def rows(given: object, shape: tuple[int, int]) -> tuple[Row, ...]:
    """Make the side rows plain; refuse what is none."""
    if given is None:
        return ()
    if isinstance(given, SideRow) or not isinstance(given, list | tuple):
        raise ProblemError(f"rows is a {type(given).__name__}, wanted a list of SideRow")
    return tuple(_row(f"rows[{at}]", row, shape) for at, row in enumerate(given))


def _row(at: str, row: object, shape: tuple[int, int]) -> Row:
    if not isinstance(row, SideRow):
        raise ProblemError(f"{at} is a {type(row).__name__}, wanted a SideRow")
    given = [name for name in ("at_most", "at_least") if getattr(row, name) is not None]
    if len(given) != 1:
        got = " and ".join(given) or "none"
        raise ProblemError(f"{at} has {got}, wanted exactly one of at_most and at_least")
    name = _name(at, row.name)
    if not isinstance(row.mean, bool | np.bool_):
        raise ProblemError(f"{at}.mean is {row.mean!r}, wanted true or false")
    limit = _number(f"{at}.{given[0]}", getattr(row, given[0]))
    values = numbers.real(f"{at}.values", row.values)
    numbers.shaped(f"{at}.values", values, shape, "queries x models, as cost")
    members = None
    if row.members is not None:
        members = numbers.flags(f"{at}.members", row.members, shape[:1], "one per query")
    return Row(values, members, given[0] == "at_least", bool(row.mean), limit, name)
