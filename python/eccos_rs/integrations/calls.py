"""The life of a call through LiteLLM: whatever way it ends, what it holds is released once."""

from __future__ import annotations

import functools
import inspect
import threading
import weakref
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from eccos_rs.session import Lease

__all__ = ["Call", "current_call", "follow_calls"]

_ENTRIES = (
    "acompletion",
    "completion",
    "atext_completion",
    "text_completion",
    "aresponses",
    "responses",
    "aanthropic_messages",
)
"""Methods of a router behind which a deployment is chosen for messages."""

_current: ContextVar[Call | None] = ContextVar("eccos_litellm_call", default=None)


@dataclass(slots=True, weakref_slot=True)
class Call:
    """One call to a router, its attempts, and the lease of the attempt that runs.

    Attributes
    ----------
    lease : Lease or None
    deployment : str or None
        LiteLLM's id of the deployment that was chosen last.
    failed : list of (str, str)
        Model and deployment of the attempts that brought no answer.
    on_end : list of callables
        Called without arguments each time that an attempt is over.
    """

    lease: Lease | None = None
    deployment: str | None = None
    failed: list[tuple[str, str | None]] = field(default_factory=list)
    on_end: list[Callable[[], object]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, lease: Lease, deployment: str | None, on_end: Callable[[], object]) -> None:
        """Hold the lease of a new attempt; an earlier one that is still held has failed."""
        self.end(failed=True)
        with self._lock:
            self.lease, self.deployment = lease, deployment
            self.on_end.append(on_end)

    def end(
        self, *, output_tokens: float | None = None, failed: bool = False, abandoned: bool = False
    ) -> None:
        """Release what is held; nothing when it was released before."""
        with self._lock:
            lease, self.lease = self.lease, None
            endings, self.on_end = self.on_end, []
            if lease is not None and failed:
                self.failed.append((lease.model or "", self.deployment))
        if lease is not None:
            lease.release(output_tokens=output_tokens, failed=failed, abandoned=abandoned)
        for each in endings:
            each()


def current_call() -> Call | None:
    """Return the call that this code runs for; None outside of a followed router."""
    return _current.get()


def follow_calls(router: Any) -> None:
    """Let every call through a router end what it holds: answer, error, cancellation, a stream left early."""
    for name in _ENTRIES:
        method = getattr(router, name, None)
        if callable(method) and not getattr(method, "_eccos_follows", False):
            setattr(router, name, _followed(method, name.startswith("a")))


def _followed(method: Callable[..., Any], asynchronous: bool) -> Callable[..., Any]:
    @functools.wraps(method)
    async def run_async(*args: Any, **kwargs: Any) -> Any:
        call, token = Call(), None
        try:
            token = _current.set(call)
            return _kept(await method(*args, **kwargs), call)
        except Exception:
            call.end(failed=True)
            raise
        except BaseException:  # cancelled: the model is not to blame
            call.end(abandoned=True)
            raise
        finally:
            if token is not None:
                _current.reset(token)

    @functools.wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        call = Call()
        token = _current.set(call)
        try:
            return _kept(method(*args, **kwargs), call)
        except Exception:
            call.end(failed=True)
            raise
        except BaseException:
            call.end(abandoned=True)
            raise
        finally:
            _current.reset(token)

    chosen: Callable[..., Any] = run_async if asynchronous else run
    chosen._eccos_follows = True  # type: ignore[attr-defined]
    return chosen


def _kept(answer: Any, call: Call) -> Any:
    """End the call with a whole answer, or hand its lease on to the stream."""
    if call.lease is None:
        return answer
    if hasattr(answer, "__anext__") or hasattr(answer, "__next__"):
        return _followed_stream(answer, call)
    call.end(output_tokens=_tokens(answer))
    return answer


def _tokens(answer: Any) -> float | None:
    usage = getattr(answer, "usage", None)
    tokens = getattr(usage, "completion_tokens", None)
    return tokens if isinstance(tokens, int | float) and not isinstance(tokens, bool) else None


def _followed_stream(stream: Any, call: Call) -> Any:
    """Let a stream end its call: read to its end, broken, closed, or dropped.

    The object stays what it is, of a class below its own: callers ask what class a stream has.
    """
    finalizer = weakref.finalize(stream, call.end, abandoned=True)
    finalizer.atexit = False
    kind: Any = type(stream)
    stream.__class__ = _stream_class(kind)
    stream.__dict__["_eccos_call"] = call
    return stream


@functools.cache
def _stream_class(kind: Any) -> Any:
    methods: dict[str, Any] = {}
    if hasattr(kind, "__anext__"):

        async def anext_(self: Any) -> Any:
            with _Reading(self):
                return self._eccos_reading(await kind.__anext__(self))

        methods["__anext__"] = anext_
    if hasattr(kind, "__next__"):

        def next_(self: Any) -> Any:
            with _Reading(self):
                return self._eccos_reading(kind.__next__(self))

        methods["__next__"] = next_
    for name in ("aclose", "close"):
        closing = getattr(kind, name, None)
        if closing is not None:
            methods[name] = _closing(closing)

    def reading(self: Any, chunk: Any) -> Any:
        tokens = _tokens(chunk)
        if tokens is not None:
            self.__dict__["_eccos_tokens"] = tokens
        return chunk

    methods["_eccos_reading"] = reading
    return type(kind.__name__, (kind,), methods)


def _closing(closing: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(closing):

        @functools.wraps(closing)
        async def aclose(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return await closing(self, *args, **kwargs)
            finally:
                self._eccos_call.end(abandoned=True)

        return aclose

    @functools.wraps(closing)
    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return closing(self, *args, **kwargs)
        finally:
            self._eccos_call.end(abandoned=True)

    return close


class _Reading:
    """Reads one piece; an ending of the stream ends the call."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        call: Call = self._stream._eccos_call
        if issubclass(kind, StopIteration | StopAsyncIteration):
            call.end(output_tokens=self._stream.__dict__.get("_eccos_tokens"))
        elif issubclass(kind, Exception):
            call.end(failed=True)
        else:
            call.end(abandoned=True)
