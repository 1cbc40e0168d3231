"""Prices and abilities of models from LiteLLM's map."""

from __future__ import annotations

import logging
import math
import os
from typing import TYPE_CHECKING, Any

from eccos_rs.domain.pricing import TOKENS_PER_PRICE_UNIT
from eccos_rs.domain.validation import nearest_name
from eccos_rs.errors import MissingExtraError, PoolError
from eccos_rs.pools.pool import LLM, Pool

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

__all__ = [
    "CHAT_MODES",
    "LIMITS",
    "chat_deployments",
    "deployment_params",
    "import_litellm",
    "name_in_pool",
    "parse_number",
    "pool_from_model_list",
    "price_map",
    "priced_llm",
]


logger = logging.getLogger("eccos_rs.integrations")

LIMITS = {"slots": "max_parallel_requests", "requests_per_minute": "rpm", "tokens_per_minute": "tpm"}
"""Field of `LLM` and key of ``litellm_params``."""

CHAT_MODES = ("chat", "completion", "responses")
"""What LiteLLM calls the modes of models that answer chats."""


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
    entry = _entry(model, prices)
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


def _entry(model: str, prices: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return what the map says of a model, with or without the provider in front; else nothing."""
    return prices.get(model) or prices.get(model.partition("/")[2]) or {}


def chat_deployments(model_list: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the deployments that answer chats.

    Left out are those whose ``mode`` says otherwise (embedders, images, speech), and groups of which no
    model has a price: nothing is known of them, and LiteLLM serves them as before.

    Raises
    ------
    PoolError
        Nothing is left, or a deployment has no model.
    """
    prices = price_map()
    listed = list(model_list)
    found, priced = [], set()
    for deployment in listed:
        params, info = deployment_params(deployment), deployment.get("model_info") or {}
        model = info.get("base_model") or params["model"]
        entry = _entry(model, prices)
        if (info.get("mode") or params.get("mode") or entry.get("mode") or "chat") in CHAT_MODES:
            found.append(deployment)
            if "output_cost_per_token" in {*params, *info, *entry}:
                priced.add(deployment.get("model_name"))
    kept = [deployment for deployment in found if deployment.get("model_name") in priced]
    if not kept:
        names = ", ".join(repr(deployment_params(each)["model"]) for each in listed) or "an empty list"
        raise PoolError(f"the list has no chat model with a known price; got {names}")
    return kept


def pool_from_model_list(
    model_list: Iterable[Mapping[str, Any]],
    names: Mapping[str, str] | None = None,
    *,
    known: Collection[str] | None = None,
) -> Pool:
    """Make a pool of LiteLLM's deployments, with the prices of its map.

    Parameters
    ----------
    model_list : iterable of mapping
        As ``litellm.Router(model_list=…)`` takes it: ``litellm_params.model`` and ``model_info``. Prices
        stated there (``input_cost_per_token``, ``output_cost_per_token``) go first; ``rpm``, ``tpm`` and
        ``max_parallel_requests`` are the limits, added up over deployments of the same model. Numbers may be
        texts or ``os.environ/NAME``. ``model_info.base_model`` says whose prices and abilities an alias
        (an Azure deployment) has, ``model_info.max_input_tokens`` its context window.
    names : mapping of str to str, optional
        From ``litellm_params.model`` to the name in the pool; by default what stands after the provider.
    known : collection of str, optional
        Names that a predictor knows; deployments of other models (embedders, other groups) are left out.

    Returns
    -------
    Pool

    Raises
    ------
    PoolError
        A deployment has no model, its price is not known, a number is none; or nothing is left.
    """
    prices = price_map()
    limits: dict[str, dict[str, Any]] = {}
    models: dict[str, tuple[str, dict[str, Any]]] = {}
    windows: dict[str, list[int]] = {}
    left_out = []
    for deployment in model_list:
        params, info = deployment_params(deployment), deployment.get("model_info") or {}
        model = params["model"]
        name = name_in_pool(deployment, names, known)
        if known is not None and name not in known:
            left_out.append(model)
            continue
        stated = {
            key: parse_number(params.get(key, info.get(key)), model, key)
            for key in (*params, *info)
            if "_token" in key and "cost" in key
        }
        models.setdefault(name, (info.get("base_model") or model, stated))
        window = parse_number(info.get("max_input_tokens"), model, "max_input_tokens")
        if window:
            windows.setdefault(name, []).append(int(window))
        found = limits.setdefault(name, {"slots": 0, "requests_per_minute": 0, "tokens_per_minute": 0})
        for field, key in LIMITS.items():
            value = parse_number(params.get(key), model, key)
            # One deployment without a limit makes the model unlimited.
            found[field] = None if value is None or found[field] is None else found[field] + int(value)
    if known is not None and not models:
        raise PoolError(
            f"none of the models {', '.join(map(repr, left_out))} is known to the predictor; it knows "
            f"{', '.join(known)}. Give names={{...}} or model_info.base_model"
        )
    if left_out:
        logger.info("not routed, for the predictor does not know them: %s", ", ".join(left_out))
    return Pool(
        priced_llm(
            model, prices, name=name, given=stated, **limits[name],
            **({"context_window": min(windows[name])} if name in windows else {}),
        )
        for name, (model, stated) in models.items()
    )  # fmt: skip


def parse_number(value: Any, model: str, key: str) -> float | None:
    """Return a number as LiteLLM's configuration may write it; PoolError: it is none.

    ``os.environ/NAME`` stands for the environment variable's value.
    """
    if isinstance(value, str) and value.startswith("os.environ/"):
        variable = value.partition("/")[2]
        if variable not in os.environ:
            raise PoolError(f"{key} of model {model!r}: the environment variable {variable} is not set")
        value = os.environ[variable]
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        raise PoolError(f"{key} of model {model!r} must be a number of at least 0, got {value!r}")
    return number


def deployment_params(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a deployment; PoolError: it has no model."""
    params = dict(deployment.get("litellm_params") or {})
    if not isinstance(params.get("model"), str):
        raise PoolError(f"a deployment needs litellm_params.model, got {dict(deployment)!r}")
    return params


def name_in_pool(
    deployment: Mapping[str, Any], names: Mapping[str, str] | None, known: Collection[str] | None = None
) -> str:
    """Return the pool's name of a deployment.

    The one given for its model goes first; then what stands after the provider, and where that is not
    `known`, the same of its ``base_model``.
    """
    model = deployment_params(deployment)["model"]
    given = (names or {}).get(model)
    if given:
        return given
    name = str(model).rpartition("/")[2]
    base = (deployment.get("model_info") or {}).get("base_model")
    if isinstance(base, str) and (known is None or name not in known):
        return (names or {}).get(base) or base.rpartition("/")[2]
    return name


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and value > 0 else None
