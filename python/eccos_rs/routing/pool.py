"""Who may answer: the models with their prices, abilities, limits and endpoints."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.domain.validation import check_number, did_you_mean
from eccos_rs.errors import PoolError
from eccos_rs.routing.endpoint import Endpoint

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["LLM", "SCHEMA_VERSION", "Endpoint", "Pool"]

SCHEMA_VERSION = 1
"""The version of the pool file that this release reads and writes."""


@dataclass(frozen=True, slots=True)
class LLM:
    """A model of the pool.

    Parameters
    ----------
    name : str
        Unique within the pool, and what the predictor knows it by.
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

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise PoolError(f"a model needs a name (a non-empty str), got {self.name!r}")
        of = f" of model {self.name!r}"
        for name in ("input_price", "output_price"):
            if getattr(self, name) is None:
                raise PoolError(
                    f"{name}{of} is missing; give US dollars per million tokens (0 when it is free)"
                )
            _check_number(name, getattr(self, name), of=of)
        _check_number("cached_input_price", self.cached_input_price, of=of)
        for name in ("context_window", "slots"):
            value = getattr(self, name)
            _check_number(name, value, of=of, positive=name == "context_window")
            if value is not None and not isinstance(value, Integral):
                raise PoolError(f"{name}{of} must be a whole number, got {value!r}")
        for name in ("requests_per_minute", "tokens_per_minute"):
            _check_number(name, getattr(self, name), of=of)
        for name in ("vision", "tools"):
            if not isinstance(getattr(self, name), bool):
                raise PoolError(f"{name}{of} must be true or false, got {getattr(self, name)!r}")
        for name in ("price_source", "price_date", "effort"):
            _check_text(name, getattr(self, name), of=of)
        if self.endpoint is not None and not isinstance(self.endpoint, Endpoint):
            raise PoolError(f"endpoint{of} must be an Endpoint, got {type(self.endpoint).__name__}")


