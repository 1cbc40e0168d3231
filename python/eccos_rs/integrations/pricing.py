"""Prices and abilities of models from LiteLLM's map."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import MissingExtraError, PoolError
from eccos_rs.pool import LLM

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["import_litellm", "price_map", "priced_llm"]


def import_litellm() -> Any:
    """Return the `litellm` module.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    try:
        import litellm
    except ImportError as error:
        raise MissingExtraError("LiteLLM is not installed: pip install 'eccos-rs[litellm]'") from error
    return litellm


def price_map() -> Mapping[str, Mapping[str, Any]]:
    """Return LiteLLM's map from model to prices and abilities, as it stands."""
    costs: Mapping[str, Mapping[str, Any]] = import_litellm().model_cost
    return costs


def priced_llm(
    model: str,
    prices: Mapping[str, Mapping[str, Any]],
    *,
    name: str | None = None,
    given: Mapping[str, Any] | None = None,
    **fields: Any,
) -> LLM:
    """Make a model of the pool from LiteLLM's map.

    Parameters
    ----------
    model : str
        As LiteLLM knows it; with or without the provider in front.
    prices : mapping
        As `price_map` returns it.
    name : str, optional
        In the pool; `model` by default.
    given : mapping, optional
        ``input_cost_per_token`` and ``output_cost_per_token`` stated for this deployment go first.
    **fields
        Other fields of `LLM`.

    Returns
    -------
    LLM

    Raises
    ------
    PoolError
        The map has no price of it: as 0 it would get everything.
    """
    stated = {key: value for key, value in (given or {}).items() if value is not None}
    entry = prices.get(model) or prices.get(model.partition("/")[2]) or {}
    cost = {}
    for side in ("input", "output"):
        key = f"{side}_cost_per_token"
        value = stated.get(key, entry.get(key))
        if value is None:
            near = difflib.get_close_matches(model, list(prices), n=1)
            hint = f"; near is {near[0]!r}" if near else ""
            raise PoolError(
                f"no {side} price of model {model!r} is known{hint}. State {key} for it (0 when it is free): "
                "an unknown price taken as 0 would send everything there"
            )
        cost[side] = 1e6 * float(value)
    cached = stated.get("cache_read_input_token_cost", entry.get("cache_read_input_token_cost"))
    known: dict[str, Any] = {
        "cached_input_price": None if cached is None else 1e6 * float(cached),
        "context_window": _whole(entry.get("max_input_tokens")),
        "vision": bool(entry.get("supports_vision", False)),
        "tools": bool(entry.get("supports_function_calling", False)),
        "price_source": "stated" if "input_cost_per_token" in stated else "litellm",
    }
    return LLM(name or model, cost["input"], cost["output"], **(known | fields))


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and value > 0 else None
