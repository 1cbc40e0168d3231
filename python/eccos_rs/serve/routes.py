"""The gateway's routes: what each path answers, and what becomes of errors."""

from __future__ import annotations

import importlib.resources
import logging
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from eccos_rs.dialects import messages_answer
from eccos_rs.domain.attachments import text_tokens
from eccos_rs.errors import EccosError, StoreError
from eccos_rs.serve.columns import model_names
from eccos_rs.serve.metrics import page_figures
from eccos_rs.serve.request import ROUTED_NAMES, error_status, read_request
from eccos_rs.serve.wire import CLIENT_LEFT, RequestError, error_response, read_body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from starlette.requests import Request

    from eccos_rs.serve.gateway import Gateway

    Endpoint = Callable[[Request], Awaitable[Response]]

__all__ = ["error_handlers", "routes"]

_log = logging.getLogger("eccos_rs.serve")

_DIALECTS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
}


def routes() -> list[Route]:
    """Return the routes of the gateway."""
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
    names = (ROUTED_NAMES[0], *model_names(_gateway(request).session.pool))
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
    if name not in (*ROUTED_NAMES, *model_names(_gateway(request).session.pool)):
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
    status, code, headers = error_status(error)
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


def error_handlers() -> Mapping[Any, Any]:
    """Return what answers each kind of error."""
    return {
        EccosError: _refusal,
        HTTPException: _no_route,
        ClientDisconnect: _left,
        Exception: _failure,
    }