class Pool(Sequence[LLM]):
    """The models to route among, in a fixed order.

    Parameters
    ----------
    models : iterable of LLM
        At least one; names are unique.

    Examples
    --------
    >>> pool = Pool([LLM("small", 0.1, 0.4), LLM("large", 2.5, 10.0)])
    >>> pool.names
    ('small', 'large')
    >>> pool["large"].output_price
    10.0
    """

    __slots__ = ("_at", "_models")

    def __init__(self, models: Iterable[LLM]) -> None:
        self._models = tuple(models)
        if not self._models:
            raise PoolError("a pool needs at least one model, got none")
        self._at: dict[str, int] = {}
        for at, model in enumerate(self._models):
            if not isinstance(model, LLM):
                raise PoolError(f"model {at} of the pool must be an LLM, got {type(model).__name__}")
            if model.name in self._at:
                raise PoolError(f"model {model.name!r} is in the pool twice")
            self._at[model.name] = at

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of the pool."""
        return tuple(self._at)

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Return the position of a model, given it or its name.

        Raises
        ------
        PoolError
            The name is not in the pool; the near one is named.
        """
        if not isinstance(value, str):
            return self._models.index(value, start, len(self._models) if stop is None else stop)
        if value not in self._at:
            raise PoolError(f"there is no model {value!r} in the pool{did_you_mean(value, self.names)}")
        return self._at[value]

    def select(self, names: Iterable[str]) -> Pool:
        """Return the pool of these models alone, in the order given.

        Raises
        ------
        PoolError
            A name is not in the pool, or none is given.
        """
        if isinstance(names, str):
            raise PoolError(f"select takes a sequence of names, got the text {names!r}")
        return Pool(self[name] for name in names)

    def replace(self, name: str, **changes: Any) -> Pool:
        """Return the pool with some fields of one model changed."""
        at = self.index(name)
        changed = replace(self._models[at], **changes)
        return Pool([*self._models[:at], changed, *self._models[at + 1 :]])

    def __len__(self) -> int:
        return len(self._models)

    def __iter__(self) -> Iterator[LLM]:
        return iter(self._models)

    def __contains__(self, item: object) -> bool:
        return item in self._at if isinstance(item, str) else item in self._models

    def __getitem__(self, key: Any) -> Any:
        return self._models[self.index(key) if isinstance(key, str) else key]

    def __eq__(self, other: object) -> bool:
        return self._models == other._models if isinstance(other, Pool) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.names)

    def __repr__(self) -> str:
        return f"Pool({len(self)} models: {', '.join(self.names)})"

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Pool:
        """Read a pool file.

        Parameters
        ----------
        path : str or path
            A TOML file with ``schema_version = 1`` and one ``[[model]]`` table for each model.

        Returns
        -------
        Pool

        Raises
        ------
        PoolError
            The file is not there or malformed; a key is unknown (the near one is named), a price missing.
        """
        try:
            text = Path(path).read_bytes().decode("utf-8")
        except OSError as error:
            raise PoolError(f"pool file {path}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise PoolError(f"pool file {path} is not UTF-8 text (byte {error.start})") from error
        try:
            return cls.from_toml(text)
        except PoolError as error:
            raise PoolError(f"pool file {path}: {error}") from error

    @classmethod
    def from_toml(cls, text: str) -> Pool:
        """Read a pool from the text of a pool file; see `load`."""
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise PoolError(f"not valid TOML: {error}") from error
        _check_keys("the file", content, ("schema_version", "model"))
        version = content.get("schema_version")
        if version != SCHEMA_VERSION:
            got = "none" if version is None else repr(version)
            raise PoolError(f"schema_version must be {SCHEMA_VERSION}, got {got}")
        tables = content.get("model")
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise PoolError("wanted one [[model]] table for each model, got none")
        return cls(_model_of(at, table) for at, table in enumerate(tables))

    def to_toml(self) -> str:
        """Return the text of the pool file that `load` reads back as this pool."""
        import tomli_w

        tables = []
        for model in self._models:
            table = _without_none(model)
            if model.endpoint is not None:
                table["endpoint"] = _without_none(model.endpoint)
                if model.endpoint.headers is not None:
                    table["endpoint"]["headers"] = dict(model.endpoint.headers)
            tables.append(table)
        return tomli_w.dumps({"schema_version": SCHEMA_VERSION, "model": tables})


_MODEL_KEYS = tuple(field.name for field in fields(LLM))
_ENDPOINT_KEYS = tuple(field.name for field in fields(Endpoint))


def _model_of(at: int, table: dict[str, Any]) -> LLM:
    name = table.get("name")
    if name is None:
        # A misspelt "name" is told by its near key before the missing one is.
        _check_keys(f"model {at}", table, _MODEL_KEYS)
        raise PoolError(f"model {at} has no name")
    _check_keys(f"model {name!r}", table, _MODEL_KEYS)
    values = dict.fromkeys(("input_price", "output_price")) | table
    endpoint = values.get("endpoint")
    if endpoint is not None:
        if not isinstance(endpoint, dict):
            raise PoolError(f"endpoint of model {name!r} must be a table, got {endpoint!r}")
        _check_keys(f"the endpoint of model {name!r}", endpoint, _ENDPOINT_KEYS)
        if "base_url" not in endpoint:
            raise PoolError(f"the endpoint of model {name!r} has no base_url")
        try:
            values["endpoint"] = Endpoint(**endpoint)
        except PoolError as error:
            raise PoolError(f"the endpoint of model {name!r}: {error}") from error
    return LLM(**values)  # type: ignore[arg-type]  # checked by LLM itself


def _without_none(item: LLM | Endpoint) -> dict[str, Any]:
    values = {field.name: getattr(item, field.name) for field in fields(item)}
    return {name: value for name, value in values.items() if value is not None}


def _check_keys(where: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            raise PoolError(f"unknown key {key!r} in {where}{did_you_mean(key, known)}")


def _check_number(name: str, value: Any, *, of: str = "", positive: bool = False) -> None:
    if value is not None:
        check_number(f"{name}{of}", value, error=PoolError, above=positive)


def _check_text(name: str, value: Any, *, of: str = "") -> None:
    if value is not None and not isinstance(value, str):
        raise PoolError(f"{name}{of} must be a text, got {value!r}")
