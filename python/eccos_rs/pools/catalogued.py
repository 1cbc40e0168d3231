"""Models by name: an LLM with the prices, limits and abilities of the catalogue that ships."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from eccos_rs.catalogue.dated import dated_prices
from eccos_rs.catalogue.models import CatalogueModel, ModelPrices, catalogue, days_old
from eccos_rs.catalogue.names import parse_name, split_options
from eccos_rs.catalogue.scores import knowledge
from eccos_rs.domain.llm import LANES, LLM, Endpoint, PriceStep
from eccos_rs.domain.validation import shown
from eccos_rs.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["llm_of_name", "names_of_keys", "pool_of_names", "same_column"]


def pool_of_names(models: Iterable[str | LLM], price_date: str | None = None) -> list[LLM]:
    """Return an LLM for each name; see `Pool.of`.

    Raises
    ------
    PoolError
        A name is not known, has no price, or means a model that another one means already.
    """
    found: list[tuple[str, LLM]] = []
    made = []
    for model in models:
        if isinstance(model, LLM):
            made.append(model)
            continue
        llm, entry = _named(model, price_date)
        for name, other in found:
            if same_column(llm, other):
                raise PoolError(
                    f"{model!r} and {name!r} are the same model ({entry.key} of {entry.provider})"
                )
        found.append((model, llm))
        made.append(llm)
    return made


_NOT_CHAT = {
    "audio", "search", "realtime", "computer", "tts", "robotics", "cyber", "law", "omni", "customtools",
    "codex", "deep", "research", "live", "voice", "vision", "preview", "latest", "chat", "rosalind", "multi",
    "agent", "lyria",
}  # fmt: skip
"""Words of models that answer something else than a plain chat, or move under their name."""
_SOON = 60
"""Days before a model is taken away within which it is not proposed any more."""


def names_of_keys(most: int = 3) -> list[str]:
    """Return models of the providers whose key variables are set: none dearer than a stronger one.

    Parameters
    ----------
    most : int
        Models of one provider at most, spread from the cheapest to the strongest.
    """
    table, chosen = catalogue(), []
    for provider in table.providers.values():
        if not provider.base_url or not any(os.environ.get(key) for key in provider.keys):
            continue
        found = [model for model in table.of_provider(provider.name) if _is_current(model)]
        for model in _spread(_undominated(found), most):
            # The short name where it means this very entry.
            short = table.find(model.upstream)
            chosen.append(model.upstream if short and short[0].key == model.key else model.key)
    return chosen


def _is_current(model: CatalogueModel) -> bool:
    name = parse_name(model.key)
    age = days_old(model.retires)
    lasting = age is None or age < -_SOON
    plain = not name.identity & _NOT_CHAT and not name.release
    return lasting and plain and model.tools and model.prices is not None and model.prices.output > 0


def _undominated(models: Iterable[CatalogueModel]) -> list[CatalogueModel]:
    """Return the models that no cheaper one is as strong as, by published scores; the cheapest first."""
    kept: list[tuple[float, CatalogueModel]] = []
    for model in sorted(models, key=lambda m: (m.prices.output if m.prices else 0.0, m.key)):
        known = knowledge(model.upstream)
        if known.basis not in ("nothing", "price") and (not kept or known.level > kept[-1][0]):
            kept.append((known.level, model))
    return [model for _, model in kept]


def _spread(models: list[CatalogueModel], most: int) -> list[CatalogueModel]:
    if len(models) <= most:
        return models
    steps = [round(at * (len(models) - 1) / max(most - 1, 1)) for at in range(most)]
    return [models[at] for at in steps]


def same_column(one: LLM, other: LLM) -> bool:
    """Say whether two entries are one model of one provider at the same effort in the same lane.

    A name without a date is its one release (``gpt-5-mini`` and ``gpt-5-mini-2025-08-07``); of several, which
    one it is moves.
    """
    (identity, release, *rest), (its_identity, its_release, *its_rest) = _column_key(one), _column_key(other)
    if identity != its_identity or rest != its_rest:
        return False
    if release == its_release:
        return True
    if release and its_release:
        return False
    return _releases(identity, one.provider) == {release or its_release}


def _column_key(llm: LLM) -> tuple[Any, ...]:
    name = parse_name(llm.identity)
    release = name.dated
    if not release:
        # A name that moves ("mistral-large-latest") means the entry that the catalogue says it means.
        meant = next(iter(catalogue().find(llm.identity)), None)
        release = release if meant is None else parse_name(meant.key).dated
    return name.identity, release, llm.provider, *llm.key[1:]


def _releases(identity: frozenset[str], provider: str | None) -> set[frozenset[str]]:
    """Return the dates under which the catalogue lists a model of a provider."""
    if provider is None:
        return set()
    names = (parse_name(model.key) for model in catalogue().of_provider(provider))
    return {name.dated for name in names if name.identity == identity and name.dated}


def llm_of_name(name: str) -> LLM:
    """Return the model that a name stands for, with the prices of the catalogue.

    Parameters
    ----------
    name : str
        Any spelling, with ``@effort`` and ``@lane`` behind it where they matter.

    Raises
    ------
    PoolError
        It is in no catalogue, has no price of its own, or takes no such effort or lane.
    """
    return _named(name)[0]


def _named(text: object, price_date: str | None = None) -> tuple[LLM, CatalogueModel]:
    if not isinstance(text, str) or not text.strip():
        raise PoolError(f"a model is a name or an LLM, got {shown(text)}")
    name, effort, lane = split_options(text.strip())
    table = catalogue()
    entry = table.model(name)
    effort = effort or parse_name(name).effort
    if effort is not None and effort not in entry.efforts and effort != "thinking":
        takes = f"takes {', '.join(entry.efforts)}" if entry.efforts else "takes no reasoning effort"
        raise PoolError(f"{text!r}: {entry.key} {takes}, got {effort!r}")
    if price_date is not None:
        if lane is not None:
            raise PoolError(f"{text!r}: prices of another day are told of the standard lane alone")
        dated, source = dated_prices(entry, price_date)
        told = _llm(name, entry, dated, effort, lane)
        return replace(told, price_source=source, price_date=price_date), entry
    prices = entry.prices if lane is None else entry.lanes.get(lane)
    if prices is None:
        known = ", ".join(("standard", *(each for each in entry.lanes if each in LANES)))
        what = f"no price of its own for {entry.key}"
        if lane is not None:
            what = f"no {lane} lane for {entry.key} (it has {known})"
        raise PoolError(
            f"{text!r}: the catalogue of {table.date} has {what}. State input_price and output_price in "
            "the pool file: an unknown price taken as 0 would send everything there"
        )
    return _llm(name, entry, prices, effort, lane), entry


def _llm(name: str, entry: CatalogueModel, prices: ModelPrices, effort: str | None, lane: str | None) -> LLM:
    table = catalogue()
    provider = table.providers.get(entry.provider.partition("-")[0])
    endpoint = None
    if provider is not None and provider.base_url is not None:
        key = next((each for each in provider.keys if os.environ.get(each)), next(iter(provider.keys), None))
        endpoint = Endpoint(provider.base_url, model=entry.upstream, api_key_env=key, kind=provider.kind)
    lifetime = None if provider is None else provider.cache_lifetime
    minimum = entry.cache_minimum or (None if provider is None else provider.cache_minimum)
    return LLM(
        name,
        prices.input,
        prices.output,
        cached_input_price=prices.cached,
        cache_write_price=prices.write,
        context_window=entry.context_window,
        vision=entry.vision,
        tools=entry.tools,
        effort=effort,
        lane=lane,
        # A spelling that tells the effort is the name of a column, not of the model.
        model=entry.upstream if parse_name(name).effort is not None else None,
        lane_hours=provider.batch_hours if lane == "batch" and provider is not None else None,
        provider=entry.provider.partition("-")[0],
        cache_minimum=minimum if prices.cached is not None else None,
        cache_lifetime=lifetime if prices.cached is not None else None,
        price_steps=[PriceStep(above, p.input, p.output, p.cached, p.write) for above, p in prices.steps],
        endpoint=endpoint,
        price_source=f"{table.source.partition(' (')[0]}, key {entry.key}",
        price_date=table.date,
    )
