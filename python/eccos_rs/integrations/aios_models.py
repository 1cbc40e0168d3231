"""From AIOS's configuration to models: names, prices, slots."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import PoolError
from eccos_rs.integrations.pricing import price_map, priced_llm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eccos_rs.pools.pool import LLM, Pool

__all__ = ["config_value", "model_name", "model_slots", "name_or_none", "priced_models"]

logger = logging.getLogger("eccos_rs.integrations")

_CONCURRENCY = ("max_concurrency", "max_concurrent_requests", "concurrency", "slots")
"""Keys that state how many requests a model takes at once, for a model or, in ``router``, for each."""

_LISTED = ("input_cost_per_token", "output_cost_per_token", "cost_per_input_token", "cost_per_output_token")


def model_name(config: Any) -> str:
    """Return the name of a model; PoolError: it has none."""
    name = config if isinstance(config, str) else config_value(config, "name")
    if not isinstance(name, str) or not name:
        raise PoolError(f"a model of AIOS needs a name, got {config!r}")
    return name


def config_value(config: Any, key: str) -> Any:
    """Read a mapping, or an object's attribute; None where there is none."""
    return config.get(key) if isinstance(config, Mapping) else getattr(config, key, None)


def name_or_none(config: Any) -> str | None:
    """Return the name of a model, None where it has none."""
    try:
        return model_name(config)
    except PoolError:
        return None


def _listed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the models of AIOS's whole configuration by name."""
    return {model_name(each): each for each in (config.get("llms") or {}).get("models") or ()}


def model_slots(configs: Sequence[Any], config: Mapping[str, Any]) -> dict[str, int | None]:
    """Return the concurrency of each model: its own, here or in ``config.yaml``, else the default."""
    listed = _listed(config)
    default = _concurrency((config.get("llms") or {}).get("router") or {})
    slots = {}
    for each in configs:
        name = model_name(each)
        places = each, listed.get(name) or {}
        slots[name] = next((count for place in places if (count := _concurrency(place)) is not None), default)
    return slots


def priced_models(
    configs: Sequence[Any], pools: Sequence[Pool], aliases: Mapping[str, str], config: Mapping[str, Any]
) -> list[LLM]:
    """Return the models that have a price; the others are logged."""
    listed, slots = _listed(config), model_slots(configs, config)
    models: dict[str, LLM] = {}
    for each in configs:
        name = model_name(each)
        # AIOS's own objects keep no price and no concurrency; config.yaml has them.
        places = each, listed.get(name) or {}
        stated = next((prices for place in places if (prices := _prices(place))), {})
        try:
            models.setdefault(name, _llm(each, stated, pools, aliases, slots[name]))
        except PoolError as error:
            logger.warning("%s", error)
    return list(models.values())


def _concurrency(config: Any) -> int | None:
    for key in _CONCURRENCY:
        value = config_value(config, key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise PoolError(f"{key} must be a whole number of at least 1, got {value!r}")
        return value
    return None


def _prices(config: Any) -> dict[str, Any]:
    told = {key: config_value(config, key) for key in _LISTED}
    return {_new_key(key): value for key, value in told.items() if value is not None}


def _llm(
    config: Any,
    stated: Mapping[str, Any],
    pools: Sequence[Pool],
    aliases: Mapping[str, str],
    slots: int | None,
) -> LLM:
    name = model_name(config)
    if not stated:
        for pool in pools:
            for known in (name, aliases.get(name, name)):
                if known in pool.names:
                    found: LLM = pool[known]
                    return replace(found, name=name, slots=slots or found.slots)
    # AIOS checks no abilities: a model it lists is taken to have them.
    backend = config_value(config, "backend")
    model = f"{backend}/{name}" if isinstance(backend, str) and "/" not in name else name
    prices = {} if len(stated) == 2 else price_map()
    return priced_llm(model, prices, name=name, given=stated, slots=slots, tools=True, vision=True)


def _new_key(key: str) -> str:
    return key if key.endswith("_per_token") else f"{key.split('_')[2]}_cost_per_token"
