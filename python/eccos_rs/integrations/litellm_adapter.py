"""What both adapters to LiteLLM share: a session, its leases, and how LiteLLM says that a call has ended."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from eccos_rs.domain.query import Query
from eccos_rs.errors import NoModelError, QueryError
from eccos_rs.integrations.calls import current_call, follow_calls
from eccos_rs.integrations.pricing import (
    chat_deployments,
    import_litellm,
    name_in_pool,
    pool_from_model_list,
)
from eccos_rs.routing.router import Router
from eccos_rs.session import SyncSession

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from os import PathLike

    from eccos_rs.pools.pool import Pool
    from eccos_rs.predict.protocol import Predictor
    from eccos_rs.routing.policy import Policy
    from eccos_rs.session import Lease

__all__ = ["HOLD_SECONDS", "METADATA", "SIGNAL", "Adapter"]

logger = logging.getLogger("eccos_rs.integrations")

SIGNAL = "eccos"
"""What a request carries of its lease, in its metadata or in the plugin's signals."""

HOLD_SECONDS = 600.0
"""After which a lease that LiteLLM never reported on is given back, where nothing else is said."""

_REMEMBERED = 10_000
"""Requests whose failed models are known, should LiteLLM try them again."""

_ENDS = ("success", "failure")

METADATA = ("metadata", "litellm_metadata")
"""LiteLLM keeps a request's metadata under one of these, by endpoint."""


