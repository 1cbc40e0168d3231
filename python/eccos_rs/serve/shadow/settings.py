"""What a shadow run is told, and where it puts each request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from eccos_rs.domain.validation import check_number
from eccos_rs.errors import InputError
from eccos_rs.serve.shadow.trial import Trial
from eccos_rs.serve.wire import RequestError

if TYPE_CHECKING:
    from os import PathLike

    from eccos_rs.pools.pool import Pool
    from eccos_rs.serve.request import RoutingRequest

__all__ = ["AS_IS", "ShadowSettings", "in_share", "place"]

AS_IS = "as-is"
"""The model that the client names, in place of one for all."""
_PASSED_THROUGH = ("completions", "embeddings")


@dataclass(frozen=True)
class ShadowSettings:
    """How routing runs beside what is done today.

    Parameters
    ----------
    model : str
        Where requests go: a model of the pool, or ``"as-is"`` for the one that each client names.
    log : path
        JSON lines of what was decided and judged; an earlier run's is gone on with.
    share : float
        Of the conversations that are routed for real, 0 to 1.
    judge : str or None
        Who grades answers: a model of the pool, one of the catalogue, or a pool file that holds it alone.
    judge_share : float
        Of the requests whose answers are graded.
    judge_budget : float
        US dollars that grading may take, over all runs into the same log.
    """

    model: str
    log: str | PathLike[str] = "shadow.jsonl"
    share: float = 0.0
    judge: str | None = None
    judge_share: float = 0.02
    judge_budget: float = 0.0

    def __post_init__(self) -> None:
        for name in ("share", "judge_share"):
            check_number(name, getattr(self, name), error=InputError, most=1.0)
        check_number("judge_budget", self.judge_budget, error=InputError)
        if self.judge is not None and self.judge_budget == 0:
            raise InputError("judge_budget must be greater than 0 US dollars where there is a judge, got 0")

    def check(self, pool: Pool) -> None:
        """Raise `PoolError` where the model is not in the pool."""
        if self.model != AS_IS:
            pool.index(self.model)


def in_share(unit: str, share: float, what: str) -> bool:
    """Say whether a unit is in a share, always the same ones: a larger share holds the smaller one.

    Examples
    --------
    >>> in_share("a", 1.0, "share"), in_share("a", 0.0, "share")
    (True, False)
    """
    digest = hashlib.blake2b(f"{what}:{unit}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def place(
    wanted: RoutingRequest, settings: ShadowSettings, allowed: tuple[str, ...] | None = None
) -> RoutingRequest:
    """Send a request where it would have gone, or route it where it is of the share.

    `allowed` are the models of the client's key, where it has a list. What is passed through, goes on from a
    response, or may not go there (a key's models, a header) is no part of the trial and stays as it is.

    Raises
    ------
    RequestError
        400: the clients' own models are kept, and this one names none.
    """
    query = wanted.query
    if wanted.dialect in _PASSED_THROUGH or wanted.previous is not None:
        return wanted
    if wanted.named:
        assert query.models is not None  # it names one
        as_is = query.models[0]  # of a model that is there at several efforts, the first in the pool
        # Its own model is no limit on where it would be routed.
        free = replace(query, models=allowed)
    elif settings.model == AS_IS:
        raise RequestError(
            400, "invalid_model", "the gateway shadows what clients ask for: name a model of the pool",
            param="model",
        )  # fmt: skip
    else:
        as_is, free = settings.model, query
        if query.models is not None and as_is not in query.models:
            return wanted
    user = (wanted.body if wanted.chat is None else wanted.chat).values.get("user")
    seen = f"user {user}" if isinstance(user, str) and user else f"conversation {wanted.conversation}"
    unit = hashlib.blake2b(seen.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    routed = in_share(unit, settings.share, "share")
    trial = Trial(unit, as_is, routed, free, _is_judged(wanted, settings))
    if routed:
        return replace(wanted, query=free, named=False, trial=trial)
    return replace(wanted, query=replace(query, models=(as_is,)), named=True, trial=trial)


def _is_judged(wanted: RoutingRequest, settings: ShadowSettings) -> bool:
    if settings.judge is None:
        return False
    # By the request's own bytes: the turns of a conversation are different ones.
    text = hashlib.blake2b(wanted.body.edited({}), digest_size=12).hexdigest()
    return in_share(text, settings.judge_share, "judge")
