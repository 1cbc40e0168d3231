"""One endpoint: asks through the `openai` client, waits as it is told, and says what went wrong."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import ssl
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from eccos_rs.dialects.addresses import TIERS
from eccos_rs.errors import EccosError
from eccos_rs.records.collect.client import NoFormError, complete, named_in, open_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from eccos_rs.pools.pool import LLM
    from eccos_rs.records.collect.turns import Turns

__all__ = ["CallError", "Caller", "Reply", "Retry", "read_reply"]

# Past this a server's Retry-After is taken for a refusal.
LONGEST_WAIT = 900.0


class CallError(EccosError):
    """A call that brought no answer.

    Attributes
    ----------
    again : bool
        Another attempt may bring one.
    charged : bool
        The server may have charged for it all the same.
    wait : float or None
        Seconds that the server asks to wait.
    fatal : bool
        No call to this endpoint can succeed (a wrong key, no such model).
    """

    def __init__(
        self,
        message: str,
        *,
        again: bool = False,
        charged: bool = False,
        wait: float | None = None,
        fatal: bool = False,
    ) -> None:
        super().__init__(message)
        self.again = again
        self.charged = charged
        self.wait = wait
        self.fatal = fatal


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its text, the usage as stated, why it ended, and the seconds it took."""

    text: str
    usage: Any
    finish: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Retry:
    """How to try again.

    Attributes
    ----------
    attempts : int
        Calls at most for one answer.
    first_wait, longest_wait : float
        Seconds before the second attempt, doubled before each further one up to the longest. The wait is
        drawn between
        half and the whole, so that many clients do not come back together.
    """

    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 60.0

    def wait(self, attempt: int, asked: float | None) -> float:
        """Return the seconds before attempt `attempt` (from 2), never less than the server asked for."""
        whole = min(self.first_wait * 2.0 ** (attempt - 2), self.longest_wait)
        return max(random.uniform(whole / 2, whole), asked or 0.0)


