"""The thread that carries a session's messages to the backend, and says that the session is alive."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING

from eccos_rs.errors import StoreError
from eccos_rs.session.limits.exchange import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from eccos_rs.session.limits.exchange import LimiterReply, SharedBackend

__all__ = ["Link"]

logger = logging.getLogger("eccos_rs.session")

_HEARTBEAT = 0.5
"""Seconds after which a session that has nothing to say says that it is alive, or tries again."""


class Link:
    """Exchanges one message after the other with a backend.

    Parameters
    ----------
    backend : SharedBackend
    replica : str
        For the messages that say no more than that the session is alive.
    replied, failed, reachable : callable
        Called on the link's thread with a reply, with the reason why there is none, and, once the backend
        answers again, with the name of the server's run.
    """

    def __init__(
        self,
        backend: SharedBackend,
        replica: str,
        replied: Callable[[LimiterReply], None],
        failed: Callable[[str], None],
        reachable: Callable[[str], None],
    ) -> None:
        self._backend = backend
        self._replica = replica
        self._replied = replied
        self._failed = failed
        self._reachable = reachable
        self._epoch: str | None = None
        self._lost = False
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="eccos-limits", daemon=True)

    def start(self, registration: Message) -> LimiterReply:
        """Register, blocking, and begin to carry messages; StoreError: the backend cannot be reached."""
        registration.restarted = self._backend.run_name()
        reply = self._backend.exchange(registration)
        self._epoch = reply.epoch
        self._thread.start()
        return reply

    def send(self, message: Message) -> None:
        """Carry a message; from any thread."""
        self._messages.put(message)

    def stop(self, farewell: Message) -> None:
        """Carry a last message and end, blocking."""
        self._messages.put(farewell)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        leaving = False
        while not leaving:
            try:
                message = self._messages.get(timeout=_HEARTBEAT)
            except queue.Empty:
                if self._lost:
                    self._try_again()
                else:
                    self._carry(Message(self._replica, self._epoch), asked=False)
                continue
            leaving = message.leaving
            if not (leaving and self._lost):
                self._carry(message, asked=not leaving)
        self._backend.close()

    def _carry(self, message: Message, asked: bool) -> None:
        try:
            reply = self._backend.exchange(message)
        except StoreError as error:
            self._lost = True
            self._failed(str(error))
            return
        except Exception as error:
            # Whatever it was, the thread lives on and the session goes on alone.
            logger.exception("the shared limits at %s failed", self._backend.url)
            self._lost = True
            self._failed(f"{type(error).__name__}: {error}")
            return
        self._epoch = reply.epoch
        self._lost = False
        if asked or not reply.known:
            self._replied(reply)

    def _try_again(self) -> None:
        try:
            run = self._backend.run_name()
        except StoreError:
            return
        self._reachable(run)