class Adapter:
    """What both adapters share: a session, and what becomes of its leases.

    Parameters
    ----------
    session : SyncSession
    names : mapping of str to str, optional
        From ``litellm_params.model`` to the pool's name.
    hold : float
        Seconds after which a lease that LiteLLM never reported on is given back.
    """

    def __init__(
        self, session: SyncSession, names: Mapping[str, str] | None = None, hold: float = HOLD_SECONDS
    ) -> None:
        self.session = session
        self._names = dict(names or {})
        self._hold = hold
        self._leases: dict[str, Lease] = {}
        self._tried: dict[str, tuple[str, ...]] = {}
        self._turn = itertools.count()
        self._busy: Counter[str | None] = Counter()
        self._lock = threading.Lock()
        self.logger = reporter(self)
        import_litellm().logging_callback_manager.add_litellm_callback(self.logger)

    @classmethod
    def open(
        cls,
        model_list: Iterable[Mapping[str, Any]],
        *,
        predictor: Predictor | None = None,
        bundle: str | PathLike[str] | None = None,
        pool: Pool | None = None,
        policy: Policy | None = None,
        names: Mapping[str, str] | None = None,
        hold: float = HOLD_SECONDS,
        **options: Any,
    ) -> Any:
        """Make an adapter for LiteLLM's deployments.

        Parameters
        ----------
        model_list : iterable of mapping
            The router's own list.
        predictor : Predictor, optional
            In place of a bundle's.
        bundle : str or path, optional
            A bundle's folder, or the name of a shipped one. None takes the trained one inside the wheel, or,
            where a chat model of the list is none that it was trained on, the one that names no model:
            forecasts rest on published scores then (see `Router.day_one`).
        pool : Pool, optional
            In place of `pool_from_model_list`.
        policy : Policy, optional
        names : mapping of str to str, optional
            From ``litellm_params.model`` to what the predictor calls it; by default what stands after the
            provider.
        hold : float
            Seconds after which a lease that LiteLLM never reported on is given back.
        **options
            As for `Session`.

        Raises
        ------
        PoolError
            A model has no price, or the predictor does not know it.
        """
        listed = list(model_list)
        if predictor is None and bundle is None:
            own = pool_from_model_list(chat_deployments(listed), names) if pool is None else pool
            router = Router.load(pool=own, policy=policy)
        else:
            source = Router.load(bundle).predictor if predictor is None else predictor
            own = pool_from_model_list(listed, names, known=source.models) if pool is None else pool
            router = Router(own, source, policy)
        return cls(SyncSession(router, **options), names, hold)

    def pool_name(self, deployment: Mapping[str, Any] | str) -> str | None:
        """Return the pool's name of a deployment, or of a LiteLLM model; None: it is not one of the pool."""
        given = {"litellm_params": {"model": deployment}} if isinstance(deployment, str) else deployment
        known = self.session.session.pool.names
        name = name_in_pool(given, self._names, known)
        return name if name in known else None

    def follow(self, router: Any) -> None:
        """Let every call through a ``litellm.Router`` give its lease back however it ends."""
        follow_calls(router)

    def query(
        self, messages: Sequence[Mapping[str, Any]] | None, candidates: Iterable[str], tools: bool
    ) -> Query:
        """Make a query of what LiteLLM hands over."""
        if not messages:
            raise QueryError("messages: got none, wanted at least one message to route by")
        query = Query.of(list(messages))
        fields = {"messages": query.messages, "vision": query.vision, "tools": query.tools or tools}
        return Query(models=tuple(dict.fromkeys(candidates)), **fields)  # type: ignore[arg-type]

    def enter(self, metadata: Mapping[str, Any]) -> tuple[str, ...]:
        """Close an earlier attempt at the same request; return the models that have failed at it."""
        call = current_call()
        if call is not None:
            call.end(failed=True)  # another choice within one call: the attempt before has failed
            return tuple(dict.fromkeys(model for model, _ in call.failed))
        if not (metadata.get("attempted_retries") or metadata.get("attempted_fallbacks")):
            return ()  # a first attempt; what lies in the metadata came with a dict used before
        earlier = lease_id_in(metadata)
        held = self._take(earlier)
        if held is not None:
            held.release(failed=True)
        with self._lock:
            return self._tried.pop(earlier or "", ())

    def keep(self, lease: Lease, exclude: tuple[str, ...], deployment: str | None = None) -> dict[str, Any]:
        """Remember a lease until its call ends or LiteLLM reports on it; return what it carries along."""
        if lease.model is None:
            raise NoModelError(lease.reason)
        call = current_call()
        with self._lock:
            self._leases[lease.id] = lease
            if call is None:
                self._tried[lease.id] = (*exclude, lease.model)
                while len(self._tried) > _REMEMBERED:
                    del self._tried[next(iter(self._tried))]
        if call is None:
            self._release_later(lease.id)
        else:
            with self._lock:
                self._busy[deployment] += 1
            call.begin(lease, deployment, partial(self._ended, lease.id, deployment))
        return {
            "lease": lease.id,
            "model": lease.model,
            "predicted_quality": lease.predicted_quality,
            "cost": lease.cost,
            "runner_up": lease.runner_up,
            "reason": lease.reason,
        }

    def _ended(self, lease_id: str, deployment: str | None) -> None:
        with self._lock:
            self._leases.pop(lease_id, None)
            self._busy[deployment] -= 1

    def _release_later(self, lease_id: str) -> None:
        """Outside of a followed router: with the task that asked, or after a while."""
        self.session.call_later(self._hold, self._forget, lease_id)
        try:
            task = asyncio.current_task()
        except RuntimeError:
            return
        if task is not None:
            task.add_done_callback(partial(self._task_over, lease_id))

    def _task_over(self, lease_id: str, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            lease = self._take(lease_id)
            if lease is not None:
                lease.release(abandoned=True)

    def report(self, kwargs: Mapping[str, Any], response: Any, failed: bool) -> None:
        """Give back the lease of a request that has ended."""
        params = kwargs.get("litellm_params") or {}
        for key in METADATA:
            lease = self._take(lease_id_in(params.get(key) or {}))
            if lease is not None:
                usage = getattr(response, "usage", None)
                tokens = None if failed else getattr(usage, "completion_tokens", None)
                lease.release(output_tokens=tokens, failed=failed)

    def _forget(self, lease_id: str) -> None:
        lease = self._take(lease_id)
        if lease is not None:
            logger.warning("no report on lease %s within %g s; its slot is free again", lease_id, self._hold)
            lease.release(failed=True)

    def _take(self, lease_id: Any) -> Lease | None:
        with self._lock:
            return self._leases.pop(lease_id, None) if isinstance(lease_id, str) else None

    async def acquire(self, query: Query, exclude: tuple[str, ...]) -> Lease:
        """Acquire a lease from whatever loop LiteLLM runs on."""
        allowed = [name for name in query.models or () if name not in exclude]
        return await self.session.acquire_async(query, exclude=exclude if allowed else ())

    def close(self) -> None:
        """Give all leases back, end the session, and take the callback out of LiteLLM."""
        litellm = import_litellm()
        for kind in ("callbacks", *(f"{way}{end}_callback" for way in ("", "_async_") for end in _ENDS)):
            litellm.logging_callback_manager.remove_callback_from_list_by_object(
                getattr(litellm, kind), self.logger, require_self=False
            )
        with self._lock:
            leases, self._leases = list(self._leases.values()), {}
        for lease in leases:
            lease.release(failed=True)
        self.session.close()


def lease_id_in(metadata: Mapping[str, Any]) -> str | None:
    """Find the lease in a request's metadata: the strategy puts it there, LiteLLM a plugin's signals."""
    for signals in (metadata, metadata.get("routing_plugin_signals")):
        said = signals.get(SIGNAL) if isinstance(signals, dict) else None
        if isinstance(said, dict) and isinstance(said.get("lease"), str):
            return str(said["lease"])
    return None


def reporter(adapter: Adapter) -> Any:
    """Return the callback by which LiteLLM says how a request has ended."""
    from litellm.integrations.custom_logger import CustomLogger

    class Reporter(CustomLogger):  # type: ignore[misc]
        def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            adapter.report(kwargs, response_obj, failed=False)

        def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            adapter.report(kwargs, response_obj, failed=True)

        async def async_log_success_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
        ) -> None:
            adapter.report(kwargs, response_obj, failed=False)

        async def async_log_failure_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
        ) -> None:
            adapter.report(kwargs, response_obj, failed=True)

    reporter = Reporter()
    # LiteLLM takes two loggers for one when their class and plain attributes are alike.
    reporter.adapter = str(id(adapter))
    return reporter
