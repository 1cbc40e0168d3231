"""The gateway's application: its routes, its state, its start and its end."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from eccos_rs.domain.validation import check_number
from eccos_rs.errors import InputError
from eccos_rs.pools.pool import Pool
from eccos_rs.routing.router import Router
from eccos_rs.serve.board import SAMPLE_SECONDS, StatusBoard
from eccos_rs.serve.breaker import Breakers
from eccos_rs.serve.columns import check_live
from eccos_rs.serve.conversations import ResponseHomes
from eccos_rs.serve.gateway import Gateway
from eccos_rs.serve.keys import Keys, read_keys
from eccos_rs.serve.metrics import Metrics
from eccos_rs.serve.reload import Reloader
from eccos_rs.serve.routes import error_handlers, routes
from eccos_rs.serve.security import BearerTokens, LocalOnly, SizeLimits
from eccos_rs.serve.shadow.judging import Judge, find_judge
from eccos_rs.serve.shadow.record import ShadowLog
from eccos_rs.serve.shadow.runner import Shadow
from eccos_rs.serve.tracing import Tracer
from eccos_rs.serve.upstream import Upstream
from eccos_rs.session import Session, check_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from os import PathLike

    from eccos_rs.routing.policy import Policy
    from eccos_rs.serve.shadow.settings import ShadowSettings
    from eccos_rs.session import OnStoreLoss


__all__ = ["GatewaySettings", "build_app", "reload_pool"]

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
    keys : path, optional
        File of the clients' keys with their limits; read again when it changes.
    traces : bool
        Make OpenTelemetry spans, with whatever exporter the process has set up.
    load : callable, optional
        Reads pool and policy again at SIGHUP.
    cors : tuple of str
        Origins whose pages may ask (``"*"``: any); none unless named.
    shadow : ShadowSettings, optional
        Route beside what is done today.
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
    keys: str | PathLike[str] | None = None
    load: Callable[[], Router] | None = None
    traces: bool = False
    shadow: ShadowSettings | None = None

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
        A model has no endpoint, the environment variable of its key is not set, or none answers at once.
    StoreError
        The store is damaged or of another program. (One that cannot be written only refuses feedback.)
    """
    settings = settings or GatewaySettings()
    if settings.baseline is not None:
        router.pool.index(settings.baseline)
    recording = _recording(router, settings)
    keys = Keys(() if settings.keys is None else read_keys(settings.keys, router.pool))
    # What is wrong with pool or store is said here, to whoever starts the gateway, not in a server's log.
    first = _upstream(router, settings)
    check_store(settings.store)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async def make(router: Router) -> Gateway:
            if settings.shadow is not None:
                settings.shadow.check(router.pool)
            made = await _make_gateway(router, settings, policy, keys)
            try:
                made.shadow = _shadow(router, settings, policy, recording)
            except BaseException:
                await _retire(made)
                raise
            return made

        def install(gateway: Gateway) -> Gateway:
            old: Gateway = app.state.gateway
            gateway.metrics.board.follow(old.metrics.board)
            gateway.answers = old.answers
            gateway.session.conversations.follow(old.session.conversations)
            app.state.gateway = gateway
            return old

        app.state.gateway = await _make_gateway(router, settings, policy, keys, first)
        app.state.gateway.shadow = _shadow(router, settings, policy, recording)
        keys.restore(app.state.gateway.session)
        path = None if settings.keys is None else Path(settings.keys)
        reloader = Reloader(keys, path, settings.load, make=make, install=install, retire=_retire)
        reloader.start(lambda: app.state.gateway.session.pool)
        app.state.reloader = reloader
        sampling = asyncio.create_task(_sample(app), name="eccos-history")
        try:
            yield
        finally:
            sampling.cancel()
            await reloader.close()
            await _retire(app.state.gateway)
            if recording is not None:
                recording.close()

    return Starlette(
        routes=routes(),
        lifespan=lifespan,
        middleware=_middleware(settings, keys),
        exception_handlers=error_handlers(),
    )


