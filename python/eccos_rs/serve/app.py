"""The gateway's application: its routes, its state, its start and its end."""

from __future__ import annotations

import asyncio
import importlib.resources
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from eccos_rs.domain.validation import check_number
from eccos_rs.errors import EccosError, InputError, StoreError
from eccos_rs.routing.attachments import text_tokens
from eccos_rs.serve.board import SAMPLE_SECONDS, Board
from eccos_rs.serve.breaker import Breakers
from eccos_rs.serve.conversations import Conversations
from eccos_rs.serve.dialects import messages_answer
from eccos_rs.serve.gateway import Gateway
from eccos_rs.serve.metrics import Metrics, page_figures
from eccos_rs.serve.request import ROUTED_NAMES, read_request, status_of
from eccos_rs.serve.security import BearerTokens, LocalOnly, SizeLimits
from eccos_rs.serve.upstream import Upstream
from eccos_rs.serve.wire import CLIENT_LEFT, RequestError, error_response, read_body
from eccos_rs.session import Session, check_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from os import PathLike

    from starlette.requests import Request

    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.router import Router
    from eccos_rs.session import OnStoreLoss

    Endpoint = Callable[[Request], Awaitable[Response]]

__all__ = ["GatewaySettings", "build_app"]

_log = logging.getLogger("eccos_rs.serve")


@dataclass(frozen=True)
class GatewaySettings:
    """How the gateway behaves.

    Parameters
    ----------
    tokens : tuple of str
        Of clients; with none, programs of this machine alone may ask, and no page of another site.
    max_body : int
        Bytes.
    attempts : int
        Models asked for one request before it fails.
    wait : float
        Seconds that a request may wait for a free model.
    first_byte_timeout, connect_timeout : float
        Seconds until another model is asked.
    store : URL or path, optional
        Where feedback and spend are kept, and limits are shared; as for `Session`.
    on_store_loss : {"local-share", "refuse"}
        What is done while shared limits cannot be reached; as for `Session`.
    window : float
        Seconds that the session gathers a micro-batch.
    stickiness : float
        Seconds for which a conversation stays with the model of its last turn; 0: not at all.
    body_timeout : float
        Seconds within which a request's body must have come.
    baseline : str, optional
        A model: the page shows what everything would have cost there.
    cors : tuple of str
        Origins whose pages may ask (``"*"``: any); none unless named.
    """

    tokens: tuple[str, ...] = ()
    max_body: int = 8 * 1024 * 1024
    attempts: int = 3
    wait: float = 30.0
    first_byte_timeout: float = 60.0
    connect_timeout: float = 5.0
    store: str | PathLike[str] | None = None
    on_store_loss: OnStoreLoss = "local-share"
    window: float = 0.002
    stickiness: float = 300.0
    body_timeout: float = 30.0
    cors: tuple[str, ...] = ()
    baseline: str | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise InputError(f"attempts must be at least 1, got {self.attempts}")
        for name in ("stickiness", "body_timeout"):
            check_number(name, getattr(self, name), error=InputError, above=name == "body_timeout")
        if self.max_body < 1:
            raise InputError(f"max_body must be at least 1 byte, got {self.max_body}")


def build_app(
    router: Router, settings: GatewaySettings | None = None, *, policy: Policy | None = None
) -> Starlette:
    """Make the gateway.

    Parameters
    ----------
    router : Router
        Pool, predictor, policy. Every model of the pool has an endpoint.
    settings : GatewaySettings, optional
        Limits and time-outs.
    policy : Policy, optional
        In place of the router's.

    Returns
    -------
    Starlette
        Its session begins and ends with the application's lifespan and is then at ``app.state.gateway``.

    Raises
    ------
    PoolError
        A model has no endpoint, or the environment variable of its key is not set.
    StoreError
        The store is damaged or of another program. (One that cannot be written only refuses feedback.)
    """
    settings = settings or GatewaySettings()
    if settings.baseline is not None:
        router.pool.index(settings.baseline)
    upstream = Upstream(
        router.pool,
        first_byte_timeout=settings.first_byte_timeout,
        connect_timeout=settings.connect_timeout,
    )

    # What is wrong with the store is said here, to whoever starts the gateway, not in a server's log.
    check_store(settings.store)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        upstream.open()
        session = Session(
            router,
            policy=policy,
            store=settings.store,
            on_store_loss=settings.on_store_loss,
            window=settings.window,
        )
        breakers = Breakers(router.pool.names, upstream.answers, down=session.down, up=session.up)
        goal, value = session.policy.goal
        board = Board(router.pool, f"{goal} {value:g}", settings.baseline)
        conversations = Conversations(router.pool, settings.stickiness)
        app.state.gateway = Gateway(
            session, upstream, breakers, Metrics(session, breakers, board), conversations,
            settings.attempts, settings.wait, settings.body_timeout,
        )  # fmt: skip
        await asyncio.to_thread(_warm_up, router)
        sampling = asyncio.create_task(_sample(app.state.gateway), name="eccos-history")
        try:
            yield
        finally:
            sampling.cancel()
            await breakers.close()
            await session.close()
            await upstream.close()

    return Starlette(
        routes=_routes(),
        lifespan=lifespan,
        middleware=_middleware(settings),
        exception_handlers={
            EccosError: _refusal,
            HTTPException: _no_route,
            ClientDisconnect: _left,
            Exception: _failure,
        },
    )


