"""The Server API as one ASGI application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from litestar import Litestar, Response
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp

from gateway.api import errors, v4
from gateway.api.bearer import AdminTokens
from gateway.api.gate import Gate
from gateway.api.operation import Done, Operation, handlers
from gateway.api.signature import Signatures
from gateway.config import Config, Credentials
from gateway.services.clock import Clock
from gateway.services.services import Services

UNSIGNED = ("/healthz", "/readyz", "/metrics")
"""What probes and scrapers ask for, who cannot sign; it is counts, on a private port."""


def build(
    config: Config,
    credentials: Credentials,
    services: Services,
    unready: Callable[[], str | None],
    operations: Sequence[Operation[Any, Any]] = v4.OPERATIONS,
    clock: Clock | None = None,
    metrics: Callable[[], bytes] | None = None,
) -> ASGIApp:
    """The application of the admin port.

    Args:
        config: the limits.
        credentials: app key and secret.
        services: what the operations act through.
        unready: why this node cannot do its job now; None = it can.
        operations: the rows to serve.
        clock: what signatures and tokens are judged by; None = the machine's.
        metrics: what ``GET /metrics`` answers, in Prometheus' text format; None = there is none.
    """
    routed = Litestar(
        route_handlers=[
            *_health(unready),
            *_metrics(metrics),
            *chain.from_iterable(handlers(row, services, config) for row in operations),
        ],
        exception_handlers=errors.HANDLERS,
        request_max_body_size=config.admin_body_bytes_max,
        openapi_config=None,
        logging_config=None,
    )
    secrets = credentials.secrets(config)
    return Gate(
        routed,
        Signatures(credentials.app_key, secrets, config.signature_window_s),
        AdminTokens(credentials.app_key, secrets, int(config.clock_skew_s * 1000), config.token_bytes_max),
        served=[path for row in operations for path in row.paths],
        unsigned=UNSIGNED,
        now_ms=(clock or Clock()).wall_ms,
        replays=services.replays if config.replay_cache else None,
    )


def _health(unready: Callable[[], str | None]) -> list[HTTPRouteHandler]:
    async def healthz() -> Done:
        return Done()

    async def readyz() -> Done:
        reason = unready()
        if reason is not None:
            raise errors.unavailable(f"not ready: {reason}")
        return Done()

    return [
        HTTPRouteHandler("/healthz", http_method=["GET", "HEAD"])(healthz),
        HTTPRouteHandler("/readyz", http_method=["GET", "HEAD"])(readyz),
    ]


def _metrics(metrics: Callable[[], bytes] | None) -> list[HTTPRouteHandler]:
    if metrics is None:
        return []

    async def exposition() -> Response[bytes]:
        return Response(metrics(), media_type="text/plain; version=0.0.4")

    return [HTTPRouteHandler("/metrics", http_method=["GET", "HEAD"])(exposition)]