def reload_pool(router: Router, path: Path) -> Router:
    """Return a router over the pool file as it is now, with the same predictor and policy."""
    return Router(Pool.load(path), router.predictor, router.policy)


def _upstream(router: Router, settings: GatewaySettings) -> Upstream:
    check_live(router.pool)
    return Upstream(
        router.pool,
        first_byte_timeout=settings.first_byte_timeout,
        connect_timeout=settings.connect_timeout,
    )


async def _make_gateway(
    router: Router,
    settings: GatewaySettings,
    policy: Policy | None,
    keys: Keys,
    upstream: Upstream | None = None,
) -> Gateway:
    """Make a gateway that is ready to serve.

    Raises
    ------
    PoolError, StoreError, PolicyError
        As of `build_app`.
    """
    upstream = upstream or _upstream(router, settings)
    if settings.baseline is not None:
        router.pool.index(settings.baseline)
    upstream.open()
    session = Session(
        router,
        policy=policy,
        store=settings.store,
        on_store_loss=settings.on_store_loss,
        window=settings.window,
        stickiness=settings.stickiness,
    )
    breakers = Breakers(router.pool.names, upstream.answers, down=session.down, up=session.up)
    goal, value = session.policy.goal
    board = StatusBoard(router.pool, f"{goal} {value:g}", settings.baseline)
    await asyncio.to_thread(_warm_up, router)
    return Gateway(
        session, upstream, breakers, Metrics(session, breakers, board, keys),
        ResponseHomes(), settings.attempts, settings.wait, settings.body_timeout, keys,
        Tracer(settings.traces),
    )  # fmt: skip


def _recording(router: Router, settings: GatewaySettings) -> ShadowLog | None:
    """Open the log of a shadow run; what is wrong with its settings is said here."""
    if settings.shadow is None:
        return None
    settings.shadow.check(router.pool)
    if settings.shadow.judge is not None:
        find_judge(settings.shadow.judge, router.pool)
    return ShadowLog(settings.shadow.log)


def _shadow(
    router: Router, settings: GatewaySettings, policy: Policy | None, recording: ShadowLog | None
) -> Shadow | None:
    asked = settings.shadow
    if asked is None or recording is None:
        return None
    judge = None if asked.judge is None else Judge(find_judge(asked.judge, router.pool), router.pool)
    made = Shadow(asked, router, policy, recording, judge)
    made.open()
    return made


async def _retire(gateway: Gateway) -> None:
    """Close a gateway when what it accepted has come to its end."""
    await gateway.breakers.close()
    gateway.keys.save(gateway.session)
    await gateway.session.close()
    if gateway.shadow is not None:
        # Its answers have ended: what waits to be decided is not many.
        await gateway.shadow.close()
    await gateway.upstream.close()


def _middleware(settings: GatewaySettings, keys: Keys) -> list[Middleware]:
    parts = [Middleware(SizeLimits, body=settings.max_body)]
    if settings.cors:
        parts.append(Middleware(CORSMiddleware, settings.cors, ["GET", "POST"], ["*"], expose_headers=["*"]))
    if settings.tokens or settings.keys is not None:
        parts.append(Middleware(BearerTokens, tokens=settings.tokens, names=keys.names))
    else:
        parts.append(Middleware(LocalOnly, origins=settings.cors))
    return parts


async def _sample(app: Starlette) -> None:
    """Keep the history that the page shows, and what the keys have spent."""
    sampled = -math.inf
    while True:
        gateway: Gateway = app.state.gateway
        gateway.keys.save(gateway.session)
        now = time.monotonic()
        if now - sampled >= SAMPLE_SECONDS:
            sampled = now
            gateway.metrics.board.sample(gateway.session.stats(), gateway.metrics.arrivals.per_second)
        await asyncio.sleep(min(SAMPLE_SECONDS, 1.0))


def _warm_up(router: Router) -> None:
    """Predict once, so that the first request does not wait for what is loaded at first use."""
    try:
        router.predict(["What is 2 + 2?"])
    except Exception as error:  # a request will say it, to whom it concerns
        _log.warning("warming up failed (%s: %s)", type(error).__name__, error)