@dataclass(slots=True)
class Caller:
    """Asks one model.

    Parameters
    ----------
    model : LLM
        With an endpoint; its `slots` bound the calls at once, its `requests_per_minute` their pace.
    concurrency : int
        Calls at once for a model without `slots`.
    timeout : float or None
        Seconds for a whole call; by default the endpoint's.
    shared : sequence of Turns
        Of the limits that the model shares with others, in the same order for all of them.

    Raises
    ------
    PoolError
        No endpoint, or the environment variable of its key is not set.
    MissingExtraError
        The `openai` package is not installed.
    """

    model: LLM
    concurrency: int
    timeout: float | None = None
    shared: Sequence[Turns] = ()
    fatal: str | None = None
    in_a_row: int = 0
    _client: Any = None
    _gate: asyncio.Semaphore = field(init=False)
    _open_at: float = 0.0
    _next_start: float = 0.0
    _limit_field: str = "max_tokens"
    _left_out: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        endpoint = self.model.endpoint
        self._client = open_client(self.model, self.timeout)
        assert endpoint is not None
        self.timeout = endpoint.timeout if self.timeout is None else self.timeout
        self._gate = asyncio.Semaphore(self.model.slots or self.concurrency)

    @property
    def slots(self) -> int:
        """How many calls may run at once."""
        return self.model.slots or self.concurrency

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold one of the slots, once the server's asked-for quiet is over and the pace allows it."""
        async with self._gate, AsyncExitStack() as held:
            for turns in self.shared:
                await held.enter_async_context(turns.one())
            while (wait := max(self._open_at, self._next_start) - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if self.model.requests_per_minute:
                self._next_start = time.monotonic() + 60.0 / self.model.requests_per_minute
            yield

    async def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        longest: int,
        temperature: float | None,
        key: str,
        fields: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Make one call, inside a `turn`.

        Parameters
        ----------
        messages : sequence of mapping
            The chat.
        longest : int
            Most output tokens.
        temperature : float or None
            None leaves it to the server.
        key : str
            Sent as `Idempotency-Key`, for servers and gateways that then never charge twice.
        fields : mapping, optional
            What else is sent with the chat: tools, tool_choice, response_format.

        Raises
        ------
        CallError
            No answer came; its attributes say what may be done.
        """
        started = time.perf_counter()
        try:
            # The client's own timeout restarts with every byte: a server that trickles would hold it open.
            sending = self._send(messages, longest, temperature, key, fields or {})
            answer = await asyncio.wait_for(sending, self.timeout)
            return read_reply(answer, time.perf_counter() - started)
        except TimeoutError:
            raise CallError(f"no answer within {self.timeout:g} s", again=True, charged=True) from None
        except CallError as error:
            if error.wait is not None and error.again:
                self._open_at = max(self._open_at, time.monotonic() + error.wait)
            if error.fatal:
                self.fatal = str(error)
            raise

    async def _send(
        self,
        messages: Sequence[Mapping[str, Any]],
        longest: int,
        temperature: float | None,
        key: str,
        more: Mapping[str, Any],
    ) -> Any:
        import openai

        endpoint = self.model.endpoint
        assert endpoint is not None
        fields: dict[str, Any] = {"temperature": temperature, "reasoning_effort": self.model.effort}
        # Without its lane a call would be answered at another price: a refusal of it is one.
        lane = {"service_tier": self.model.lane} if self.model.lane in TIERS else {}
        while True:
            sent = {
                name: value
                for name, value in fields.items()
                if value is not None and name not in self._left_out
            }
            body = {
                "model": endpoint.model or self.model.identity,
                "messages": list(messages),
                self._limit_field: longest,
                **sent,
                **lane,
                **more,
            }
            try:
                return await complete(self._client, endpoint, body, {"Idempotency-Key": key})
            except NoFormError as error:
                raise CallError(str(error)) from error
            except openai.BadRequestError as error:
                if not self._adapt(str(error), sent):
                    raise CallError(f"refused: {_brief(error)}") from error
            except openai.APIStatusError as error:
                raise _status_error(error) from error
            except openai.APITimeoutError as error:
                charged = not _never_connected(error)
                what = "no answer" if charged else "no connection"
                raise CallError(f"{what} within {self.timeout:g} s", again=True, charged=charged) from error
            except openai.APIConnectionError as error:
                raise _connection_error(error) from error
            except (openai.APIError, ValueError) as error:
                raise CallError(
                    f"the answer cannot be read: {_brief(error)}", again=True, charged=True
                ) from error

    def _adapt(self, message: str, sent: Mapping[str, Any]) -> bool:
        """Follow a server that wants another field for the limit, or none for the temperature."""
        if self._limit_field == "max_tokens" and "max_completion_tokens" in message:
            self._limit_field = "max_completion_tokens"
            return True
        for name in sent:
            if named_in(message, name):
                self._left_out.add(name)
                return True
        return False


def read_reply(answer: Any, seconds: float) -> Reply:
    """Take the text, the usage and the end of a chat completion.

    Raises
    ------
    CallError
        It is none.
    """
    choices = getattr(answer, "choices", None)
    if not isinstance(choices, list) or not choices or getattr(choices[0], "message", None) is None:
        raise CallError("the answer is not a chat completion", again=True, charged=True)
    text = getattr(choices[0].message, "content", None)
    if text is not None and not isinstance(text, str):
        raise CallError("the answer's content is not a text", again=True, charged=True)
    calls = getattr(choices[0].message, "tool_calls", None)
    if isinstance(calls, list) and calls:
        # What an answer asks tools to do is part of it.
        text = "\n".join([*([text] if text else []), *map(_call_text, calls)])
    # No text at all (the length ran out in hidden reasoning, say) is an empty answer: wrong, and paid for.
    usage = getattr(answer, "usage", None)
    return Reply(text or "", usage, getattr(choices[0], "finish_reason", None), seconds)


def _call_text(call: Any) -> str:
    function = getattr(call, "function", None)
    return f"[call {getattr(function, 'name', None)}({getattr(function, 'arguments', None)})]"


def _status_error(error: Any) -> CallError:
    status = int(error.status_code)
    message = f"status {status}: {_brief(error)}"
    if status in (401, 403, 404):
        return CallError(message, fatal=True)
    if status == 429 and "insufficient_quota" in str(error):
        return CallError(message, fatal=True)
    wait = retry_after(error.response.headers)
    if wait is not None and wait > LONGEST_WAIT:
        return CallError(f"{message}; it asks to wait {wait:g} s", fatal=True)
    # 5xx and 408 may come after the work was done.
    charged = status >= 500 and status != 503
    return CallError(
        message, again=status in (408, 409, 425, 429) or status >= 500, charged=charged, wait=wait
    )


def _connection_error(error: Any) -> CallError:
    refused = _never_connected(error)
    what = "the connection was refused" if refused else "the connection broke"
    return CallError(f"{what}: {_brief(error.__cause__ or error)}", again=True, charged=not refused)


# What the system answers while a connection is being made; a broken one gives ECONNRESET, EPIPE and the like.
_NOT_CONNECTED = frozenset(
    {
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENETDOWN,
        errno.EADDRNOTAVAIL,
    }
)
# The HTTP libraries name a failed connection alike, and not all of them keep the system's error behind it.
_BEFORE_THE_CALL = (socket.gaierror, ssl.SSLCertVerificationError)
_CONNECT_ERRORS = frozenset({"ConnectError", "ConnectTimeout", "ConnectionTimeoutError", "PoolTimeout"})


def _never_connected(error: BaseException) -> bool:
    """Whether the call failed before a connection stood, so that nothing can have been charged.

    Read from the chain of causes, whichever HTTP library the client uses inside.
    """
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        each = pending.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        if type(each).__name__ in _CONNECT_ERRORS or isinstance(
            each, socket.gaierror | ssl.SSLCertVerificationError
        ):
            return True
        if isinstance(each, OSError) and each.errno in _NOT_CONNECTED:
            return True
        pending += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            pending += each.exceptions
    return False


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait, from `Retry-After-Ms` or `Retry-After` (also a date)."""
    try:
        if "retry-after-ms" in headers:
            return max(float(headers["retry-after-ms"]) / 1000.0, 0.0)
        stated = headers.get("retry-after")
        if stated is None:
            return None
        try:
            return max(float(stated), 0.0)
        except ValueError:
            return max(parsedate_to_datetime(stated).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError):
        return None


def _brief(error: Any) -> str:
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:200]
