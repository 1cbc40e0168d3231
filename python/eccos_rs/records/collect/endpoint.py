"""One endpoint: asks through the `openai` client, and waits as it is told."""

from __future__ import annotations

import asyncio
import math
import random
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eccos_rs.dialects.addresses import TIERS
from eccos_rs.records.collect.client import NoFormError, complete, named_in, open_client
from eccos_rs.records.collect.faults import CallError, brief, connection_error, never_connected, status_error
from eccos_rs.records.collect.turns import CallTurn, Turns
from eccos_rs.records.collect.usage import CallSizes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from eccos_rs.pools.pool import LLM

__all__ = ["CallError", "Caller", "ModelReply", "Retry", "read_reply"]


@dataclass(frozen=True, slots=True)
class ModelReply:
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
        With an endpoint; its `slots` bound the calls at once, its requests and tokens per minute their pace.
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
    sizes: CallSizes = field(default_factory=CallSizes)
    _client: Any = None
    _turns: tuple[Turns, ...] = ()
    _limit_field: str = "max_tokens"
    _left_out: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        endpoint = self.model.endpoint
        self._client = open_client(self.model, self.timeout)
        assert endpoint is not None
        self.timeout = endpoint.timeout if self.timeout is None else self.timeout
        own = Turns(self.slots, self.model.requests_per_minute, self.model.tokens_per_minute)
        self._turns = (own, *self.shared)
        if 0 in (self.model.slots, self.slots) or any(turns.closed for turns in self._turns):
            self.fatal = "its limits let no call through"

    @property
    def slots(self) -> int:
        """How many calls may run at once."""
        return self.model.slots or self.concurrency

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def count(self, tokens: int, ago: float) -> None:
        """Count a call of an earlier run that ended so many seconds ago."""
        for turns in self._turns:
            turns.count(tokens, ago)

    @asynccontextmanager
    async def turn(
        self, messages: Sequence[Mapping[str, Any]], longest: int, until: float | None = None
    ) -> AsyncIterator[CallTurn]:
        """Hold one of the slots and the call's tokens, from when the limits and the server allow it.

        Parameters
        ----------
        messages : sequence of mapping
            All that will be sent.
        longest : int
            Most output tokens.
        until : float, optional
            On the monotonic clock: it is not waited longer, and nothing may be asked then.

        Raises
        ------
        CallError
            The prompt alone is larger than a limit of tokens per minute.
        """
        room = min(turns.most_tokens for turns in self._turns)
        if room < math.inf and (prompt := self.sizes.usual(messages)) > room:
            raise CallError(f"a prompt of some {prompt} tokens is above its {room:.0f} tokens per minute")
        turn = CallTurn(self.sizes.most(messages, longest))
        async with AsyncExitStack() as held:
            for turns in self._turns:
                await held.enter_async_context(turns.one(turn, until))
            yield turn

    async def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        turn: CallTurn,
        *,
        longest: int,
        temperature: float | None,
        key: str,
        fields: Mapping[str, Any] | None = None,
    ) -> ModelReply:
        """Make one call, inside a `turn`.

        Parameters
        ----------
        messages : sequence of mapping
            The chat.
        turn : CallTurn
            What the call took is for the one who checks its usage to say.
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
        turn.used = None
        try:
            # The client's own timeout restarts with every byte: a server that trickles would hold it open.
            sending = self._send(messages, longest, temperature, key, fields or {})
            answer = await asyncio.wait_for(sending, self.timeout)
            return read_reply(answer, time.perf_counter() - started)
        except TimeoutError:
            raise CallError(f"no answer within {self.timeout:g} s", again=True, charged=True) from None
        except CallError as error:
            if not error.charged:
                turn.used = 0
            if error.wait is not None and error.again:
                self._turns[0].quiet(error.wait)
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
                    raise CallError(f"refused: {brief(error)}") from error
            except openai.APIStatusError as error:
                raise status_error(error) from error
            except openai.APITimeoutError as error:
                charged = not never_connected(error)
                what = "no answer" if charged else "no connection"
                raise CallError(f"{what} within {self.timeout:g} s", again=True, charged=charged) from error
            except openai.APIConnectionError as error:
                raise connection_error(error) from error
            except (openai.APIError, ValueError) as error:
                raise CallError(
                    f"the answer cannot be read: {brief(error)}", again=True, charged=True
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


def read_reply(answer: Any, seconds: float) -> ModelReply:
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
    return ModelReply(text or "", usage, getattr(choices[0], "finish_reason", None), seconds)


def _call_text(call: Any) -> str:
    function = getattr(call, "function", None)
    return f"[call {getattr(function, 'name', None)}({getattr(function, 'arguments', None)})]"
