"""What the batch lane asks of a provider, and the endpoint of OpenAI's form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from eccos_rs.domain.pricing import model_cost
from eccos_rs.errors import PoolError
from eccos_rs.records.collect.client import open_client, request_headers
from eccos_rs.records.collect.usage import most_input_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    import openai

    from eccos_rs.domain.query import Query
    from eccos_rs.pools.pool import LLM

__all__ = ["BatchEndpoint", "BatchRow", "OpenAIBatches", "batch_row"]

_TOKEN = "eccos_run"
"""The metadata by which a batch is found again whose creation a kill cut off."""


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A row of a batch.

    Attributes
    ----------
    key : str
    body : dict
        The request of Chat Completions.
    most : float
        US dollars that it can cost at most.
    """

    key: str
    body: dict[str, Any]
    most: float


class BatchEndpoint(Protocol):
    """What a lane asks of a provider; `OpenAIBatches` is one."""

    async def create(self, rows: Sequence[BatchRow], window: str, token: str) -> str:
        """Upload and begin a batch; return its id."""
        ...

    async def find(self, token: str) -> str | None:
        """Return the id of the batch with this token; None: there is none."""
        ...

    async def status(self, identity: str) -> str:
        """Return how far a batch is; at its end completed, failed, expired or cancelled."""
        ...

    async def cancel(self, identity: str) -> None:
        """Ask for a batch to end with what it has."""
        ...

    async def results(self, identity: str) -> list[dict[str, Any]]:
        """Return the rows of the output and the error file."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class OpenAIBatches:
    """Batches by ``/v1/files`` and ``/v1/batches``.

    Parameters
    ----------
    model : LLM
        With an endpoint.
    timeout : float, optional
        Seconds for a call; by default the endpoint's.

    Raises
    ------
    PoolError
        Its endpoint is of a kind that takes batches in another form, or cannot be reached: see `open_client`.
    """

    def __init__(self, model: LLM, timeout: float | None = None) -> None:
        kind = "openai" if model.endpoint is None else model.endpoint.kind
        self._said = {} if model.endpoint is None else request_headers(model.endpoint)
        if kind in ("anthropic", "gemini"):
            raise PoolError(
                f"model {model.name!r}: batches are sent to endpoints of kind openai and azure, got {kind}; "
                "leave its batch lane out of the pool"
            )
        # The client repeats nothing: a second creation would be a second batch. We repeat, by the token.
        self._client: openai.AsyncOpenAI = open_client(model, timeout)

    async def create(self, rows: Sequence[BatchRow], window: str, token: str) -> str:
        """Upload a file of rows and begin a batch of it."""
        lines = (
            json.dumps(
                {"custom_id": row.key, "method": "POST", "url": "/v1/chat/completions", "body": row.body}
            )
            for row in rows
        )
        raw = "\n".join(lines).encode() + b"\n"
        uploaded = await self._client.files.create(
            file=(f"{token}.jsonl", raw), purpose="batch", extra_headers=self._said
        )
        made = await self._client.batches.create(
            input_file_id=uploaded.id,
            endpoint="/v1/chat/completions",
            completion_window=window,  # type: ignore[arg-type]  # other providers have other windows
            metadata={_TOKEN: token},
            extra_headers=self._said,
        )
        return made.id

    async def find(self, token: str) -> str | None:
        """Look through the provider's list."""
        async for batch in self._client.batches.list(limit=100, extra_headers=self._said):
            if (batch.metadata or {}).get(_TOKEN) == token:
                return batch.id
        return None

    async def status(self, identity: str) -> str:
        """Return the status as the provider words it."""
        return str((await self._client.batches.retrieve(identity, extra_headers=self._said)).status)

    async def cancel(self, identity: str) -> None:
        """Ask for the end."""
        await self._client.batches.cancel(identity, extra_headers=self._said)

    async def results(self, identity: str) -> list[dict[str, Any]]:
        """Read the output file and the error file, as far as there are any."""
        batch = await self._client.batches.retrieve(identity, extra_headers=self._said)
        found: list[dict[str, Any]] = []
        for name in (batch.output_file_id, batch.error_file_id):
            if name is not None:
                text = (await self._client.files.content(name, extra_headers=self._said)).text
                found += [json.loads(line) for line in text.splitlines() if line.strip()]
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def batch_row(key: str, query: Query, model: LLM, longest: int) -> BatchRow:
    """Return a row as a batch sends it."""
    assert model.endpoint is not None  # the lane has looked
    messages = [dict(m) for m in query.messages or ({"role": "user", "content": query.text},)]
    body: dict[str, Any] = {"model": model.endpoint.model or model.identity, "messages": messages}
    body["max_tokens"] = longest
    if model.effort is not None:
        body["reasoning_effort"] = model.effort
    return BatchRow(key, body, model_cost(model, most_input_tokens(messages), longest))
