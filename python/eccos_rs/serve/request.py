"""What a request asks for: its query, its own limits, its conversation."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from eccos_rs.dialects import checks
from eccos_rs.dialects.chat import chat_query, parse_ask
from eccos_rs.dialects.translate import to_chat
from eccos_rs.dialects.usage import Allowance
from eccos_rs.domain.attachments import image_tokens
from eccos_rs.domain.query import Query
from eccos_rs.errors import EccosError, InputError, NoModelError, Overloaded, PoolError, QueryError
from eccos_rs.serve.columns import expand, model_names, narrow
from eccos_rs.serve.conversations import conversation_key
from eccos_rs.serve.wire import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from eccos_rs.dialects.base import ChatRequest
    from eccos_rs.pools.pool import LLM, Pool
    from eccos_rs.serve.body import JsonBody
    from eccos_rs.serve.shadow.trial import Trial

__all__ = ["ROUTED_NAMES", "RoutingRequest", "error_status", "read_request"]

ROUTED_NAMES = ("eccos", "auto")
"""Names of no model: the gateway chooses."""

_MOST_PRIORITY = 2**31

_MOST_TEXT = 20_000
"""Characters that are predicted by, of a text that is passed through."""

_DIALECT_HEADERS = ("anthropic-beta", "anthropic-version")


@dataclass(frozen=True)
class RoutingRequest:
    """What a request asks of its model.

    Attributes
    ----------
    body : JsonBody
    query : Query
        The chat with its hard needs.
    dialect : str
    max_cost : float or None
        US dollars; None for no limit.
    conversation : str
        What the conversation is known by.
    continues : bool
        Whether it is a later turn of a conversation, or its client has named one.
    named : bool
        The client has chosen the model itself.
    chat : ChatRequest or None
        The request as a chat completion request; None for a dialect that is passed through alone.
    previous : str or None
        The response that the conversation goes on from: it lies with one endpoint.
    headers : dict of str to str
        Of the client's, those that belong to the dialect.
    key : str or None
        The name of the client's key.
    trial : Trial or None
        What a shadow run records of it.
    """

    body: JsonBody
    query: Query
    dialect: str = "chat"
    max_cost: float | None = None
    conversation: str = ""
    continues: bool = False
    named: bool = False
    chat: ChatRequest | None = None
    previous: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    trial: Trial | None = None

    @property
    def streaming(self) -> bool:
        """Whether the client wants events."""
        return bool(self.body.values.get("stream"))

    @property
    def lost(self) -> list[str]:
        """Members that endpoints of the client's own dialect alone can be sent."""
        return [] if self.chat is None else self.chat.lost

    @property
    def wants_usage(self) -> bool:
        """Whether the client asked for the event that states the usage."""
        options = self.body.values.get("stream_options")
        return isinstance(options, dict) and bool(options.get("include_usage"))

    def allowance(self, llm: LLM) -> Allowance:
        """Return what an answer of a model may use."""
        query = self.query
        return Allowance.of(llm, len(self.body), query.attached_tokens, query.max_output_tokens, query.n)


def read_request(request: Request, body: JsonBody, pool: Pool, dialect: str = "chat") -> RoutingRequest:
    """Read a request of any dialect and its headers.

    Raises
    ------
    RequestError
        400: a member or a header is malformed; 404: an unknown model.
    """
    if dialect in ("completions", "embeddings"):
        return _read_plain(request, body, pool, dialect)
    chat = to_chat(body.values, dialect)
    values = chat.values
    names = narrow(pool, _models(values, request.headers.get("x-eccos-models"), pool), values)
    named = values.get("model") not in ROUTED_NAMES
    query = chat_query(
        values,
        named=named,
        models=names,
        min_quality=_number(request, "x-eccos-min-quality", 1.0),
        priority=_priority(request.headers.get("x-eccos-priority", "0")),
    )
    if dialect == "messages" and query.vision:
        query = replace(query, extra_input_tokens=query.extra_input_tokens + _more_for_images(body, query))
    session = request.headers.get("x-session-id")
    previous = body.values.get("previous_response_id") if dialect == "responses" else None
    return RoutingRequest(
        body,
        query,
        dialect,
        max_cost=_number(request, "x-eccos-max-cost", math.inf),
        conversation=conversation_key(
            values, session, request.scope.get("eccos.client", ""), parse_ask(values)
        ),
        continues=bool(session or values.get("prompt_cache_key")) or _has_answer(values),
        named=named,
        chat=chat,
        previous=previous if isinstance(previous, str) else None,
        headers={name: request.headers[name] for name in _DIALECT_HEADERS if name in request.headers},
    )


