"""A drop-in for the smart routing of AIOS (``aios/llm_core/routing.py``); see docs/aios.md."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.errors import InputError, PoolError
from eccos_rs.integrations.pricing import price_map, priced_llm
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.pool import LLM, Pool
from eccos_rs.routing.query import Query
from eccos_rs.routing.router import Router
from eccos_rs.session import DualController
from eccos_rs.solver.assignment import assign

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from numpy.typing import NDArray

    from eccos_rs.predict.protocol import Prediction, Predictor
    from eccos_rs.routing.problem import Problem

__all__ = ["EccosRouting"]

_CONCURRENCY = ("max_concurrency", "max_concurrent_requests", "concurrency", "slots")
"""Keys that state how many requests a model takes at once, for a model or, in ``router``, for each."""

_LISTED = ("input_cost_per_token", "output_cost_per_token", "cost_per_input_token", "cost_per_output_token")


class EccosRouting:
    """Takes the place of AIOS's ``SmartRouting``: the same call, a joint choice under prices and concurrency.

    Parameters
    ----------
    llm_configs : sequence of mapping or object
        AIOS's models, each with a ``name``; the indices that come back count in this list.
    bootstrap_url : path, optional
        AIOS's bootstrap file on this machine. Given, quality and length come from its labelled queries, found
        with the bundle's encoder; else from the bundle's own predictor. Nothing is downloaded.
    performance_requirement : float
        Mean predicted success that the stream of queries is to keep. (AIOS asks it of every single query.)
    n_similar : int
        Neighbours looked at, with a bootstrap file.
    predictor : Predictor, optional
        In place of the shipped bundle's.
    pool : Pool or path, optional
        Prices and abilities by model name. A config's own ``input_cost_per_token`` and
        ``output_cost_per_token`` go first; then this pool, the bundle's, and LiteLLM's map.
    policy : Policy, optional
        In place of `performance_requirement`.
    config : mapping, optional
        AIOS's whole configuration (``config.config``): the concurrency of each of ``llms.models`` and the
        default in ``llms.router`` are read from it.
    aliases : mapping of str to str, optional
        From AIOS's name of a model to the one the predictor (or the bootstrap file) has for it.

    Raises
    ------
    PoolError
        A model has no known price, or the predictor does not know it; the model is named.
    InputError
        `bootstrap_url` is an address, not a file.

    Examples
    --------
    >>> routing = EccosRouting([{"name": "gpt-4o"}, {"name": "llama-3.1-8b"}])  # doctest: +SKIP
    >>> chat = [{"role": "user", "content": "Hi"}]
    >>> routing.get_model_idxs([[{"name": "gpt-4o"}]], [chat])  # doctest: +SKIP
    [0]
    """

    def __init__(
        self,
        llm_configs: Sequence[Any],
        bootstrap_url: str | PathLike[str] | None = None,
        performance_requirement: float = 0.7,
        n_similar: int = 128,
        *,
        predictor: Predictor | None = None,
        pool: Pool | str | PathLike[str] | None = None,
        policy: Policy | None = None,
        config: Mapping[str, Any] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.llm_configs = llm_configs
        self.available_models = [_name(each) for each in llm_configs]
        self._policy = Policy(min_quality=performance_requirement) if policy is None else policy
        if self._policy.budget is not None:
            raise InputError("policy: a budget is for a session; here give min_quality or quality_value")
        self._aliases = dict(aliases or {})
        shipped = Router.load() if predictor is None else None
        known = pool if isinstance(pool, Pool) else Pool.load(pool) if pool is not None else None
        made = _pool(llm_configs, known, shipped.pool if shipped else None, self._aliases, config or {})
        source = predictor if shipped is None else shipped.predictor
        assert source is not None  # one of the two was there
        if bootstrap_url is not None:
            source = self._bootstrap(bootstrap_url, source, n_similar)
        self.router = Router(made, _Renamed(source, made.names, self._aliases), self._policy)
        self._controller = DualController(self._policy, len(made))
        self._lock = threading.Lock()

    def _bootstrap(self, place: str | PathLike[str], encoder: Predictor, neighbours: int) -> Predictor:
        from eccos_rs.integrations.bootstrap import StorePredictor

        if str(place).startswith(("http://", "https://")):
            raise InputError(
                f"bootstrap_url: got the address {place}; nothing is downloaded here. Fetch the file once "
                "and give its path"
            )
        models = [self._aliases.get(name, name) for name in self.available_models]
        return StorePredictor.load(place, encoder, models, neighbours=neighbours)

    def get_model_idxs(
        self,
        selected_llm_lists: Sequence[Sequence[Any] | None],
        queries: Sequence[str | Sequence[Mapping[str, Any]]],
    ) -> list[int]:
        """Choose a model for every query of a batch.

        Parameters
        ----------
        selected_llm_lists : sequence of sequences
            For each query the models it may go to: mappings with ``name``, or names; none or an empty list
            allows all.
        queries : sequence of chats or str
            Message lists, or plain texts.

        Returns
        -------
        list of int
            Indices into `llm_configs`. Queries beyond the models' concurrency are spread as a next wave, in
            the same proportions.

        Raises
        ------
        InputError
            The two lists differ in length.
        PoolError
            A candidate is none of `llm_configs`; the near name is given.
        NoModelError
            No candidate of a query may take it.
        """
        if len(selected_llm_lists) != len(queries):
            raise InputError(
                f"selected_llm_lists has {len(selected_llm_lists)} entries and queries {len(queries)}; "
                "wanted one list of candidates a query"
            )
        if not len(queries):
            return []
        batch = [
            self._query(query, selected) for query, selected in zip(queries, selected_llm_lists, strict=True)
        ]
        prediction = self.router.predict(batch)
        with self._lock:
            return self._choose(batch, prediction)

    def _query(self, query: str | Sequence[Mapping[str, Any]], selected: Sequence[Any] | None) -> Query:
        names = [_name(each) for each in selected or ()]
        for name in names:
            self.router.pool.index(name)
        models = tuple(dict.fromkeys(names)) or None
        if not query:
            # A call without messages gets an error of AIOS's own later; the batch must not fail for it.
            return Query("", models=models)
        if isinstance(query, str):
            return Query(query, models=models)
        return Query(messages=tuple(query), models=models)

    def _choose(self, batch: list[Query], prediction: Prediction) -> list[int]:
        problem = self.router.problem(prediction, batch, self._policy)
        tokens = problem.output_tokens + problem.input_tokens[:, None]
        controller = self._controller
        controller.history.add(problem.cost, problem.quality, tokens, problem.allowed)
        if controller.due(0.0):
            # AIOS waits for a batch before it sends the next: there is no stream whose slots could be priced.
            controller.update(now=0.0)
        model = _waves(problem, self._policy, controller.price or 0.0)
        rows = np.arange(len(model))
        controller.count(float(problem.quality[rows, model].sum()), len(model))
        return [int(at) for at in model]


def _waves(problem: Problem, policy: Policy, price: float) -> NDArray[np.int64]:
    """Assign all rows, as many times over the capacities as it takes."""
    model = np.full(len(problem.cost), -1, dtype=np.int64)
    left = np.arange(len(model))
    while len(left):
        found = assign(
            problem.cost[left],
            problem.quality[left],
            quality_value=price,
            allowed=problem.allowed[left],
            load=None if problem.load is None else problem.load[:, left],
            capacity=problem.capacity,
            tolerance=policy.tolerance,
            time_limit=policy.time_limit,
        )
        model[left] = found.model
        if (found.model < 0).all():
            raise PoolError("no model has a slot: the concurrency of every candidate is 0")
        left = left[found.model < 0]
    return model


class _Renamed:
    """A predictor under AIOS's names."""

    def __init__(self, predictor: Predictor, names: Sequence[str], aliases: Mapping[str, str]) -> None:
        self.models = tuple(names)
        self._inner = predictor
        self._asked = [aliases.get(name, name) for name in names]
        unknown = [name for name in self._asked if name not in predictor.models]
        if unknown:
            raise PoolError(
                f"the predictor does not know {', '.join(map(repr, unknown))}; it knows "
                f"{', '.join(predictor.models)}. Give aliases={{...}}, a bootstrap file, or a bundle that "
                "was trained on it"
            )

    def predict(self, queries: Sequence[Query]) -> Prediction:
        return replace(self._inner.predict(queries).select(self._asked), models=self.models)


