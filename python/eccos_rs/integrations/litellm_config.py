"""A pool from the configuration file of the LiteLLM proxy, with the prices of the shipped catalogue."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.domain.pricing import TOKENS_PER_PRICE_UNIT
from eccos_rs.domain.validation import is_number, shown
from eccos_rs.errors import MissingExtraError, PoolError
from eccos_rs.pools.catalogued import llm_of_name
from eccos_rs.pools.pool import LLM, Endpoint, Pool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

__all__ = ["pool_of_config", "read_config"]

_FROM_ENVIRONMENT = "os.environ/"
_LIMITS = {"slots": "max_parallel_requests", "requests_per_minute": "rpm", "tokens_per_minute": "tpm"}
_PRICES = {
    "input_price": "input_cost_per_token",
    "output_price": "output_cost_per_token",
    "cached_input_price": "cache_read_input_token_cost",
    "cache_write_price": "cache_creation_input_token_cost",
}


def pool_of_config(path: str | PathLike[str]) -> tuple[Pool, list[str]]:
    """Read the ``model_list`` of a configuration.

    Parameters
    ----------
    path : str or path
        A YAML file.

    Returns
    -------
    Pool, list of str
        The pool, and a sentence for each thing that was left out: a key that is written out, a second
        address.

    Raises
    ------
    PoolError
        The file cannot be read, holds no ``model_list``, or a model's price is not known.
    MissingExtraError
        PyYAML is not installed.
    """
    path = Path(path)
    models: dict[str, LLM] = {}
    left_out: list[str] = []
    for at, entry in enumerate(read_config(path)["model_list"]):
        if not isinstance(entry, dict) or not isinstance(entry.get("litellm_params"), dict):
            raise PoolError(f"{path}: entry {at} of model_list needs litellm_params, got {shown(entry)}")
        params = entry["litellm_params"]
        if not isinstance(params.get("model"), str):
            raise PoolError(f"{path}: entry {at} of model_list needs litellm_params.model")
        name = str(entry.get("model_name") or params["model"])
        model, sentences = _model(path, name, params, entry.get("model_info") or {})
        left_out += sentences
        if name in models:
            models[name] = _together(models[name], model)
            left_out.append(f"{name}: several deployments became one entry, with their limits added up")
        else:
            models[name] = model
    return Pool(models.values()), list(dict.fromkeys(left_out))


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration of the proxy, with the files that it includes.

    Parameters
    ----------
    path : Path
        A YAML file.

    Returns
    -------
    dict
        It has a ``model_list`` of at least one entry.

    Raises
    ------
    PoolError
        A file cannot be read, or there is no ``model_list``.
    MissingExtraError
        PyYAML is not installed.
    """
    content = _yaml(path)
    merged = dict(content) if isinstance(content, dict) else {}
    for name in merged.get("include") or ():
        further = _yaml(path.parent / str(name))
        for key, value in (further if isinstance(further, dict) else {}).items():
            both = isinstance(value, list) and isinstance(merged.get(key), list)
            merged[key] = [*merged[key], *value] if both else value
    listed = merged.get("model_list")
    if not isinstance(listed, list) or not listed:
        raise PoolError(f"{path}: wanted a model_list with at least one entry")
    return merged


def _yaml(path: Path) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError(
            "reading a LiteLLM configuration needs yaml: pip install 'eccos-rs[litellm]'", name="yaml"
        ) from error
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise PoolError(f"{path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PoolError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


def _model(
    path: Path, name: str, params: Mapping[str, Any], info: Mapping[str, Any]
) -> tuple[LLM, list[str]]:
    stated: dict[str, Any] = {}
    for field, key in _PRICES.items():
        value = params.get(key, info.get(key))
        if value is not None:
            if not is_number(value):
                raise PoolError(f"{path}: {key} of {name!r} must be a number, got {shown(value)}")
            stated[field] = float(value) * TOKENS_PER_PRICE_UNIT
    limits = {field: params[key] for field, key in _LIMITS.items() if params.get(key) is not None}
    if {"input_price", "output_price"} <= stated.keys():
        known = LLM(name, **stated, price_source="stated", model=params["model"].partition("/")[2] or None)
    else:
        known = llm_of_name(params["model"])
    endpoint, sentences = _endpoint(name, params, known)
    fields = {each: getattr(known, each) for each in LLM.__dataclass_fields__}
    changes = {**stated, **limits, "name": name, "model": known.identity, "endpoint": endpoint}
    if effort := params.get("reasoning_effort"):
        changes["effort"] = effort
    return LLM(**{**fields, **changes}), sentences


def _endpoint(name: str, params: Mapping[str, Any], known: LLM) -> tuple[Endpoint | None, list[str]]:
    sentences = []
    key = params.get("api_key")
    variable = known.endpoint.api_key_env if known.endpoint is not None else None
    if isinstance(key, str) and key.startswith(_FROM_ENVIRONMENT):
        variable = key.removeprefix(_FROM_ENVIRONMENT)
    elif key:
        told = variable or "a variable of your own"
        sentences.append(
            f"{name}: its key is written out and was not copied; put it into {told} (api_key_env)"
        )
    base = params.get("api_base") or params.get("base_url")
    if isinstance(base, str) and base.startswith(_FROM_ENVIRONMENT):
        where = base.removeprefix(_FROM_ENVIRONMENT)
        sentences.append(f"{name}: its address is read from {where}; state base_url")
        base = None
    upstream = known.endpoint.model if known.endpoint is not None else params["model"].rpartition("/")[2]
    base = base or (known.endpoint.base_url if known.endpoint is not None else None)
    return (None if base is None else Endpoint(base, model=upstream, api_key_env=variable)), sentences


def _together(one: LLM, other: LLM) -> LLM:
    """Add up the limits of two deployments: one without a limit makes the model unlimited."""
    limits: dict[str, Any] = {}
    for field in _LIMITS:
        ours, theirs = getattr(one, field), getattr(other, field)
        limits[field] = None if ours is None or theirs is None else ours + theirs
    return replace(one, **limits)
