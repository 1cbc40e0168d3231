"""A pool from the configuration file of the LiteLLM proxy, with the prices of the shipped catalogue."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.catalogue.models import catalogue
from eccos_rs.domain.pricing import TOKENS_PER_PRICE_UNIT
from eccos_rs.domain.validation import shown
from eccos_rs.errors import MissingExtraError, PoolError
from eccos_rs.integrations.pricing import CHAT_MODES, LIMITS, parse_number
from eccos_rs.pools.catalogued import llm_of_name
from eccos_rs.pools.pool import LLM, Endpoint, Pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from os import PathLike

    from eccos_rs.catalogue.models import Provider

__all__ = ["pool_of_config", "read_config"]

_FROM_ENVIRONMENT = "os.environ/"
_NO_CHAT = ("embed", "rerank", "whisper", "tts", "dall-e", "gpt-image", "moderation", "transcribe", "imagen")
"""Words in the names of models that answer something else than chats."""
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
        address, a model that answers no chats or has no known price.

    Raises
    ------
    PoolError
        The file cannot be read, holds no ``model_list``, or no model of it can be routed to.
    MissingExtraError
        PyYAML is not installed.
    """
    path = Path(path)
    models: dict[str, LLM] = {}
    groups: dict[str, list[str]] = {}
    left_out: list[str] = []
    problem: PoolError | None = None
    for name, params, info in _deployments(path, read_config(path)["model_list"]):
        why = _not_routed(params, info)
        if why is not None:
            left_out.append(f"{name}: {why}; left out")
            continue
        stated = _stated(name, params, info)
        try:
            known = _known(name, params, info, stated)
        except PoolError as error:
            problem = problem or error
            left_out.append(f"{name}: left out, for {error}")
            continue
        model, sentences = _model(name, params, stated, known)
        left_out += sentences
        _put(models, groups.setdefault(name, []), model, left_out)
    if not models:
        raise problem or PoolError(f"{path}: no entry of model_list answers chats: {'; '.join(left_out)}")
    return Pool(models.values()), list(dict.fromkeys(left_out))


def _deployments(
    path: Path, model_list: Iterable[Any]
) -> Iterator[tuple[str, dict[str, Any], Mapping[str, Any]]]:
    """Return name, parameters and information of each entry."""
    for at, entry in enumerate(model_list):
        if not isinstance(entry, dict) or not isinstance(entry.get("litellm_params"), dict):
            raise PoolError(f"{path}: entry {at} of model_list needs litellm_params, got {shown(entry)}")
        params = entry["litellm_params"]
        if not isinstance(params.get("model"), str):
            raise PoolError(f"{path}: entry {at} of model_list needs litellm_params.model")
        info = entry.get("model_info") or {}
        if not isinstance(info, dict):
            raise PoolError(f"{path}: model_info of entry {at} must be a mapping, got {shown(info)}")
        yield str(entry.get("model_name") or params["model"]), params, info


def _not_routed(params: Mapping[str, Any], info: Mapping[str, Any]) -> str | None:
    """Say why a deployment cannot be a model of the pool; None: it can."""
    model = params["model"]
    mode = info.get("mode") or params.get("mode")
    if mode is not None and mode not in CHAT_MODES:
        return f"its mode is {mode!r}, not chat"
    if "*" in model:
        return f"{model!r} stands for many models; name those that may be chosen"
    if mode is None and any(word in model.lower() for word in _NO_CHAT):
        return f"{model!r} answers no chats"
    return None


def _put(models: dict[str, LLM], group: list[str], model: LLM, left_out: list[str]) -> None:
    """Add a deployment: to its like in the same group, or as a column of its own."""
    for name in group:
        if _reached(models[name]) == _reached(model):
            models[name] = _together(models[name], model)
            left_out.append(f"{name}: several deployments became one entry, with their limits added up")
            return
    name = model.name
    if group:
        # What LiteLLM takes in turn is a choice here.
        name = next(each for each in _own_names(model, models[group[0]], len(group)) if each not in models)
        left_out.append(f"{model.name}: its deployments differ; {model.identity} became {name!r}")
    elif name in models:
        raise PoolError(f"two models of model_list are called {name!r}")
    models[name] = replace(model, name=name)
    group.append(name)


def _reached(model: LLM) -> tuple[Any, ...]:
    return model.model, model.effort, model.endpoint


def _own_names(model: LLM, first: LLM, number: int) -> Iterator[str]:
    """Return names for a further deployment of a group, the one that says most first."""
    group, short = model.name, model.identity.rpartition("/")[2]
    if short != first.identity.rpartition("/")[2]:
        yield f"{group}/{short}"
    if model.effort != first.effort:
        yield f"{group}@{model.effort or 'none'}"
    if model.provider and model.provider != first.provider:
        yield f"{group}/{model.provider}"
    yield from (f"{group}/{at}" for at in itertools.count(number + 1))


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


