"""Limits as data: capacities that several models share, side rows, prices on loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from eccos_rs.errors import ProblemError
from eccos_rs.solver import _numbers as numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Commitment", "Overage", "PooledCapacity", "ProblemFigures", "RowKind", "SideRow", "model_mask"]


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


class ProblemFigures(NamedTuple):
    """A problem's figures, checked and in the order of its queries and models.

    Attributes
    ----------
    cost, quality : (N, M) ndarray of float32 or float64
    load : (R, N, M) or (N, M) ndarray, or None
        None: every query is one request.
    """

    cost: NDArray[Any]
    quality: NDArray[Any]
    load: NDArray[Any] | None


@runtime_checkable
class RowKind(Protocol):
    """A kind of limit that comes to a side row once the problem is known; see `solver/kinds.py`."""

    def side_row(self, at: str, figures: ProblemFigures) -> SideRow:
        """Return the row.

        Parameters
        ----------
        at : str
            What messages call it, such as "rows[0]".
        figures : ProblemFigures

        Raises
        ------
        ProblemError
            It is malformed.
        """


@dataclass(frozen=True, slots=True)
class Overage:
    """Load that may be had beyond what is included, at a price for each unit.

    Parameters
    ----------
    models : (K,) sequence of int, or (M,) array_like of bool
        Indices of the models whose loads count together, or a mask.
    tiers : sequence of (float, float)
        From which load on a unit costs how many US dollars: `[(1000, 0.01), (5000, 0.03)]`. Loads and prices
        rise from tier to tier.
    resource : int
        The resource of `load`, counted from 0.
    name : str
        What messages call it; "overage[0]" and so on without one.

    Examples
    --------
    100 requests are included, each one more costs half a cent:

    >>> Overage([0], [(100, 0.005)])
    Overage(models=[0], tiers=[(100, 0.005)], resource=0, name='')
    """

    models: Sequence[int] | ArrayLike
    tiers: Sequence[tuple[float, float]]
    resource: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Commitment:
    """Load that is paid whether it is used or not (take or pay).

    Parameters
    ----------
    models : (K,) sequence of int, or (M,) array_like of bool
        Indices of the models whose loads count together, or a mask.
    load : float
        What was committed to.
    price : float
        US dollars for each unit that is not used of it. What is used costs what `cost` says.
    resource : int
        The resource of `load`, counted from 0.
    name : str
        What messages call it; "minimum[0]" and so on without one.

    Examples
    --------
    >>> Commitment([0, 1], 1_000_000, 2e-6, name="provisioned").price
    2e-06
    """

    models: Sequence[int] | ArrayLike
    load: float
    price: float
    resource: int = 0
    name: str = ""


class PricedArrays(NamedTuple):
    """One row of these: a load above or below a level at a price, and which charge it is part of."""

    models: NDArray[np.uint8]
    resource: int
    below: bool
    level: float
    price: float
    charge: int


def priced(overage: object, minimum: object, m: int, r: int) -> tuple[PricedArrays, ...]:
    """Make overages and commitments plain, tier by tier; refuse what is none."""
    found: list[PricedArrays] = []
    count = 0
    for name, given, kind in (("overage", overage, Overage), ("minimum", minimum, Commitment)):
        if given is None:
            continue
        if isinstance(given, kind) or not isinstance(given, list | tuple):
            raise ProblemError(f"{name} is a {type(given).__name__}, wanted a list of {kind.__name__}")
        for place, each in enumerate(given):
            at = f"{name}[{place}]"
            if not isinstance(each, kind):
                raise ProblemError(f"{at} is a {type(each).__name__}, wanted a {kind.__name__}")
            resource = _resource(f"{at}.resource", each.resource, r)
            _name(at, each.name)
            models = model_mask(f"{at}.models", each.models, m)
            if isinstance(each, Overage):
                steps = _tiers(at, each.tiers)
            else:
                steps = [(_amount(f"{at}.load", each.load), _amount(f"{at}.price", each.price))]
            below = isinstance(each, Commitment)
            found += [PricedArrays(models, resource, below, level, more, count) for level, more in steps]
            count += 1
    return tuple(found)


def _tiers(at: str, tiers: object) -> list[tuple[float, float]]:
    """Return where each tier begins, and by how much its price is above that of the one before."""
    if not isinstance(tiers, list | tuple) or not tiers:
        raise ProblemError(f"{at}.tiers is {tiers!r}, wanted a list of (load, price)")
    steps: list[tuple[float, float]] = []
    last = (-1.0, 0.0)
    for place, tier in enumerate(tiers):
        if not isinstance(tier, list | tuple) or len(tier) != 2:
            raise ProblemError(f"{at}.tiers[{place}] is {tier!r}, wanted (load, price)")
        level, price = (_amount(f"{at}.tiers[{place}]", part) for part in tier)
        if level <= last[0] or price < last[1]:
            raise ProblemError(f"{at}.tiers[{place}] is {tier!r}, wanted loads and prices that rise")
        steps.append((level, price - last[1]))
        last = (level, price)
    return steps


def _amount(name: str, value: Any) -> float:
    amount = _number(name, value)
    if not 0 <= amount < np.inf:
        raise ProblemError(f"{name} is {value!r}, wanted a finite number >= 0")
    return amount


def _resource(name: str, resource: Any, r: int) -> int:
    if isinstance(resource, bool) or not isinstance(resource, int | np.integer) or not 0 <= resource < r:
        raise ProblemError(f"{name} is {resource!r}, wanted a resource of load: 0 to {r - 1}")
    return int(resource)


Pools = tuple["PoolArrays", ...]


@dataclass(frozen=True, eq=False)
class PoolArrays:
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


def _pool(at: str, pool: object, m: int, r: int) -> PoolArrays:
    if not isinstance(pool, PooledCapacity):
        raise ProblemError(f"{at} is a {type(pool).__name__}, wanted a PooledCapacity")
    resource = _resource(f"{at}.resource", pool.resource, r)
    name = _name(at, pool.name)
    capacity = _number(f"{at}.capacity", pool.capacity)
    return PoolArrays(model_mask(f"{at}.models", pool.models, m), resource, capacity, name)


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


def model_mask(name: str, models: object, m: int) -> NDArray[np.uint8]:
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
class RowArrays:
    """A side row in the form that the core borrows."""

    values: NDArray[Any]
    members: NDArray[np.uint8] | None
    at_least: bool
    mean: bool
    limit: float
    name: str


def rows(given: object, figures: ProblemFigures) -> tuple[RowArrays, ...]:
    """Make the side rows plain; refuse what is none."""
    if given is None:
        return ()
    if isinstance(given, SideRow) or not isinstance(given, list | tuple):
        raise ProblemError(f"rows is a {type(given).__name__}, wanted a list of SideRow")
    found = []
    for place, row in enumerate(given):
        at = f"rows[{place}]"
        plain = row.side_row(at, figures) if isinstance(row, RowKind) else row
        found.append(_row(at, plain, figures.cost.shape))
    return tuple(found)


def _row(at: str, row: object, shape: tuple[int, ...]) -> RowArrays:
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
    return RowArrays(values, members, given[0] == "at_least", bool(row.mean), limit, name)
