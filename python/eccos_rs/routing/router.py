"""A configured router: queries, pool, predictor and policy make a plan."""

from __future__ import annotations

from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self

from eccos_rs.errors import InputError, Overloaded, PolicyError, PoolError
from eccos_rs.pools.pool import LLM, Pool
from eccos_rs.predict.protocol import Prediction, Predictor
from eccos_rs.routing.batch import Item, as_queries, predict_slices
from eccos_rs.routing.blame import blame_rows
from eccos_rs.routing.knowing import Knowing
from eccos_rs.routing.plan import Plan
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.problem import Problem, build_problem, query_costs
from eccos_rs.routing.promise import solve
from eccos_rs.solver.assignment import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from os import PathLike

    import numpy as np
    from numpy.typing import NDArray

    from eccos_rs.domain.query import Query
    from eccos_rs.records import Record, RecordTable

__all__ = ["Router"]


class Router(Knowing):
    """Routes batches to the models of one pool.

    Parameters
    ----------
    pool : Pool
        The models to route among; the predictor must know each of them.
    predictor : Predictor
        Text to predicted success and output length.
    policy : Policy, optional
        The default of `route`; without one it is ``Policy()``.

    Raises
    ------
    PoolError
        The predictor does not know a model of the pool.

    Examples
    --------
    >>> router = Router.load()
    >>> plan = router.route(["What is 2 + 2?"], min_quality=0.7)
    >>> plan.models[0] in router.pool.names, plan.mean_quality >= 0.7
    (True, True)
    """

    def __init__(self, pool: Pool, predictor: Predictor, policy: Policy | None = None) -> None:
        if not isinstance(pool, Pool):
            raise PoolError(f"pool must be a Pool, got {type(pool).__name__}")
        if not isinstance(predictor, Predictor):
            raise InputError(
                f"predictor must have models and predict(queries), got {type(predictor).__name__}"
            )
        if policy is not None and not isinstance(policy, Policy):
            raise PolicyError(f"policy must be a Policy, got {type(policy).__name__}")
        unknown = [name for name in pool.names if name not in predictor.models]
        if unknown:
            raise PoolError(
                f"the predictor does not know {', '.join(map(repr, unknown))}; it knows "
                f"{', '.join(predictor.models)}. Router.day_one(pool) knows any model by its published "
                "scores; or train the predictor with that model's records, or leave the model out"
            )
        self.pool = pool
        self.predictor = predictor
        self.policy = Policy() if policy is None else policy

    @classmethod
    def load(
        cls,
        path_or_name: str | PathLike[str] | None = None,
        *,
        predictor: str = "hybrid",
        device: str = "auto",
        pool: Pool | str | PathLike[str] | None = None,
        policy: Policy | None = None,
        threads: int | None = None,
    ) -> Router:
        """Make a router of a bundle.

        Parameters
        ----------
        path_or_name : str or path, optional
            A bundle's folder or the name of a shipped one. None takes the trained one inside the wheel, or,
            where `pool` holds a model it was not trained on, the one that names no model (see `day_one`).
        predictor : {"hybrid", "trained", "retrieval"}
        device : {"auto", "cpu", "cuda"}
            ``auto`` takes CUDA where it can really be started, else the CPU; `Plan.device` says which.
        pool : Pool or path, optional
            In place of the bundle's own: other prices, limits, endpoints, or fewer models.
        policy : Policy, optional
        threads : int, optional
            For the encoder on a CPU; None chooses.

        Returns
        -------
        Router

        Raises
        ------
        BundleError, DeviceError, PoolError
        """
        from eccos_rs.pools.columns import renamed_columns
        from eccos_rs.predict.bundle import Bundle
        from eccos_rs.predict.open import open_predictor

        # The pool first: it is read in no time, and a typo in it should not wait for the weights.
        own = pool if pool is None or isinstance(pool, Pool) else Pool.load(pool)
        bundle = Bundle.load(path_or_name)
        own = own if own is None else renamed_columns(own, bundle.models)
        if path_or_name is None and own is not None and set(own.names) - set(bundle.models):
            return cls.day_one(own, device=device, policy=policy, threads=threads)
        if own is None:
            own = Pool.load(bundle.pool_path) if bundle.has_pool else Pool.usual()
        made = open_predictor(bundle, predictor, device=device, threads=threads, pool=own)
        return cls(own, made, policy)

    @classmethod
    def day_one(
        cls,
        pool: Pool | str | PathLike[str] | None = None,
        *,
        device: str = "auto",
        policy: Policy | None = None,
        threads: int | None = None,
    ) -> Router:
        """Make a router of names and published scores alone: no label of these models is needed.

        Parameters
        ----------
        pool : Pool or path, optional
            Any models; `Pool.of` makes one of names, `Pool.with_scores` says what is known of a model of
            one's own. None takes six widely used ones.
        device, policy, threads
            As in `load`.

        Returns
        -------
        Router
            `knowledge` says what the forecasts of each model rest on; `learn` sharpens them.

        Examples
        --------
        >>> router = Router.day_one(Pool.of("gpt-5-mini", "claude-sonnet-4.5"))
        >>> [row.tells_apart for row in router.knowledge()]
        [False, False]
        """
        from eccos_rs.predict.bundle import DAY_ONE_BUNDLE, Bundle
        from eccos_rs.predict.open import open_predictor

        own = Pool.usual() if pool is None else pool if isinstance(pool, Pool) else Pool.load(pool)
        bundle = Bundle.load(DAY_ONE_BUNDLE)
        made = cls(own, open_predictor(bundle, device=device, threads=threads, pool=own), policy)
        made.usual = pool is None
        return made

    @property
    def device(self) -> str | None:
        """Where the predictor runs, when it says so."""
        device = getattr(self.predictor, "device", None)
        return None if device is None else str(device)

    def __repr__(self) -> str:
        goal, value = self.policy.goal
        return f"Router({', '.join(self.pool.names)}; {goal}={value:g}; {type(self.predictor).__name__})"

    def add_model(self, model: LLM, records: Iterable[Record] | RecordTable) -> Self:
        """Add a model that the predictor was not trained on, from some dozens of labelled queries.

        Parameters
        ----------
        model : LLM
            With its prices; its name is that of the records' outputs.
        records : iterable of Record, or RecordTable
            Queries with an answer of this model, 50 to 500 of them. They should be like the traffic, and not
            those the predictor was trained on: it knows those too well.

        Returns
        -------
        Router
            This one; batches that are being routed meanwhile keep the old pool.

        Raises
        ------
        PoolError
            The pool has a model of this name already.
        InputError
            The predictor knows the model already, or there are too few labels.

        Notes
        -----
        Nothing is retrained: see `eccos_rs.predict.onboarding`. With thousands of labels ``eccos train`` does
        better.
        """
        from eccos_rs.routing.add_model import with_new_model

        if not isinstance(model, LLM):
            raise PoolError(f"model must be an LLM, got {type(model).__name__}")
        pool = Pool([*self.pool, model])
        # In this order: a batch that meets the new pool meets a predictor that knows it.
        self.predictor = with_new_model(self.predictor, model.name, records)
        self.pool = pool
        return self

    def predict(
        self, batch: Iterable[Item], *, progress: Callable[[int], object] | None = None
    ) -> Prediction:
        """Predict success and output length.

        Parameters
        ----------
        batch : iterable of str, chat, mapping or Query
        progress : callable, optional
            Called with the number of queries that were just done.

        Returns
        -------
        Prediction
            N rows in the order of the batch, M columns in the order of the pool.
        """
        queries = as_queries(batch)
        return predict_slices(self.pool.names, self.predictor, queries, progress, keep_embedding=True)

    def costs(self, prediction: Prediction, queries: Sequence[Query] | None = None) -> NDArray[np.float64]:
        """Return what each query would cost at each model.

        Parameters
        ----------
        prediction : Prediction
            Columns in the order of the pool.
        queries : sequence of Query, optional
            For their `max_output_tokens`, above which nothing is priced.

        Returns
        -------
        ndarray of float64, shape (N, M)
            US dollars.
        """
        return query_costs(self.pool, prediction, queries)

    def problem(
        self, prediction: Prediction, queries: Sequence[Query], policy: Policy | None = None
    ) -> Problem:
        """Return the arrays that `assign` is given for these queries: costs, hard needs, capacities.

        Raises
        ------
        NoModelError
            No model may take a query, and the policy does not defer such queries.
        """
        return build_problem(self.pool, prediction, queries, self.policy if policy is None else policy)

    def _problem(
        self, pool: Pool, queries: Sequence[Query], policy: Policy, progress: Callable[[int], object] | None
    ) -> tuple[Prediction, Problem]:
        prediction = predict_slices(pool.names, self.predictor, queries, progress, keep_embedding=False)
        return prediction, build_problem(pool, prediction, queries, policy)

    def route(
        self,
        batch: Iterable[Item],
        *,
        policy: Policy | None = None,
        progress: Callable[[int], object] | None = None,
        **policy_fields: Any,
    ) -> Plan:
        """Choose a model for every query of a batch.

        Parameters
        ----------
        batch : iterable of str, chat, mapping or Query
            A chat is a list of messages. An empty batch gives an empty plan.
        policy : Policy, optional
            In place of the router's own.
        progress : callable, optional
            Called with the number of queries that were just predicted.
        **policy_fields
            Fields of `Policy` that are changed for this call, such as ``min_quality=0.8``.

        Returns
        -------
        Plan
            What cannot be met is told by its `status`, with the best that can be had.

        Raises
        ------
        QueryError, PolicyError
            Something passed in is malformed; the sentence names it.
        NoModelError
            No model may take a query, and the policy does not defer such queries.
        Overloaded
            The capacity is short and the policy says ``overload="raise"``.
        """
        start = perf_counter()
        policy = self.policy if policy is None else policy
        if policy_fields:
            policy = _replaced(policy, policy_fields)
        if policy.per is not None:
            raise PolicyError(f"per={policy.per!r} paces a session; a batch's budget is for the batch alone")
        queries, pool = as_queries(batch), self.pool
        self._remember(queries)
        with blame_rows(queries, lambda one: self._problem(pool, one, policy, None)):
            prediction, problem = self._problem(pool, queries, policy, progress)
        before = perf_counter()
        assignment, promised, margin = solve(problem, policy)
        after = perf_counter()
        seconds = {**prediction.seconds, "assign": after - before}
        seconds["other"] = max(0.0, perf_counter() - start - sum(seconds.values()))
        plan = Plan(
            queries=tuple(queries),
            pool=pool,
            policy=policy,
            prediction=prediction,
            problem=problem,
            assignment=assignment,
            promised=promised,
            margin=margin,
            device=self.device,
            seconds=seconds,
            basis=self.basis,
        )
        if policy.overload == "raise" and plan.status is Status.OVERLOADED:
            raise Overloaded(plan.explanation or "the capacities are below the demand")
        return plan


def _replaced(policy: Policy, fields: dict[str, Any]) -> Policy:
    """Change fields of a policy; a service asks for the same change again and again."""
    try:
        return _known_policy(policy, **fields)
    except TypeError:  # a mapping is no key
        return policy.replace(**fields)


@lru_cache(maxsize=64, typed=True)
def _known_policy(policy: Policy, **fields: Any) -> Policy:
    return policy.replace(**fields)
