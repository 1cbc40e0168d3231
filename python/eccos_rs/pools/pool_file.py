"""The pool file: TOML tables from and to models and limits."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from eccos_rs.domain.llm import LLM, Endpoint, Limit, Minimum, OverageTier, PriceStep
from eccos_rs.domain.validation import did_you_mean, shown
from eccos_rs.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["parse", "render"]


def _keys(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


_MODEL_KEYS, _ENDPOINT_KEYS, _LIMIT_KEYS, _STEP_KEYS = map(_keys, (LLM, Endpoint, Limit, PriceStep))
_TIER_KEYS, _MINIMUM_KEYS = map(_keys, (OverageTier, Minimum))


def parse(text: str, version: int) -> tuple[list[LLM], list[Limit]]:
    """Return the models and the limits of a pool file's text.

    Raises
    ------
    PoolError
        It is malformed, of another version, or a key is unknown.
    """
    try:
        content = tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise PoolError(f"not valid TOML: {error}") from error
    _check_keys("the file", content, ("schema_version", "model", "limit"))
    stated = content.get("schema_version")
    if stated != version:
        got = "none" if stated is None else repr(stated)
        raise PoolError(f"schema_version must be {version}, got {got}")
    tables = content.get("model")
    if not isinstance(tables, list) or not _are_tables(tables):
        raise PoolError("wanted one [[model]] table for each model, got none")
    limits = content.get("limit", [])
    if not _are_tables(limits):
        raise PoolError(f"wanted one [[limit]] table for each shared limit, got {shown(limits)}")
    return [_model(at, table) for at, table in enumerate(tables)], [
        _limit(at, t) for at, t in enumerate(limits)
    ]


def render(models: Sequence[LLM], limits: Sequence[Limit], version: int) -> str:
    """Return the text that `parse` reads back as these models and limits."""
    import tomli_w

    content: dict[str, Any] = {"schema_version": version, "model": [_table(model) for model in models]}
    if limits:
        content["limit"] = [_limit_table(limit) for limit in limits]
    return tomli_w.dumps(content)


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(table, dict) for table in value)


def _model(at: int, table: dict[str, Any]) -> LLM:
    name = table.get("name")
    if name is None:
        # A misspelt "name" is told by its near key before the missing one is.
        _check_keys(f"model {at}", table, _MODEL_KEYS)
        raise PoolError(f"model {at} has no name")
    _check_keys(f"model {name!r}", table, _MODEL_KEYS)
    values = dict.fromkeys(("input_price", "output_price")) | table
    if values.get("endpoint") is not None:
        values["endpoint"] = _endpoint(name, values["endpoint"])
    if "price_steps" in values:
        values["price_steps"] = _steps(name, values["price_steps"])
    return LLM(**values)  # type: ignore[arg-type]  # checked by LLM itself


def _endpoint(name: str, table: Any) -> Endpoint:
    if not isinstance(table, dict):
        raise PoolError(f"endpoint of model {name!r} must be a table, got {table!r}")
    _check_keys(f"the endpoint of model {name!r}", table, _ENDPOINT_KEYS)
    if "base_url" not in table:
        raise PoolError(f"the endpoint of model {name!r} has no base_url")
    try:
        return Endpoint(**table)
    except PoolError as error:
        raise PoolError(f"the endpoint of model {name!r}: {error}") from error


def _steps(name: str, tables: Any) -> list[PriceStep]:
    if not _are_tables(tables):
        raise PoolError(f"price_steps of model {name!r} must be tables, got {shown(tables)}")
    steps = []
    for table in tables:
        where = f"a price step of model {name!r}"
        _check_keys(where, table, _STEP_KEYS)
        for key in ("above", "input_price", "output_price"):
            if key not in table:
                raise PoolError(f"{where} has no {key}")
        steps.append(PriceStep(**table))
    return steps


def _limit(at: int, table: dict[str, Any]) -> Limit:
    where = f"limit {table['name']!r}" if "name" in table else f"limit {at}"
    _check_keys(where, table, _LIMIT_KEYS)
    for key in ("name", "models"):
        if key not in table:
            raise PoolError(f"{where} has no {key}")
    values = dict(table)
    if "overage" in table:
        if not _are_tables(table["overage"]):
            raise PoolError(f"overage of {where} must be tables, got {shown(table['overage'])}")
        values["overage"] = [
            _terms(f"an overage tier of {where}", each, OverageTier, _TIER_KEYS) for each in table["overage"]
        ]
    if "minimum" in table:
        if not isinstance(table["minimum"], dict):
            raise PoolError(f"minimum of {where} must be a table, got {shown(table['minimum'])}")
        values["minimum"] = _terms(f"the minimum of {where}", table["minimum"], Minimum, _MINIMUM_KEYS)
    return Limit(**values)


def _terms(where: str, table: dict[str, Any], kind: type, keys: Sequence[str]) -> Any:
    _check_keys(where, table, keys)
    return kind(**dict.fromkeys(("price",)) | table)


def _limit_table(limit: Limit) -> dict[str, Any]:
    table = {**_set(limit), "models": list(limit.models)}
    if limit.overage:
        table["overage"] = [_set(tier) for tier in limit.overage]
    if limit.minimum is not None:
        table["minimum"] = _set(limit.minimum)
    return table


def _table(model: LLM) -> dict[str, Any]:
    table = _set(model)
    if model.endpoint is not None:
        table["endpoint"] = _set(model.endpoint)
        if model.endpoint.headers is not None:
            table["endpoint"]["headers"] = dict(model.endpoint.headers)
    if model.price_steps:
        table["price_steps"] = [_set(step) for step in model.price_steps]
    if model.scores is not None:
        table["scores"] = dict(model.scores)
    return table


def _set(item: LLM | Endpoint | Limit | PriceStep | OverageTier | Minimum) -> dict[str, Any]:
    """Return the fields that say something: those without a default, and those that are not None or ()."""
    values = {field.name: (getattr(item, field.name), field.default) for field in fields(item)}
    return {
        name: value
        for name, (value, default) in values.items()
        if default is MISSING or not (value is None or value == ())
    }


def _check_keys(where: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            raise PoolError(f"unknown key {key!r} in {where}{did_you_mean(key, known)}")
