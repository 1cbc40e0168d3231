"""Two adapters to LiteLLM's router: a custom routing strategy, and a routing plugin; see docs/litellm.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eccos_rs.errors import InputError, NoModelError
from eccos_rs.integrations.calls import current_call
from eccos_rs.integrations.litellm_adapter import HOLD_SECONDS, METADATA, SIGNAL, Adapter
from eccos_rs.integrations.pricing import (
    pool_from_model_list,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eccos_rs.domain.query import Query
    from eccos_rs.session import Lease

__all__ = ["HOLD_SECONDS", "EccosPlugin", "EccosStrategy", "pool_from_model_list"]


class EccosPlugin(Adapter):
    """A routing plugin: narrows ``candidate_models`` to the one chosen, and says why in ``signals["eccos"]``.

    Make one with `EccosPlugin.open`, and pass it as ``litellm.Router(plugins=[plugin])``.
    """

    async def run(self, context: Any) -> Any:
        """Choose among the candidates that earlier plugins have left.

        Raises
        ------
        NoModelError, Overloaded, PoolError, QueryError
            Nothing may take the request; LiteLLM aborts it.
        """
        by_name: dict[str, list[str]] = {}
        for model in context.candidate_models:
            name = self.pool_name(model)
            if name is not None:
                by_name.setdefault(name, []).append(model)
        if not by_name:
            return context  # another group's models: not ours to narrow
        exclude = self.enter(context.metadata)
        query = self.query(context.structured_messages or context.raw_messages, by_name, tools=False)
        said = self.keep(await self.acquire(query, exclude), exclude)
        context.candidate_models = by_name[said["model"]]
        context.signals[SIGNAL] = said
        return context


class EccosStrategy(Adapter):
    """A custom routing strategy: chooses the deployment of every request itself.

    Make one with `EccosStrategy.open`, and put it in with `install`.
    """

    _router: Any = None

    def install(self, router: Any) -> None:
        """Take over the choice of deployments in a ``litellm.Router``."""
        from litellm.types.router import CustomRoutingStrategyBase

        adapter = self

        class Strategy(CustomRoutingStrategyBase):  # type: ignore[misc]
            async def async_get_available_deployment(
                self, model: str, messages: Any = None, input: Any = None, *_: Any, **others: Any
            ) -> Any:
                found = adapter.deployments(model)
                cooling = await router.cooldown_cache.async_get_active_cooldowns(adapter.ids(found), None)
                choice = _Choice(adapter, adapter.without(found, cooling), messages, others)
                if choice.query is None:
                    return choice.other()
                return choice.taken(await adapter.acquire(choice.query, choice.exclude))

            def get_available_deployment(
                self, model: str, messages: Any = None, input: Any = None, *_: Any, **others: Any
            ) -> Any:
                found = adapter.deployments(model)
                cooling = router.cooldown_cache.get_active_cooldowns(adapter.ids(found), None)
                choice = _Choice(adapter, adapter.without(found, cooling), messages, others)
                if choice.query is None:
                    return choice.other()
                return choice.taken(adapter.session.acquire(choice.query, exclude=choice.exclude))

        self._router = router
        self.follow(router)
        if hasattr(router, "register_plugin"):
            router.register_plugin(Strategy())
        else:
            router.set_custom_routing_strategy(Strategy())

    def deployments(self, model: str) -> list[dict[str, Any]]:
        """Return the deployments behind a name; InputError: there are none."""
        found = list(self._router.get_model_list(model_name=model) or ())
        if not found:
            raise InputError(f"model: got {model!r}, for which the router has no deployment")
        return found

    @staticmethod
    def ids(found: list[dict[str, Any]]) -> list[str]:
        """Return LiteLLM's own ids of deployments."""
        return [str((each.get("model_info") or {}).get("id")) for each in found]

    def without(
        self, found: list[dict[str, Any]], cooling: Iterable[tuple[str, Any]]
    ) -> list[dict[str, Any]]:
        """Leave out deployments that LiteLLM lets cool down, unless that leaves nothing."""
        cold = {name for name, _ in cooling}
        kept = [each for each, name in zip(found, self.ids(found), strict=True) if name not in cold]
        return kept or found

    def by_name(self, found: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """Return the deployments of the pool's models, by the pool's name."""
        names: dict[str, list[dict[str, Any]]] = {}
        for each in found:
            name = self.pool_name(each)
            if name is not None:
                names.setdefault(name, []).append(each)
        return names

    @staticmethod
    def metadata(kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the metadata that LiteLLM carries through to its callbacks."""
        for key in METADATA:
            if isinstance(kwargs.get(key), dict):
                return kwargs[key]  # type: ignore[no-any-return]
        made: dict[str, Any] = kwargs.setdefault("metadata", {})
        return made

    def least_busy(self, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the deployment with the fewest calls under way; of equal ones the next in turn."""
        turn = next(self._turn)
        turned = [found[(turn + at) % len(found)] for at in range(len(found))]
        return min(turned, key=lambda each: self._busy[self.ids([each])[0]])


class _Choice:
    """One choice of a deployment: who may take the call, and what came of it."""

    def __init__(
        self, strategy: EccosStrategy, found: list[dict[str, Any]], messages: Any, others: dict[str, Any]
    ) -> None:
        kwargs = others.get("request_kwargs") or {}
        self._strategy, self._found = strategy, found
        self._metadata = strategy.metadata(kwargs)
        failed_models = strategy.enter(self._metadata)
        call = current_call()
        failed = set() if call is None else {deployment for _, deployment in call.failed}
        # A failed deployment is not asked again while there is another, of its model or of the next.
        kept = [each for each in found if strategy.ids([each])[0] not in failed] or found
        self._names = strategy.by_name(kept)
        self.exclude: tuple[str, ...] = ()
        if call is None:
            left = [name for name in self._names if name not in failed_models]
            self.exclude = failed_models if left else ()
        self.query: Query | None = None
        if self._names and messages:
            self.query = strategy.query(messages, self._names, tools=bool(kwargs.get("tools")))

    def other(self) -> dict[str, Any]:
        """Return a deployment of a group, or for a call, that is not routed here."""
        return self._strategy.least_busy(self._found)

    def taken(self, lease: Lease) -> dict[str, Any]:
        """Return the deployment for a lease, which the call holds from now on."""
        if lease.model is None:
            raise NoModelError(lease.reason)
        chosen = self._strategy.least_busy(self._names[lease.model])
        identity = self._strategy.ids([chosen])[0]
        self._metadata[SIGNAL] = self._strategy.keep(lease, self.exclude, identity)
        return chosen
