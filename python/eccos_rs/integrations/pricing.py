"""Prices and abilities of models from LiteLLM's map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eccos_rs.domain.pricing import TOKENS_PER_PRICE_UNIT
from eccos_rs.domain.validation import nearest_name
from eccos_rs.errors import MissingExtraError, PoolError
from eccos_rs.routing.pool import LLM, Pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "deployment_params",
    "import_litellm",
    "name_in_pool",
    "pool_from_model_list",
    "price_map",
    "priced_llm",
]


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
            near = nearest_name(model, prices)
            hint = f"; near is {near!r}" if near else ""
            raise PoolError(
                f"no {side} price of model {model!r} is known{hint}. State {key} for it (0 when it is free): "
                "an unknown price taken as 0 would send everything there"
            )
        cost[side] = TOKENS_PER_PRICE_UNIT * float(value)
    cached = stated.get("cache_read_input_token_cost", entry.get("cache_read_input_token_cost"))
    known: dict[str, Any] = {
        "cached_input_price": None if cached is None else TOKENS_PER_PRICE_UNIT * float(cached),
        "context_window": _whole(entry.get("max_input_tokens")),
        "vision": bool(entry.get("supports_vision", False)),
        "tools": bool(entry.get("supports_function_calling", False)),
        "price_source": "stated" if "input_cost_per_token" in stated else "litellm",
    }
    return LLM(name or model, cost["input"], cost["output"], **(known | fields))


def pool_from_model_list(
    model_list: Iterable[Mapping[str, Any]], names: Mapping[str, str] | None = None
) -> Pool:
    """Make a pool of LiteLLM's deployments, with the prices of its map.

    Parameters
    ----------
    model_list : iterable of mapping
        As ``litellm.Router(model_list=…)`` takes it: ``litellm_params.model`` and ``model_info``. Prices
        stated there (``input_cost_per_token``, ``output_cost_per_token``) go first; ``rpm``, ``tpm`` and
        ``max_parallel_requests`` are the limits, added up over deployments of the same model.
    names : mapping of str to str, optional
        From ``litellm_params.model`` to the name in the pool; by default what stands after the provider.

    Returns
    -------
    Pool

    Raises
    ------
    PoolError
        A deployment has no model, or its price is not known.
    """
    prices = price_map()
    limits: dict[str, dict[str, Any]] = {}
    models: dict[str, tuple[str, dict[str, Any]]] = {}
    for deployment in model_list:
        params, info = deployment_params(deployment), deployment.get("model_info") or {}
        model = params["model"]
        name = name_in_pool(model, names)
        stated = {
            key: params.get(key, info.get(key)) for key in (*params, *info) if key.endswith("_token_cost")
        }
        for side in ("input", "output"):
            key = f"{side}_cost_per_token"
            stated[key] = params.get(key, info.get(key))
        models.setdefault(name, (model, stated))
        found = limits.setdefault(name, {"slots": 0, "requests_per_minute": 0, "tokens_per_minute": 0})
        for field, key in (
            ("slots", "max_parallel_requests"), ("requests_per_minute", "rpm"), ("tokens_per_minute", "tpm"),
        ):  # fmt: skip
            value = params.get(key)
            # One deployment without a limit makes the model unlimited.
            found[field] = None if value is None or found[field] is None else found[field] + value
    return Pool(
        priced_llm(model, prices, name=name, given=stated, **limits[name])
        for name, (model, stated) in models.items()
    )


def deployment_params(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a deployment; PoolError: it has no model."""
    params = dict(deployment.get("litellm_params") or {})
    if not isinstance(params.get("model"), str):
        raise PoolError(f"a deployment needs litellm_params.model, got {dict(deployment)!r}")
    return params


def name_in_pool(model: str, names: Mapping[str, str] | None) -> str:
    """Return the pool's name of a LiteLLM model: the one given, or what stands after the provider."""
    known = (names or {}).get(model)
    return known or model.rpartition("/")[2]


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and value > 0 else None
