"""Prompt caches of the pretended providers: what each holds is told by the text that it was sent."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from eccos_rs.errors import PoolError
from eccos_rs.pools.catalogued import llm_of_name
from eccos_rs.pools.pool import Pool
from eccos_rs.routing.prefix import Prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from eccos_rs.domain.llm import LLM
    from eccos_rs.domain.query import Query

__all__ = ["PromptCaches", "cache_models"]

_STEP = 128
"""Tokens in whose multiples a provider counts what it read."""

_LIFETIME = 300.0
"""Seconds, where the model tells none."""

_MOST_MARKS = 1_000_000


def cache_models(given: str, names: Iterable[str]) -> dict[str, LLM]:
    """Return the models whose caches are kept: of a pool file, or of the catalogue, as far as it knows them.

    Raises
    ------
    PoolError
        The file is no pool, or the catalogue knows none of the names.
    """
    wanted, found = tuple(names), {}
    if given != "catalogue":
        pool = Pool.load(Path(given))
        found = {name: pool[name] for name in wanted if name in pool.names}
    else:
        for name in wanted:
            with suppress(PoolError):
                found[name] = llm_of_name(name)
    kept = {name: model for name, model in found.items() if model.cached_input_price is not None}
    if not kept:
        raise PoolError(f"no model of the data has a cached_input_price in {given}, so that none has a cache")
    return kept


class PromptCaches:
    """The caches of a provider's models.

    Parameters
    ----------
    models : mapping of str to LLM
        Their `cache_minimum` and `cache_lifetime` are kept to; one with a `cache_write_price` says what it
        wrote.
    clock : callable
        Seconds that never run backwards.
    """

    def __init__(self, models: Mapping[str, LLM], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._models = models
        self.clock = clock
        self._used: dict[str, dict[int, float]] = {name: {} for name in models}

    def read(self, name: str, query: Query, tokens: int) -> dict[str, int] | None:
        """Read a prompt of so many tokens; return what a usage says, None for a model without a cache."""
        model = self._models.get(name)
        if model is None:
            return None
        now, used, prefix = self.clock(), self._used[name], Prefix.of(query)
        lifetime = _LIFETIME if model.cache_lifetime is None else model.cache_lifetime
        held = int(tokens * prefix.share_until(lambda mark: now - used.get(mark, -1e300) < lifetime))
        held -= held % _STEP
        if held < max(model.cache_minimum or 0, _STEP):
            held = 0
        if tokens >= (model.cache_minimum or 0):
            # The newest last, so that the oldest are the first to be forgotten.
            for mark in prefix.marks:
                used.pop(mark, None)
                used[mark] = now
            while len(used) > _MOST_MARKS:
                del used[next(iter(used))]
        told = {"cached_tokens": held}
        return told if model.cache_write_price is None else {**told, "cache_write_tokens": tokens - held}
