"""A drop-in for the smart routing of AIOS (``aios/llm_core/routing.py``); see docs/aios.md."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.domain.query import Query
from eccos_rs.errors import InputError, PoolError, QueryError
from eccos_rs.integrations.aios_models import (
    model_name,
    model_slots,
    name_or_none,
    priced_models,
)
from eccos_rs.pools.pool import Pool
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router
from eccos_rs.routing.workload import refuse_priced
from eccos_rs.session import DualController
from eccos_rs.solver.assignment import assign

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    from numpy.typing import NDArray

    from eccos_rs.predict.protocol import Prediction, Predictor
    from eccos_rs.routing.problem import Problem

__all__ = ["EccosRouting"]

logger = logging.getLogger("eccos_rs.integrations")

_SETTLED = 256
"""Queries from which on a price is kept for some batches."""


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
        A model has no name, or a price or a concurrency that is no number.
    InputError
        `bootstrap_url` is an address, not a file.

    Notes
    -----
    A model without a known price, or one that the predictor does not know, does not stop the kernel: it is
    logged and not routed to.

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
        self.available_models = [model_name(each) for each in llm_configs]
        self._policy = Policy(min_quality=performance_requirement) if policy is None else policy
        if self._policy.budget is not None:
            raise InputError("policy: a budget is for a session; here give min_quality or quality_value")
        self._aliases = dict(aliases or {})
        shipped = Router.load() if predictor is None else None
        known = pool if isinstance(pool, Pool) else Pool.load(pool) if pool is not None else None
        source = predictor if shipped is None else shipped.predictor
        assert source is not None  # one of the two was there
        if bootstrap_url is not None:
            source = self._bootstrap(bootstrap_url, source, n_similar)
        self._unknown: set[str | None] = set()
        models = priced_models(
            llm_configs,
            [pool for pool in (known, shipped.pool if shipped else None) if pool is not None],
            self._aliases,
            config or {},
        )
        kept = [model for model in models if self._aliases.get(model.name, model.name) in source.models]
        self._slots = model_slots(llm_configs, config or {})
        self.router: Router | None = None
        if kept:
            made = Pool(kept)
            refuse_priced(made, self._policy, "AIOS hands over requests as they come")
            self.router = Router(made, _Renamed(source, made.names, self._aliases), self._policy)
        for name in self.available_models:
            if self.router is None or name not in self.router.pool.names:
                self._unknown.add(name)
                logger.warning(
                    "model %r is not routed by eccos: it has no known price, or the predictor does not "
                    "know it (it knows %s); give aliases, prices, or a bootstrap file",
                    name,
                    ", ".join(source.models),
                )
        self._controller = DualController(self._policy, max(len(kept), 1))
        self._lock = threading.Lock()

    def _bootstrap(self, place: str | PathLike[str], encoder: Predictor, neighbours: int) -> Predictor:
        from eccos_rs.integrations.bootstrap import StorePredictor

        if str(place).startswith(("http://", "https://")):
            raise InputError(
                f"bootstrap_url: got the address {place}; nothing is downloaded here. Fetch the file once "
                "and give its path"
            )
        models = [self._aliases.get(name, name) for name in self.available_models]
        return StorePredictor.load(place, encoder, models, neighbours=neighbours, skip_missing=True)

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
            Indices into `llm_configs`, as it stands now: AIOS adds models while it runs. Queries beyond the
            models' concurrency are spread as a next wave, in the same proportions; see `limited`.

        Raises
        ------
        InputError
            The two lists differ in length.

        Notes
        -----
        Models that are not routed here (registered at run time, without a price, unknown to the predictor)
        are taken out of a query's candidates. A query with no candidate left, with messages that are none, or
        too long for all of its candidates goes to the first of them that AIOS has, else to index 0, as with
        ``SmartRouting``; the log says so. It never fails the others.
        """
        if len(selected_llm_lists) != len(queries):
            raise InputError(
                f"selected_llm_lists has {len(selected_llm_lists)} entries and queries {len(queries)}; "
                "wanted one list of candidates per query"
            )
        places = {model_name(each): at for at, each in reversed(list(enumerate(self.llm_configs)))}
        chosen = [self._fallback(selected, places) for selected in selected_llm_lists]
        rows, batch = [], []
        for at, (query, selected) in enumerate(zip(queries, selected_llm_lists, strict=True)):
            made = self._query(query, selected)
            if made is not None:
                rows.append(at)
                batch.append(made)
        if self.router is None or not batch:
            return chosen
        prediction = self.router.predict(batch)
        with self._lock:
            models = self._choose(self.router, batch, prediction)
        for at, model in zip(rows, models, strict=True):
            if model >= 0 and self.router.pool.names[model] in places:
                chosen[at] = places[self.router.pool.names[model]]
        return chosen

    def limited(
        self, process: Callable[[int, list[Any]], list[Any]]
    ) -> Callable[[int, list[Any]], list[Any]]:
        """Let AIOS send each model no more queries at once than its ``max_concurrency``.

        Parameters
        ----------
        process : callable
            ``LLMAdapter._process_batch_for_model``: takes a model's index and its tasks, and runs them all at
            once.

        Returns
        -------
        callable
            Takes its place: runs them wave by wave.
        """

        def process_in_waves(model_idx: int, tasks: list[Any]) -> list[Any]:
            name = model_name(self.llm_configs[model_idx])
            pool = None if self.router is None else self.router.pool
            slots = self._slots.get(name) if pool is None or name not in pool.names else pool[name].slots
            wave = slots or max(len(tasks), 1)
            done: list[Any] = []
            for start in range(0, len(tasks), wave):
                done += process(model_idx, tasks[start : start + wave])
            return done

        return process_in_waves

    def _fallback(self, selected: Sequence[Any] | None, places: Mapping[str, int]) -> int:
        names = (name_or_none(each) for each in selected or ())
        return next((places[name] for name in names if name is not None and name in places), 0)

    def _query(self, query: Any, selected: Sequence[Any] | None) -> Query | None:
        """Make a query of what AIOS hands over; None when it cannot be routed, which is logged."""
        if self.router is None:
            return None
        names = [name_or_none(each) for each in selected or ()]
        known = tuple(dict.fromkeys(name for name in names if name in self.router.pool.names))
        for name in names:
            if name not in self.router.pool.names and name not in self._unknown:
                self._unknown.add(name)
                logger.warning("model %r is not routed by eccos: it was taken out of the candidates", name)
        if names and not known:
            return None
        models = known or None
        try:
            if not query:
                # A call without messages gets an error of AIOS's own later; the batch must not fail for it.
                return Query("", models=models)
            return (
                Query(query, models=models)
                if isinstance(query, str)
                else Query(messages=tuple(query), models=models)
            )
        except (QueryError, TypeError) as error:
            logger.error("a query's messages are malformed, it goes to its first candidate: %s", error)
            return None

    def _choose(self, router: Router, batch: list[Query], prediction: Prediction) -> list[int]:
        policy = self._policy.replace(unroutable="defer")
        problem = router.problem(prediction, batch, policy)
        for row, reason in problem.unroutable.items():
            logger.warning("query %d of the batch goes to its first candidate: %s", row, reason)
        rows = np.flatnonzero(problem.allowed.any(axis=1))
        model = np.full(len(batch), -1, dtype=np.int64)
        if not len(rows):
            return model.tolist()
        tokens = problem.output_tokens + problem.input_tokens[:, None]
        controller = self._controller
        controller.history.add(problem.cost[rows], problem.quality[rows], tokens[rows], problem.allowed[rows])
        now = time.monotonic()
        # AIOS waits for a batch before it sends the next: there is no stream whose slots could be priced. A
        # price that a handful of queries made says little of the next batch: until many are known it is made
        # anew.
        if controller.due(now) or len(controller.history) < _SETTLED:
            controller.update(now=now)
        model[rows] = _waves(problem, rows, self._policy, controller.price or 0.0)
        assigned = model >= 0
        controller.count(float(problem.quality[assigned, model[assigned]].sum()), int(assigned.sum()))
        return [int(at) for at in model]


def _waves(problem: Problem, rows: NDArray[np.int64], policy: Policy, price: float) -> NDArray[np.int64]:
    """Assign these rows, as many times over the capacities as it takes; -1 where no slot ever comes."""
    model = np.full(len(problem.cost), -1, dtype=np.int64)
    left = rows
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
            break
        left = left[found.model < 0]
    return model[rows]


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
