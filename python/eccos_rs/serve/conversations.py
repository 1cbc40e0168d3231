"""What a conversation is known by, and which endpoints hold responses that may be gone on from."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from eccos_rs.session.conversations import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ResponseHomes", "conversation_key", "of_tenant"]


def conversation_key(
    values: Mapping[str, Any], header: str | None, client: str, asked: tuple[str, str]
) -> str:
    """Return what a conversation is known by, apart for every client.

    Parameters
    ----------
    values : mapping
        The request's body.
    header : str, optional
        ``x-session-id``.
    client : str
        Who asks; two clients with one session id do not meet.
    asked : tuple of str
        System text and first user message, which stay the same through a conversation.
    """
    named = header or values.get("prompt_cache_key")
    if isinstance(named, str) and named:
        return digest("named", client, named)
    return digest("asked", client, str(values.get("user")), *asked)


def of_tenant(key: str, tenant: str) -> str:
    """Return what a conversation is known by for one tenant: one that changes tenant begins anew."""
    return digest(key, tenant)


class ResponseHomes:
    """Which model holds a response that a later request may go on from.

    Parameters
    ----------
    most : int
        Responses that are remembered; beyond, the oldest are forgotten.
    """

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._models: OrderedDict[str, str] = OrderedDict()

    def keep(self, identity: str, model: str) -> None:
        """Remember which model holds a response."""
        self._models[identity] = model
        while len(self._models) > self._most:
            self._models.popitem(last=False)

    def holder(self, identity: str) -> str | None:
        """Return the model that holds a response."""
        return self._models.get(identity)