def _read_plain(request: Request, body: JsonBody, pool: Pool, dialect: str) -> RoutingRequest:
    """Read what is passed through: completions of a text, and embeddings, which name their model."""
    values = body.values
    names = narrow(pool, _models(values, request.headers.get("x-eccos-models"), pool), values)
    named = values.get("model") not in ROUTED_NAMES
    if dialect == "embeddings" and not named:
        raise RequestError(
            400, "invalid_model", "embeddings are of one model: name a model of the pool", param="model"
        )
    given = values.get("prompt" if dialect == "completions" else "input")
    if given is None:
        what = "prompt" if dialect == "completions" else "input"
        raise RequestError(400, "invalid_request", f"{what} is missing", param=what)
    text = given if isinstance(given, str) else json.dumps(given)
    try:
        query = Query(
            text[:_MOST_TEXT],
            models=names,
            extra_input_tokens=max(len(text) - _MOST_TEXT, 0) // 4,
            max_output_tokens=checks.whole(values, "max_tokens") if dialect == "completions" else 1,
            n=checks.whole(values, "n", most=checks.MOST_CHOICES) or 1,
            min_quality=_number(request, "x-eccos-min-quality", 1.0),
            priority=_priority(request.headers.get("x-eccos-priority", "0")),
        )
    except QueryError as error:
        raise RequestError(400, "invalid_request", str(error)) from error
    ceiling = _number(request, "x-eccos-max-cost", math.inf)
    return RoutingRequest(body, query, dialect, max_cost=ceiling, named=named)


def _more_for_images(body: JsonBody, query: Query) -> int:
    """Return the tokens that images take as Messages counts them, beyond those of their translation."""

    def count(value: Any) -> int:
        if isinstance(value, list):
            return sum(map(count, value))
        if not isinstance(value, dict):
            return 0
        return image_tokens(value) if value.get("type") == "image" else count(value.get("content"))

    counted = query.attached_tokens - query.extra_input_tokens
    return max(count(body.values.get("messages")) - counted, 0)


def _has_answer(values: Mapping[str, Any]) -> bool:
    messages = values.get("messages") or ()
    return any(isinstance(message, dict) and message.get("role") == "assistant" for message in messages)


def _models(values: Mapping[str, Any], header: str | None, pool: Pool) -> tuple[str, ...] | None:
    model = values.get("model")
    if not isinstance(model, str):
        raise RequestError(400, "invalid_model", f"model must be a text, got {model!r}", param="model")
    wanted = None if header is None else [name for part in header.split(",") if (name := part.strip())]
    if wanted is not None and not wanted:
        raise RequestError(400, "invalid_header", "x-eccos-models names no model")
    if model not in ROUTED_NAMES:
        wanted = [model]
    try:
        return None if wanted is None else expand(pool, wanted)
    except PoolError:
        known = (*ROUTED_NAMES, *model_names(pool))
        name = next(name for name in wanted or () if name not in known)
        what = " that answers at once" if name in pool.names else ""
        message = f"there is no model {name!r}{what}; known are {', '.join(known)}"
        raise RequestError(404, "model_not_found", message, param="model") from None


def _priority(text: str) -> int:
    try:
        rank = int(text) if len(text) <= 20 else _MOST_PRIORITY + 1
    except ValueError:
        rank = _MOST_PRIORITY + 1
    if abs(rank) > _MOST_PRIORITY:
        wanted = f"a whole number in [{-_MOST_PRIORITY}, {_MOST_PRIORITY}]"
        raise RequestError(400, "invalid_header", f"x-eccos-priority must be {wanted}, got {text[:60]!r}")
    return rank


def _number(request: Request, name: str, most: float) -> float | None:
    text = request.headers.get(name)
    if text is None:
        return None
    wanted = "of at least 0" if math.isinf(most) else f"in [0, {most:g}]"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not 0 <= value <= most:
        raise RequestError(400, "invalid_header", f"{name} must be a number {wanted}, got {text[:60]!r}")
    return value


def error_status(error: EccosError) -> tuple[int, str, dict[str, str]]:
    """Return HTTP status, code and headers for what may go wrong with a request."""
    if isinstance(error, RequestError):
        return error.status, error.code, error.headers
    if isinstance(error, Overloaded):
        seconds = 1 if error.retry_after is None else max(1, math.ceil(error.retry_after))
        return 429, "overloaded", {"Retry-After": str(seconds)}
    if isinstance(error, NoModelError):
        return 422, "no_model", {}
    if isinstance(error, InputError):
        return 400, "invalid_request", {}
    return 503, "unavailable", {}
