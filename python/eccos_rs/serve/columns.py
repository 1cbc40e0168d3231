"""Which columns of the pool a request may go to: a model at any effort, or as its client asks; lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eccos_rs.dialects.chat import asked_effort
from eccos_rs.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eccos_rs.pools.pool import LLM, Pool

__all__ = ["billed_as", "check_live", "expand", "live_columns", "model_names", "narrow"]

_LANES = {"default": "standard", "standard": "standard", "flex": "flex", "priority": "priority",
          "fast": "priority"}  # fmt: skip
"""The lane that a tier stands for; "auto" and the like leave it to the account."""


def live_columns(pool: Sequence[LLM]) -> tuple[str, ...]:
    """Return the columns that answer at once: a batch lane answers within hours."""
    return tuple(model.name for model in pool if model.lane != "batch")


def check_live(pool: Sequence[LLM]) -> None:
    """Raise `PoolError` where no column of the pool answers at once."""
    if not live_columns(pool):
        raise PoolError(
            "every model of the pool is a batch lane, which answers within hours; a gateway needs one that "
            "answers at once"
        )


def model_names(pool: Sequence[LLM]) -> tuple[str, ...]:
    """Return what a client may ask for: every live column, and every model that is there in several."""
    live = live_columns(pool)
    several = (model.identity for model in pool if model.name in live)
    return tuple(dict.fromkeys((*live, *several)))


def expand(pool: Pool, names: Iterable[str]) -> tuple[str, ...]:
    """Return the live columns that names stand for. PoolError: a name stands for none."""
    live, found = live_columns(pool), []
    for name in names:
        columns = [pool[at].name for at in pool.columns(name)]
        kept = [column for column in columns if column in live]
        if not kept:
            raise PoolError(f"{name!r} is a batch lane, which answers within hours: it takes no live request")
        found += kept
    return tuple(dict.fromkeys(found))


def narrow(pool: Pool, names: tuple[str, ...] | None, values: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the columns that may answer a request as its client wants it; None for every one.

    The effort and the tier that a client asks for pin the columns of a model that is there at several; where
    that leaves none at all they are sent as they are.

    Parameters
    ----------
    pool : Pool
    names : tuple of str or None
        The columns that may be chosen.
    values : mapping
        The request as a chat completion request.
    """
    live = live_columns(pool)
    kept = live if names is None else names
    effort, tier = asked_effort(values), values.get("service_tier")
    lane = _LANES.get(tier) if isinstance(tier, str) else None
    if effort is not None:
        kept = _matching(pool, kept, effort, lambda model: model.effort)
    if lane is not None:
        kept = _matching(pool, kept, lane, lambda model: model.lane or "standard")
    return None if names is None and kept == pool.names else kept


def _matching(pool: Pool, names: tuple[str, ...], wanted: str, read: Any) -> tuple[str, ...]:
    """Leave out what differs in what is wanted, of those models that are there in several ways."""
    ways: dict[str, set[Any]] = {}
    for name in names:
        ways.setdefault(pool[name].identity, set()).add(read(pool[name]))
    kept = tuple(name for name in names if len(ways[pool[name].identity]) == 1 or read(pool[name]) == wanted)
    return kept or names


def billed_as(pool: Sequence[LLM], model: LLM, tier: str | None) -> LLM:
    """Return the column whose prices an answer is billed at: that of the tier that was really used."""
    lane = _LANES.get(tier or "")
    if lane is None or lane == (model.lane or "standard"):
        return model
    for other in pool:
        if (other.identity, other.effort, other.lane or "standard") == (model.identity, model.effort, lane):
            return other
    return model
