"""Which column of a pool a name means: a model by any spelling, at an effort, in a lane."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from eccos_rs.catalogue.models import catalogue
from eccos_rs.catalogue.names import join_options, parse_name, split_options

if TYPE_CHECKING:
    from collections.abc import Collection

    from eccos_rs.domain.llm import LLM
    from eccos_rs.pools.pool import Pool

__all__ = ["find_column", "renamed_columns"]


def find_column(name: str, pool: Pool, *, strict: bool = False) -> int:
    """Return the column that somebody else's name of a model means; -1 for none, or where it may be several.

    Parameters
    ----------
    name : str
        By any spelling, with the effort and the lane behind it where they are known: ``"openai/o3@high"``.
    pool : Pool
    strict : bool
        Whether a column at another effort or in another lane than told does not count. Else a model that is
        in the pool at none in particular stands for it.
    """
    if name in pool.names:
        return pool.index(name)
    model, effort, lane = split_options(name)
    options = (effort or parse_name(model).effort, lane)
    found = [at for at, each in enumerate(pool) if model in _names(each)]
    if not found:
        words = parse_name(model).identity
        found = [at for at, each in enumerate(pool) if parse_name(each.identity).identity == words]
    asked = [at for at in found if pool[at].key[1:] == options]
    if not asked and options[0] is not None and options[0] == _usual_effort(model):
        asked = [at for at in found if pool[at].key[1:] == (None, options[1])]
    if not asked and (not strict or not any(options)):
        asked = [at for at in found if pool[at].key[1:] == (None, None)] if any(options) else found
    return asked[0] if len(asked) == 1 else -1


def renamed_columns(pool: Pool, models: Collection[str]) -> Pool:
    """Return the pool with its columns named as labels name them, ``o3@low``, where only that is in `models`.

    A model that is in the pool at one effort alone goes there by its plain name.
    """
    made = []
    for model in pool:
        column = join_options(*model.key)
        renamed = model.name not in models and column in models and column not in pool.names
        # Shared limits name the column by its model, which stays.
        made.append(replace(model, name=column, model=model.identity) if renamed else model)
    return type(pool)(made, pool.limits) if made != list(pool) else pool


def _names(model: LLM) -> tuple[str | None, ...]:
    return model.name, model.identity, None if model.endpoint is None else model.endpoint.model


def _usual_effort(name: str) -> str | None:
    """Return the effort at which a model works where nobody says."""
    return next((entry.default_effort for entry in catalogue().find(name)), None)