def _middleware(settings: GatewaySettings) -> list[Middleware]:
    parts = [Middleware(SizeLimits, body=settings.max_body)]
    if settings.cors:
        parts.append(Middleware(CORSMiddleware, settings.cors, ["GET", "POST"], ["*"], expose_headers=["*"]))
    if settings.tokens:
        parts.append(Middleware(BearerTokens, tokens=settings.tokens))
    else:
        parts.append(Middleware(LocalOnly, origins=settings.cors))
    return parts


async def _sample(gateway: Gateway) -> None:
    """Keep the history that the page shows."""
    while True:
        gateway.metrics.board.sample(gateway.session.stats(), gateway.metrics.arrivals.per_second)
        await asyncio.sleep(SAMPLE_SECONDS)


def _warm_up(router: Router) -> None:
    """Predict once, so that the first request does not wait for what is loaded at first use."""
    try:
        router.predict(["What is 2 + 2?"])
    except Exception as error:  # a request will say it, to whom it concerns
        _log.warning("warming up failed (%s: %s)", type(error).__name__, error)


_DIALECTS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
}


def _routes() -> list[Route]:
    return [
        Route("/", _page),
        *(Route(path, _serve_as(dialect), methods=["POST"]) for path, dialect in _DIALECTS.items()),
        Route("/v1/messages/count_tokens", _count_tokens, methods=["POST"]),
        Route("/v1/route", _decide, methods=["POST"]),
        Route("/v1/feedback", _feedback, methods=["POST"]),
        Route("/v1/models", _models),
        Route("/v1/models/{name:path}", _model),
        Route("/v1/stats", _stats),
        Route("/metrics", _metrics),
        Route("/healthz", _healthy),
        Route("/readyz", _ready),
    ]


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


def _serve_as(dialect: str) -> Endpoint:
    async def serve(request: Request) -> Response:
        return await _gateway(request).complete(request, dialect)

    return serve


async def _count_tokens(request: Request) -> Response:
    """Estimate the input tokens of a Messages request, as its clients ask before they send it."""
    gateway = _gateway(request)
    body = await read_body(request, gateway.body_timeout)
    query = read_request(request, body, gateway.session.pool, "messages").query
    return JSONResponse({"input_tokens": text_tokens(query.prompt) + query.attached_tokens})


async def _decide(request: Request) -> Response:
    return await _gateway(request).decide(request)


async def _feedback(request: Request) -> Response:
    body = (await read_body(request, _gateway(request).body_timeout)).values
    lease, quality = body.get("lease"), body.get("quality")
    if not isinstance(lease, str):
        raise RequestError(400, "invalid_feedback", f"lease must be a text, got {lease!r}")
    if isinstance(quality, bool) or not isinstance(quality, int | float) or not 0 <= quality <= 1:
        raise RequestError(400, "invalid_feedback", f"quality must be a number in [0, 1], got {quality!r}")
    gateway = _gateway(request)
    try:
        # The answer goes out when the feedback is in the store for good.
        await gateway.session.feedback(lease, float(quality))
    except StoreError as error:
        gateway.metrics.feedback_refused.inc()
        _log.error("feedback was refused: %s", error)
        raise RequestError(503, "store_unavailable", f"the store does not take feedback: {error}") from error
    return JSONResponse({"lease": lease, "accepted": True})


async def _models(request: Request) -> Response:
    names = (ROUTED_NAMES[0], *_gateway(request).session.pool.names)
    if "anthropic-version" in request.headers:
        listed = [
            {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
            for name in names
        ]
        ends = {"has_more": False, "first_id": names[0], "last_id": names[-1]}
        return JSONResponse({"data": listed, **ends})
    return JSONResponse({"object": "list", "data": [_model_row(name) for name in names]})


async def _model(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in (*ROUTED_NAMES, *_gateway(request).session.pool.names):
        raise RequestError(404, "model_not_found", f"there is no model {name!r}", param="model")
    return JSONResponse(_model_row(name))


def _model_row(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "eccos"}


async def _stats(request: Request) -> Response:
    gateway = _gateway(request)
    return JSONResponse(page_figures(gateway.session.stats(), gateway.metrics, gateway.breakers))


async def _metrics(request: Request) -> Response:
    return Response(_gateway(request).metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _healthy(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _ready(request: Request) -> Response:
    """Ready while at least one model is in the pool and the session takes queries."""
    session = _gateway(request).session
    up = [model.name for model in session.stats().models if model.up]
    ready = bool(up) and not session.closing
    return JSONResponse({"status": "ready" if ready else "not ready", "models": up}, 200 if ready else 503)


async def _page(_: Request) -> Response:
    page = importlib.resources.files(__package__).joinpath("page.html").read_text("utf-8")
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(page, headers={"content-security-policy": policy})


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, EccosError)  # registered for this class alone
    status, code, headers = status_of(error)
    if request.url.path.startswith("/v1/messages"):
        return JSONResponse(messages_answer.error_body(status, code, str(error)), status, headers)
    return error_response(status, code, str(error), headers, getattr(error, "param", None))


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # registered for this class alone
    where = f"{request.method} {request.url.path}"
    code, message = {
        404: ("unknown_url", f"there is nothing at {where}"),
        405: ("method_not_allowed", f"{where} is not allowed"),
    }.get(error.status_code, ("http_error", error.detail))
    return error_response(error.status_code, code, message, error.headers)


async def _left(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_LEFT)  # while its body was read; nobody is there to read this


async def _failure(_: Request, error: Exception) -> Response:
    # Starlette raises the error again after this answer, so that the server logs it with its traceback.
    return error_response(500, "internal_error", f"the gateway failed ({type(error).__name__})")
