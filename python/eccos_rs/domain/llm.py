"""A model that may answer: prices, abilities, limits, endpoint; and a limit that several share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral
from types import MappingProxyType
from typing import Any

from eccos_rs.domain.endpoint import Endpoint
from eccos_rs.domain.validation import check_number, is_number, shown
from eccos_rs.errors import PoolError

__all__ = [
    "LANES",
    "LLM",
    "Endpoint",
    "Limit",
    "Minimum",
    "OverageTier",
    "PriceStep",
    "benchmark_key",
    "checked_scores",
]

LANES = ("standard", "batch", "flex", "priority")
"""Ways in which a provider sells the same model: now, within hours at about half the price, when there is
room, first."""
_PERCENT = 100
_BATCH_HOURS = 24.0
"""What a batch lane takes where nobody says so."""


@dataclass(frozen=True, slots=True)
class PriceStep:
    """Prices of requests whose prompt is longer than a step; they hold for the whole request.

    Parameters
    ----------
    above : int
        Tokens of the prompt beyond which these prices hold.
    input_price, output_price : float
        US dollars per million tokens.
    cached_input_price, cache_write_price : float, optional
        As those of `LLM`.
    """

    above: int
    input_price: float
    output_price: float
    cached_input_price: float | None = None
    cache_write_price: float | None = None

    def __post_init__(self) -> None:
        _check_whole("above", self.above, of=" of a price step", positive=True)
        for name in ("input_price", "output_price", "cached_input_price", "cache_write_price"):
            _check_number(name, getattr(self, name), of=f" above {self.above} tokens")


@dataclass(frozen=True, slots=True)
class LLM:
    """A model of the pool, or one way of asking it: at an effort, in a lane.

    Parameters
    ----------
    name : str
        What the predictor knows it by. Unique within the pool; of several entries of one model at different
        efforts or in different lanes the pool makes ``model@effort@lane``.
    input_price, output_price : float
        US dollars per million tokens. 0 is a price (a model of one's own); a missing price is refused.
    cached_input_price : float, optional
        US dollars per million input tokens that the provider had in its prompt cache.
    context_window : int, optional
        Tokens of prompt and output together; None means no limit is known.
    vision, tools : bool
        Abilities.
    slots : int, optional
        Requests that may run at once.
    requests_per_minute, tokens_per_minute : float, optional
        The provider's rate limits.
    endpoint : Endpoint, optional
        Where it is served; routing alone needs none.
    price_source, price_date : str, optional
        Where and when the price was read.
    effort : str, optional
        The reasoning effort that is asked of it, where the same model is in the pool at several.
    lane : str, optional
        One of `LANES`, where the same model is in the pool in several; None is ``"standard"``.
    lane_hours : float, optional
        Hours within which the lane answers; None means at once.
    model : str, optional
        Which model it is, where `name` also tells the effort or the lane; None is `name`.
    provider : str, optional
        Who serves it: a provider of the catalogue.
    cache_write_price : float, optional
        US dollars per million input tokens that are written into the prompt cache; None: as other input.
    cache_minimum : int, optional
        Tokens of the shortest prefix that the provider caches.
    cache_lifetime : float, optional
        Seconds for which a cached prefix is held after its last use.
    price_steps : sequence of PriceStep
        Prices of long prompts, in rising order.
    scores : mapping of str to float, optional
        What it scores by benchmark or benchmark and category (``"mmlu_pro"``, ``"mmlu_pro/law"``), shares
        from 0 to 1: what a router without a label knows it by, before the published scores that ship.
    scores_source : str, optional
        Who measured them; ``"vendor"`` makes them less sure than a harness of one's own.
    mean_tokens : float, optional
        Output tokens of its answers on average, hidden reasoning included.

    Raises
    ------
    PoolError
        A field is missing or malformed; the sentence names the model and the field.
    """

    name: str
    input_price: float
    output_price: float
    cached_input_price: float | None = None
    context_window: int | None = None
    vision: bool = False
    tools: bool = False
    slots: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    endpoint: Endpoint | None = None
    price_source: str | None = None
    price_date: str | None = None
    effort: str | None = None
    lane: str | None = None
    lane_hours: float | None = None
    model: str | None = None
    provider: str | None = None
    cache_write_price: float | None = None
    cache_minimum: int | None = None
    cache_lifetime: float | None = None
    price_steps: Sequence[PriceStep] = ()
    scores: Mapping[str, float] | None = field(default=None, hash=False)
    scores_source: str | None = None
    mean_tokens: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise PoolError(f"a model needs a name (a non-empty str), got {shown(self.name)}")
        of = f" of model {self.name!r}"
        for name in ("input_price", "output_price"):
            if getattr(self, name) is None:
                raise PoolError(
                    f"{name}{of} is missing; give US dollars per million tokens (0 when it is free)"
                )
            _check_number(name, getattr(self, name), of=of)
        for name in ("cached_input_price", "cache_write_price", "cache_lifetime", "lane_hours"):
            _check_number(name, getattr(self, name), of=of)
        for name in ("context_window", "slots", "cache_minimum"):
            _check_whole(name, getattr(self, name), of=of, positive=name == "context_window")
        for name in ("requests_per_minute", "tokens_per_minute"):
            _check_number(name, getattr(self, name), of=of)
        for name in ("vision", "tools"):
            if not isinstance(getattr(self, name), bool):
                raise PoolError(f"{name}{of} must be true or false, got {getattr(self, name)!r}")
        for name in ("price_source", "price_date", "effort", "model", "provider", "scores_source"):
            _check_text(name, getattr(self, name), of=of)
        if self.lane is not None and self.lane not in LANES:
            raise PoolError(f"lane{of} must be one of {', '.join(LANES)}; got {shown(self.lane)}")
        if self.endpoint is not None and not isinstance(self.endpoint, Endpoint):
            raise PoolError(f"endpoint{of} must be an Endpoint, got {type(self.endpoint).__name__}")
        object.__setattr__(self, "price_steps", _checked_steps(self.price_steps, of))
        object.__setattr__(self, "scores", None if self.scores is None else checked_scores(self.scores, of))
        _check_number("mean_tokens", self.mean_tokens, of=of, positive=True)

    def __reduce__(self) -> tuple[Any, ...]:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return _rebuilt, (values | {"scores": None if self.scores is None else dict(self.scores)},)

    @property
    def identity(self) -> str:
        """Which model it is, whatever the effort and the lane: what an endpoint is asked for by default."""
        return self.name if self.model is None else self.model

    @property
    def lane_seconds(self) -> float:
        """Within which its lane answers; 0 for at once."""
        hours = (
            (_BATCH_HOURS if self.lane == "batch" else 0.0) if self.lane_hours is None else self.lane_hours
        )
        return 3600.0 * hours

    @property
    def key(self) -> tuple[str, str | None, str | None]:
        """The column that it stands for: model, effort, lane (None for the standard lane)."""
        return self.identity, self.effort, None if self.lane == "standard" else self.lane


@dataclass(frozen=True, slots=True)
class OverageTier:
    """What use beyond an amount costs, on top of the models' own prices. Exactly one amount is given.

    Parameters
    ----------
    price : float
        US dollars for each request, or for a million tokens, beyond it.
    above_requests, above_tokens : float, optional
        Requests, or tokens of prompts and answers, of one batch.
    """

    price: float
    above_requests: float | None = None
    above_tokens: float | None = None

    def __post_init__(self) -> None:
        _check_amount("an overage tier", self, ("above_requests", "above_tokens"))


@dataclass(frozen=True, slots=True)
class Minimum:
    """Use that is paid whether it is made or not (a commitment). Exactly one amount is given.

    Parameters
    ----------
    price : float
        US dollars for each request, or for a million tokens, that is not used of it. What is used costs what
        the models' own prices say: 0, where the commitment pays for it.
    requests, tokens : float, optional
        Requests, or tokens of prompts and answers, of one batch.
    """

    price: float
    requests: float | None = None
    tokens: float | None = None

    def __post_init__(self) -> None:
        _check_amount("a minimum", self, ("requests", "tokens"))


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that several columns of a pool share: a provider's rate, the slots of one GPU.

    A batch that is routed at once (`route`, `Router.route`) keeps to it: its models together take no more
    requests than its slots and its requests per minute, and no more tokens than its tokens per minute.
    Sessions and the gateway keep to it at every moment, `collect` and `eccos run` call by call.

    Parameters
    ----------
    name : str
        Unique among the limits of a pool.
    models : sequence of str
        Names or models of the pool; a model that is there at several efforts stands for all of them.
    slots, requests_per_minute, tokens_per_minute : number, optional
        As those of `LLM`, over all of them together.
    overage : sequence of OverageTier
        Prices on what a batch uses beyond an amount, in rising order, all of requests or all of tokens.
    minimum : Minimum, optional
        What is paid of a batch whether it is used or not.

    Notes
    -----
    At least one of them is given. Overage and minimum are part of the cost of a batch that is routed at once,
    and weighed with it; what only sees requests one by one (sessions, the gateway, jobs over parts of files)
    refuses them by name.
    """

    name: str
    models: Sequence[str]
    slots: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    overage: Sequence[OverageTier] = ()
    minimum: Minimum | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise PoolError(f"a limit needs a name (a non-empty str), got {shown(self.name)}")
        of = f" of limit {self.name!r}"
        if isinstance(self.models, str) or not isinstance(self.models, Sequence) or not self.models:
            raise PoolError(f"models{of} must be a list of names, got {shown(self.models)}")
        for model in self.models:
            _check_text("models", model, of=of)
        object.__setattr__(self, "models", tuple(dict.fromkeys(self.models)))
        _check_whole("slots", self.slots, of=of)
        for name in ("requests_per_minute", "tokens_per_minute"):
            _check_number(name, getattr(self, name), of=of)
        object.__setattr__(self, "overage", _checked_tiers(self.overage, of))
        if self.minimum is not None and not isinstance(self.minimum, Minimum):
            raise PoolError(f"minimum{of} must be a Minimum, got {shown(self.minimum)}")
        live = (self.slots, self.requests_per_minute, self.tokens_per_minute)
        if not self.is_priced and all(limit is None for limit in live):
            raise PoolError(
                f"limit {self.name!r} limits nothing; give slots, requests_per_minute, tokens_per_minute, "
                "overage or minimum"
            )

    @property
    def is_priced(self) -> bool:
        """Whether using it, or leaving it unused, costs something beyond the models' prices."""
        return bool(self.overage) or self.minimum is not None


def benchmark_key(name: str) -> str:
    """Return a benchmark's name as tables of scores have it: ``MMLU-Pro/Law`` is ``mmlu_pro/law``."""
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _rebuilt(values: dict[str, Any]) -> LLM:
    return LLM(**values)


def checked_scores(scores: Any, of: str) -> Mapping[str, float]:
    """Return scores by benchmark as they were told, once they are shares; `of` says whose they are.

    Raises
    ------
    PoolError
        A name is no text, a value leaves 0 to 1, or two spellings of one benchmark differ in value.
    """
    if not isinstance(scores, Mapping):
        raise PoolError(f"scores{of} must map benchmarks to shares, got {shown(scores)}")
    spelt: dict[str, str] = {}
    for name, value in scores.items():
        if not isinstance(name, str) or not name.strip():
            raise PoolError(f"scores{of} must map names of benchmarks to shares, got the name {shown(name)}")
        if is_number(value) and 1 < value <= _PERCENT:
            raise PoolError(
                f"score {name!r}{of} must lie in [0, 1], got {value!r}; "
                f"as a percentage it would be {value / _PERCENT:g}"
            )
        check_number(f"score {name!r}{of}", value, error=PoolError, most=1.0)
        other = spelt.setdefault(benchmark_key(name), name)
        if scores[other] != value:
            raise PoolError(
                f"scores{of}: {other!r} and {name!r} are one benchmark, with two scores: "
                f"{scores[other]!r} and {value!r}"
            )
    return MappingProxyType({name: float(value) for name, value in scores.items()})


def _checked_steps(steps: Any, of: str) -> tuple[PriceStep, ...]:
    if isinstance(steps, str | Mapping) or not isinstance(steps, Sequence):
        raise PoolError(f"price_steps{of} must be a list of price steps, got {shown(steps)}")
    for step in steps:
        if not isinstance(step, PriceStep):
            raise PoolError(f"price_steps{of} must hold price steps, got {shown(step)}")
    marks = [step.above for step in steps]
    if marks != sorted(set(marks)):
        raise PoolError(f"price_steps{of} must rise in 'above', got {marks}")
    return tuple(steps)


def _check_amount(what: str, item: OverageTier | Minimum, names: tuple[str, str]) -> None:
    given = [name for name in names if getattr(item, name) is not None]
    if len(given) != 1:
        got = " and ".join(given) or "neither"
        raise PoolError(f"{what} takes exactly one of {' and '.join(names)}, got {got}")
    if item.price is None:
        raise PoolError(f"{what} has no price; give US dollars a request, or a million tokens")
    _check_number("price", item.price, of=f" of {what}")
    _check_number(given[0], getattr(item, given[0]), of=f" of {what}")


def _checked_tiers(tiers: Any, of: str) -> tuple[OverageTier, ...]:
    if isinstance(tiers, str | Mapping) or not isinstance(tiers, Sequence):
        raise PoolError(f"overage{of} must be a list of tiers, got {shown(tiers)}")
    for tier in tiers:
        if not isinstance(tier, OverageTier):
            raise PoolError(f"overage{of} must hold tiers, got {shown(tier)}")
    if len({tier.above_tokens is None for tier in tiers}) > 1:
        raise PoolError(f"overage{of} must be all above_requests or all above_tokens, got both")
    marks = [tier.above_requests if tier.above_tokens is None else tier.above_tokens for tier in tiers]
    prices = [tier.price for tier in tiers]
    if marks != sorted(set(marks)) or prices != sorted(prices):
        raise PoolError(f"overage{of} must rise in its amounts and prices, got {marks} at {prices}")
    return tuple(tiers)


def _check_number(name: str, value: Any, *, of: str = "", positive: bool = False) -> None:
    if value is not None:
        check_number(f"{name}{of}", value, error=PoolError, above=positive)


def _check_whole(name: str, value: Any, *, of: str = "", positive: bool = False) -> None:
    _check_number(name, value, of=of, positive=positive)
    if value is not None and not isinstance(value, Integral):
        raise PoolError(f"{name}{of} must be a whole number, got {value!r}")


def _check_text(name: str, value: Any, *, of: str = "") -> None:
    if value is not None and not isinstance(value, str):
        raise PoolError(f"{name}{of} must be a text, got {value!r}")
