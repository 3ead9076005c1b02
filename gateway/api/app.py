"""The Server API as one ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Protocol

import msgspec
from litestar import Litestar, Response
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp

from gateway.api import errors, v1, v4
from gateway.api.bearer import AdminTokens
from gateway.api.gate import Gate
from gateway.api.openapi import document
from gateway.api.operation import Done, Operation, handlers
from gateway.api.page import POLICY, page
from gateway.api.signature import Signatures
from gateway.api.v1 import dialect
from gateway.api.v1.row import Row
from gateway.api.v1.row import handlers as in_v1
from gateway.config import Config, Credentials, Secret
from gateway.services.clock import Clock
from gateway.services.services import Services

UNSIGNED = ("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs")
"""What probes, scrapers and browsers ask for, who cannot sign; it is counts and what is in the sources anyway."""


def build(
    config: Config,
    credentials: Credentials,
    services: Services,
    unready: Callable[[], str | None],
    operations: Sequence[Operation[Any, Any]] = v4.OPERATIONS,
    clock: Clock | None = None,
    metrics: Callable[[], Awaitable[bytes]] | None = None,
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
    older = v1.ROWS if config.v1_enabled else ()
    routed = Litestar(
        route_handlers=[
            *_health(unready),
            *_metrics(metrics),
            *_documents(*_written(tuple(operations), tuple(older), config.id_pattern, config.list_call_max)),
            *chain.from_iterable(handlers(row, services, config) for row in operations),
            *chain.from_iterable(in_v1(row, services, config) for row in older),
        ],
        exception_handlers=dialect.in_dialect(errors.HANDLERS) if config.v1_enabled else errors.HANDLERS,
        request_max_body_size=config.admin_body_bytes_max,
        openapi_config=None,
        logging_config=None,
    )
    secrets = credentials.secrets(config)
    v1_secrets = secrets if config.v1_app_secret is None else (Secret(config.v1_app_secret),)
    return Gate(
        routed,
        Signatures(credentials.app_key, secrets, config.signature_window_s),
        AdminTokens(credentials.app_key, secrets, int(config.clock_skew_s * 1000), config.token_bytes_max),
        served=[*_paths(operations), *_paths(older)],
        unsigned=UNSIGNED,
        now_ms=(clock or Clock()).wall_ms,
        replays=services.replays if config.replay_cache else None,
        v1=Signatures(credentials.app_key, v1_secrets, config.v1_signature_window_s) if config.v1_enabled else None,
    )


class _Row(Protocol):
    @property
    def paths(self) -> tuple[str, ...]: ...


def _paths(rows: Iterable[_Row]) -> Iterable[str]:
    return chain.from_iterable(row.paths for row in rows)


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


# Made before the port is open: later it would keep the relay waiting.
@lru_cache(maxsize=8)
def _written(
    rows: tuple[Operation[Any, Any], ...], older: tuple[Row, ...], id_pattern: str, ids_max: int
) -> tuple[bytes, bytes]:
    """The OpenAPI document as JSON and as a page."""
    described = document(rows, older, id_pattern, ids_max)
    return msgspec.json.encode(described), page(described).encode()


def _documents(machines: bytes, people: bytes) -> list[HTTPRouteHandler]:
    async def openapi() -> Response[bytes]:
        return Response(machines, media_type="application/json")

    async def docs() -> Response[bytes]:
        return Response(people, media_type="text/html", headers={"Content-Security-Policy": POLICY})

    return [
        HTTPRouteHandler("/openapi.json", http_method=["GET", "HEAD"])(openapi),
        HTTPRouteHandler("/docs", http_method=["GET", "HEAD"])(docs),
    ]


def _metrics(metrics: Callable[[], Awaitable[bytes]] | None) -> list[HTTPRouteHandler]:
    if metrics is None:
        return []

    async def exposition() -> Response[bytes]:
        return Response(await metrics(), media_type="text/plain; version=0.0.4")

    return [HTTPRouteHandler("/metrics", http_method=["GET", "HEAD"])(exposition)]