def _name(config: Any) -> str:
    name = config if isinstance(config, str) else _get(config, "name")
    if not isinstance(name, str) or not name:
        raise PoolError(f"a model of AIOS needs a name, got {config!r}")
    return name


def _get(config: Any, key: str) -> Any:
    return config.get(key) if isinstance(config, Mapping) else getattr(config, key, None)


def _pool(
    configs: Sequence[Any],
    given: Pool | None,
    shipped: Pool | None,
    aliases: Mapping[str, str],
    config: Mapping[str, Any],
) -> Pool:
    llms = config.get("llms") or {}
    listed = {_name(each): each for each in llms.get("models") or ()}
    default = _concurrency(llms.get("router") or {})
    models = []
    for each in configs:
        name = _name(each)
        # AIOS's own objects keep no price and no concurrency; config.yaml has them.
        places = each, listed.get(name) or {}
        slots = next((count for place in places if (count := _concurrency(place)) is not None), default)
        stated = next((prices for place in places if (prices := _prices(place))), {})
        known = [pool for pool in (given, shipped) if pool is not None]
        models.append(_llm(each, stated, known, aliases, slots))
    return Pool(models)


def _concurrency(config: Any) -> int | None:
    for key in _CONCURRENCY:
        value = _get(config, key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise PoolError(f"{key} must be a whole number of at least 1, got {value!r}")
        return value
    return None


def _prices(config: Any) -> dict[str, Any]:
    return {_new_key(key): _get(config, key) for key in _LISTED if _get(config, key) is not None}


def _llm(
    config: Any,
    stated: Mapping[str, Any],
    pools: Sequence[Pool],
    aliases: Mapping[str, str],
    slots: int | None,
) -> LLM:
    name = _name(config)
    if not stated:
        for pool in pools:
            for known in (name, aliases.get(name, name)):
                if known in pool.names:
                    found: LLM = pool[known]
                    return replace(found, name=name, slots=slots or found.slots)
    # AIOS checks no abilities: a model it lists is taken to have them.
    backend = _get(config, "backend")
    model = f"{backend}/{name}" if isinstance(backend, str) and "/" not in name else name
    prices = {} if len(stated) == 2 else price_map()
    return priced_llm(model, prices, name=name, given=stated, slots=slots, tools=True, vision=True)


def _new_key(key: str) -> str:
    return key if key.endswith("_per_token") else f"{key.split('_')[2]}_cost_per_token"
