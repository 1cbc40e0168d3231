"""Who may answer: the models of a pool and the limits that they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.domain.llm import LLM, Endpoint, Limit, Minimum, OverageTier, PriceStep, benchmark_key
from eccos_rs.domain.validation import did_you_mean
from eccos_rs.errors import PoolError

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["LLM", "SCHEMA_VERSION", "Endpoint", "Limit", "Minimum", "OverageTier", "Pool", "PriceStep"]

SCHEMA_VERSION = 1
"""The version of the pool file that this release reads and writes."""
USUAL = (
    "qwen3-235b-a22b",
    "gpt-5-mini",
    "gemini-2.5-flash",
    "claude-haiku-4.5",
    "gpt-5",
    "claude-sonnet-4.5",
)
"""What is routed among where nobody has said anything."""


class Pool(Sequence[LLM]):
    """The models to route among, in a fixed order.

    Parameters
    ----------
    models : iterable of LLM
        At least one. Names are unique, unless the entries of one model differ in effort or lane: these are
        named ``model@effort@lane``.
    limits : iterable of Limit
        Limits that several models share.

    Examples
    --------
    >>> pool = Pool([LLM("small", 0.1, 0.4), LLM("large", 2.5, 10.0)])
    >>> pool.names
    ('small', 'large')
    >>> pool["large"].output_price
    10.0
    >>> Pool([LLM("o3", 2.0, 8.0, effort="low"), LLM("o3", 2.0, 8.0, effort="high")]).names
    ('o3@low', 'o3@high')
    """

    __slots__ = ("_at", "_limits", "_models")

    def __init__(self, models: Iterable[LLM], limits: Iterable[Limit] = ()) -> None:
        self._models = _columns(models)
        if not self._models:
            raise PoolError("a pool needs at least one model, got none")
        self._at: dict[str, int] = {}
        for at, model in enumerate(self._models):
            if model.name in self._at:
                raise PoolError(f"model {model.name!r} is in the pool twice")
            self._at[model.name] = at
        self._limits = self._checked_limits(limits)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of the pool."""
        return tuple(self._at)

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits that several models share."""
        return self._limits

    def columns(self, name: str) -> tuple[int, ...]:
        """Return the positions that a name stands for: one column, or every effort and lane of a model.

        Raises
        ------
        PoolError
            Neither a column nor a model of the pool has this name; the near one is named.
        """
        if name in self._at:
            return (self._at[name],)
        found = tuple(at for at, model in enumerate(self._models) if model.identity == name)
        return found or (self.index(name),)

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
            several = [model.name for model in self._models if model.identity == value]
            if several:
                raise PoolError(f"model {value!r} is in the pool as {', '.join(several)}; name one of them")
            raise PoolError(f"there is no model {value!r} in the pool{did_you_mean(value, self.names)}")
        return self._at[value]

    def select(self, names: Iterable[str]) -> Pool:
        """Return the pool of these models alone, in the order given, with the limits that still concern them.

        Raises
        ------
        PoolError
            A name is not in the pool, or none is given.
        """
        if isinstance(names, str):
            raise PoolError(f"select takes a sequence of names, got the text {names!r}")
        return self._with([self[name] for name in names])

    def replace(self, name: str, **changes: Any) -> Pool:
        """Return the pool with some fields of one model changed."""
        at = self.index(name)
        changed = replace(self._models[at], **changes)
        return Pool([*self._models[:at], changed, *self._models[at + 1 :]], self._renamed(name, changed.name))

    def with_limits(self, *limits: Limit) -> Pool:
        """Return the pool with these shared limits in place of its own."""
        return Pool(self._models, limits)

    def with_scores(
        self,
        name: str,
        scores: Mapping[str, float],
        *,
        mean_tokens: float | None = None,
        source: str | None = None,
    ) -> Pool:
        """Return the pool with what is known of a model without a label.

        Parameters
        ----------
        name : str
            A model of the pool; every effort and lane of it, where it is there in several.
        scores : mapping of str to float
            Shares from 0 to 1 by benchmark or benchmark and category: ``{"mmlu_pro": 0.81, "mmlu_pro/law":
            0.61}``. Added to those it has; the same benchmark is replaced.
        mean_tokens : float, optional
            Output tokens of its answers on average.
        source : str, optional
            Who measured them: ``"vendor"``, ``"own harness"``.

        Raises
        ------
        PoolError
            The name is not in the pool, or a score lies outside 0 to 1. A benchmark that no board lists is
            kept; `Router.knowledge` says that it is not used.
        """
        models = list(self._models)
        for at in self.columns(name):
            given = {benchmark_key(key) for key in scores}
            known = {k: v for k, v in (models[at].scores or {}).items() if benchmark_key(k) not in given}
            changes: dict[str, Any] = {"scores": {**known, **scores}}
            if mean_tokens is not None:
                changes["mean_tokens"] = mean_tokens
            if source is not None:
                changes["scores_source"] = source
            models[at] = replace(models[at], **changes)
        return Pool(models, self._limits)

    def __len__(self) -> int:
        return len(self._models)

    def __iter__(self) -> Iterator[LLM]:
        return iter(self._models)

    def __contains__(self, item: object) -> bool:
        return item in self._at if isinstance(item, str) else item in self._models

    def __getitem__(self, key: Any) -> Any:
        return self._models[self.index(key) if isinstance(key, str) else key]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pool):
            return NotImplemented
        return self._models == other._models and self._limits == other._limits

    def __hash__(self) -> int:
        return hash(self.names)

    def __repr__(self) -> str:
        return f"Pool({len(self)} models: {', '.join(self.names)})"

    @classmethod
    def of(cls, *models: str | LLM, price_date: str | None = None) -> Pool:
        """Make a pool of models by name, with prices, windows and abilities from the catalogue that ships.

        Parameters
        ----------
        *models : str or LLM
            Any spelling of a name, with the effort and lane behind it where they matter: ``"gpt-5-mini"``,
            ``"anthropic/claude-opus-5.5"``, ``"o3@low"``, ``"gpt-5-mini@batch"``. An `LLM` is taken as it is.
        price_date : str, optional
            A day (``"2025-05-01"``) whose prices are taken from the `genai-prices` package (extra
            ``prices``), in place of the snapshot's; of the standard lane alone.

        Raises
        ------
        PoolError
            A name is in no catalogue (near names are told), has no price of its own, or names a model that
            is there already.

        Examples
        --------
        >>> pool = Pool.of("gpt-5-mini", "claude-sonnet-4.5")
        >>> pool["gpt-5-mini"].cached_input_price < pool["gpt-5-mini"].input_price
        True
        """
        from eccos_rs.pools.catalogued import pool_of_names

        return cls(pool_of_names(models, price_date))

    @classmethod
    def usual(cls) -> Pool:
        """Return six widely used models of three providers and one open-weight family, from the catalogue.

        Examples
        --------
        >>> len(Pool.usual())
        6
        """
        return cls.of(*USUAL)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Pool:
        """Read a pool file.

        Parameters
        ----------
        path : str or path
            A TOML file with ``schema_version = 1``, one ``[[model]]`` table for each model and one
            ``[[limit]]`` table for each limit that several share.

        Returns
        -------
        Pool

        Raises
        ------
        PoolError
            The file is not there or malformed; a key is unknown (the near one is named), a price missing.
        """
        try:
            text = Path(path).read_bytes().decode("utf-8-sig")
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
        from eccos_rs.pools.pool_file import parse

        return cls(*parse(text, SCHEMA_VERSION))

    def to_toml(self) -> str:
        """Return the text of the pool file that `load` reads back as this pool."""
        from eccos_rs.pools.pool_file import render

        return render(self._models, self._limits, SCHEMA_VERSION)

    def _with(self, models: list[LLM]) -> Pool:
        there = {word for model in models for word in (model.name, model.identity)}
        kept = [
            replace(limit, models=tuple(name for name in limit.models if name in there))
            for limit in self._limits
            if any(name in there for name in limit.models)
        ]
        return Pool(models, kept)

    def _renamed(self, old: str, new: str) -> list[Limit]:
        return [
            replace(limit, models=tuple(new if name == old else name for name in limit.models))
            for limit in self._limits
        ]

    def _checked_limits(self, limits: Iterable[Limit]) -> tuple[Limit, ...]:
        checked = tuple(limits)
        for limit in checked:
            if not isinstance(limit, Limit):
                raise PoolError(f"a shared limit must be a Limit, got {type(limit).__name__}")
            for name in limit.models:
                try:
                    self.columns(name)
                except PoolError as error:
                    raise PoolError(f"limit {limit.name!r}: {error}") from None
        for name, times in Counter(limit.name for limit in checked).items():
            if times > 1:
                raise PoolError(f"limit {name!r} is in the pool twice")
        return checked


def _columns(models: Iterable[LLM]) -> tuple[LLM, ...]:
    """Name the entries of one model by effort and lane, where their names alone would be the same."""
    entries = tuple(models)
    for at, model in enumerate(entries):
        if not isinstance(model, LLM):
            raise PoolError(f"model {at} of the pool must be an LLM, got {type(model).__name__}")
    times = Counter(model.name for model in entries)
    return tuple(_column(model) if times[model.name] > 1 else model for model in entries)


def _column(model: LLM) -> LLM:
    name, effort, lane = model.key
    label = "@".join(word for word in (name, effort, lane) if word)
    return model if label == model.name else replace(model, name=label, model=name)
