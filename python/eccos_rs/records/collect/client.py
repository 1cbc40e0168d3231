"""A chat completion from an endpoint of any kind, sent by the `openai` client whatever its dialect is.

The connections, time-outs and errors are then the same for all kinds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from eccos_rs.dialects import translate
from eccos_rs.dialects.addresses import KEY_HEADERS, TRANSLATED, VERSION_HEADERS, request_url
from eccos_rs.domain.endpoint import read_headers, read_key
from eccos_rs.errors import EccosError, MissingExtraError, PoolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eccos_rs.domain.endpoint import Endpoint
    from eccos_rs.pools.pool import LLM

__all__ = ["NoFormError", "complete", "named_in", "open_client", "request_headers"]

CONNECT_TIMEOUT = 15.0
"""Seconds in which a connection must stand."""

_ELSEWHERE = {
    "reasoning_effort": ("effort", "thinking"),
    "temperature": ("`temperature`", "temperature:", "temperature is"),
}
"""What a field of a chat completion request is called by endpoints of other dialects."""


class NoFormError(EccosError):
    """A request holds what the endpoint's dialect has no form for."""


def open_client(model: LLM, timeout: float | None = None) -> Any:
    """Return an `openai.AsyncOpenAI` for a model's endpoint.

    Parameters
    ----------
    model : LLM
    timeout : float, optional
        Seconds for a call; by default the endpoint's.

    Raises
    ------
    PoolError
        It has no endpoint, or the environment variable of its key, or of a header, is not set.
    MissingExtraError
        The `openai` package is not installed.
    """
    try:
        import openai
    except ImportError as error:
        raise MissingExtraError(
            "collecting needs the openai client: pip install 'eccos-rs[collect]'"
        ) from error
    endpoint = model.endpoint
    if endpoint is None:
        raise PoolError(f"model {model.name!r} has no endpoint: give it a [model.endpoint] with a base_url")
    key = read_key(endpoint, model.name)
    headers: dict[str, Any] = dict(VERSION_HEADERS.get(endpoint.kind, {}))
    if endpoint.kind in KEY_HEADERS and key is not None:
        headers[KEY_HEADERS[endpoint.kind]] = key
    timeout = endpoint.timeout if timeout is None else timeout
    address = urlsplit(endpoint.base_url)
    return openai.AsyncOpenAI(
        # The client would put its paths behind a query.
        base_url=urlunsplit(address._replace(query="")),
        default_query=dict(parse_qsl(address.query, keep_blank_values=True)) or None,
        api_key=key or "unused",
        # Connecting has a shorter limit: a call that never reached the server is then told as such.
        timeout=openai.Timeout(timeout, connect=min(CONNECT_TIMEOUT, 0.8 * timeout)),
        # Our own retries: they must know of the money ceiling and the journal.
        max_retries=0,
        default_headers=headers | read_headers(endpoint, model.name),
    )


def request_headers(endpoint: Endpoint) -> dict[str, Any]:
    """Return what every request to an endpoint must say: the client is not to send its key as OpenAI's."""
    import openai

    return {"Authorization": openai.Omit()} if endpoint.kind in KEY_HEADERS else {}


async def complete(
    client: Any, endpoint: Endpoint, body: Mapping[str, Any], headers: Mapping[str, str]
) -> Any:
    """Send a chat completion request in the endpoint's dialect.

    Parameters
    ----------
    client : openai.AsyncOpenAI
    endpoint : Endpoint
    body : mapping
        With `model`, `messages`, a limit of the answer's length.
    headers : mapping of str to str

    Returns
    -------
    openai.types.chat.ChatCompletion

    Raises
    ------
    NoFormError
        A member has no form in the dialect.
    ValueError
        The answer is none to a chat.
    openai.APIError
        As the client raises it.
    """
    if endpoint.kind == "openai":
        return await client.chat.completions.create(extra_headers=headers, **body)
    dialect = TRANSLATED[endpoint.kind]
    request = translate.to_endpoint(body, dialect, keep_cache=False)
    if request.lost:
        raise NoFormError(f"an endpoint of kind {endpoint.kind} has no form for {', '.join(request.lost)}")
    values = request.values if dialect == "gemini" else {**request.values, "model": body["model"]}
    if (tier := body.get("service_tier")) is not None:
        if endpoint.kind == "anthropic":
            raise NoFormError(f"an endpoint of kind anthropic sells no lane {tier!r} by the request")
        values["serviceTier" if dialect == "gemini" else "service_tier"] = tier
    address = urlunsplit(urlsplit(endpoint.base_url)._replace(query=""))
    url = request_url(endpoint.kind, address, body["model"], dialect)
    said = {**request_headers(endpoint), **headers}
    answer = await client.post(url, cast_to=object, body=values, options={"headers": said})
    return _as_completion(answer, body, dialect)


def _as_completion(answer: Any, body: Mapping[str, Any], dialect: str) -> Any:
    from openai.types.chat import ChatCompletion

    if not isinstance(answer, dict) or "error" in answer:
        raise ValueError("it is no answer to a chat")
    try:
        chat = translate.answer(answer, body, spoken=dialect, wanted="chat", model=body["model"])
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("it is no answer to a chat") from error
    return ChatCompletion.construct(**chat)


def named_in(message: str, field: str) -> bool:
    """Say whether an endpoint's refusal names a field that was sent, in its dialect's words."""
    return any(word in message for word in (f"'{field}'", f'"{field}"', *_ELSEWHERE.get(field, ())))