def _stated(name: str, params: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the prices, limits and window that an entry states."""
    stated: dict[str, Any] = {}
    for field, key in _PRICES.items():
        value = parse_number(params.get(key, info.get(key)), name, key)
        if value is not None:
            stated[field] = float(f"{value * TOKENS_PER_PRICE_UNIT:.12g}")  # 1e-7 a token is 0.1, not 0.0999…
    for field, key in LIMITS.items():
        limit = parse_number(params.get(key), name, key)
        if limit is not None:
            stated[field] = int(limit)
    window = parse_number(info.get("max_input_tokens"), name, "max_input_tokens")
    return {**stated, "context_window": int(window)} if window else stated


def _known(name: str, params: Mapping[str, Any], info: Mapping[str, Any], stated: Mapping[str, Any]) -> LLM:
    """Return what the catalogue says of a deployment, of its ``base_model`` first; else what it states."""
    unknown = None
    for model in filter(None, (info.get("base_model"), params["model"])):
        try:
            found = llm_of_name(str(model))
        except PoolError as error:
            unknown = unknown or error
        else:
            return found
    if unknown is not None and not {"input_price", "output_price"} <= stated.keys():
        raise unknown
    prices = {field: stated[field] for field in _PRICES if field in stated}
    return LLM(name, **prices, price_source="stated", model=params["model"].partition("/")[2] or None)


def _model(
    name: str, params: Mapping[str, Any], stated: Mapping[str, Any], known: LLM
) -> tuple[LLM, list[str]]:
    endpoint, sentences = _endpoint(name, params, known)
    fields = {each: getattr(known, each) for each in LLM.__dataclass_fields__}
    changes = {**stated, "name": name, "model": known.identity, "endpoint": endpoint}
    if _provider(params, known)[0] is None:
        changes["provider"] = None  # a server of one's own
    if {"input_price", "output_price"} <= stated.keys():
        changes |= {"price_source": "stated", "price_steps": ()}
    if effort := params.get("reasoning_effort"):
        changes["effort"] = effort
    return LLM(**{**fields, **changes}), sentences


def _endpoint(name: str, params: Mapping[str, Any], known: LLM) -> tuple[Endpoint | None, list[str]]:
    provider, upstream = _provider(params, known)
    key, variable = params.get("api_key"), next(iter(provider.keys), None) if provider else None
    if known.endpoint is not None and provider is not None and known.endpoint.api_key_env in provider.keys:
        variable = known.endpoint.api_key_env  # the one that is set
    sentences = []
    if isinstance(key, str) and key.startswith(_FROM_ENVIRONMENT):
        variable = key.removeprefix(_FROM_ENVIRONMENT)
    elif key:
        told = variable or "a variable of your own"
        sentences.append(
            f"{name}: its key is written out and was not copied; put it into {told} (api_key_env)"
        )
    base = params.get("api_base") or params.get("base_url") or (provider.base_url if provider else None)
    if isinstance(base, str) and base.startswith(_FROM_ENVIRONMENT):
        where = base.removeprefix(_FROM_ENVIRONMENT)
        base = os.environ.get(where)
        said = "which is not set; state base_url" if base is None else f"now {base}"
        sentences.append(f"{name}: its address is read from {where}, {said}")
    if base is None:
        return None, sentences
    kind = provider.kind if provider else "openai"
    version = params.get("api_version")
    if kind == "azure" and isinstance(version, str) and not version.startswith(_FROM_ENVIRONMENT):
        base += f"{'&' if '?' in base else '?'}api-version={version}"
    return Endpoint(base, model=upstream, api_key_env=variable, kind=kind), sentences


def _provider(params: Mapping[str, Any], known: LLM) -> tuple[Provider | None, str]:
    """Return whose dialect and keys a deployment has, and what the model is called there."""
    providers = catalogue().providers
    stated, model = params.get("custom_llm_provider"), params["model"]
    before, slash, rest = model.partition("/")
    if stated:
        return providers.get(stated), rest if slash and before == stated else model
    if slash:
        return providers.get(before), rest
    upstream = known.endpoint.model if known.endpoint is not None else None
    return providers.get(known.provider or ""), upstream or model


def _together(one: LLM, other: LLM) -> LLM:
    """Add up the limits of two deployments: one without a limit makes the model unlimited."""
    limits: dict[str, Any] = {}
    for field in LIMITS:
        ours, theirs = getattr(one, field), getattr(other, field)
        limits[field] = None if ours is None or theirs is None else ours + theirs
    return replace(one, **limits)
