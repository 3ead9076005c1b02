"""How an operation is served: one ASGI handler a path, for what Litestar does around a typed handler costs more than
the operation itself (docs/adr/0008)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import msgspec
from litestar.handlers import ASGIRouteHandler
from litestar.types import Receive, Scope, Send

from gateway.api import errors
from gateway.api.errors import Problem

JSON = b"application/json; charset=utf-8"


class Reader(Protocol):
    """What reads the requests of a route: a row's body, or another dialect's."""

    def read(self, content_type: str | None, body: bytes) -> Any:
        """The checked request. Raises Problem where the body is not what the row asks for."""


def routes(
    paths: Sequence[str],
    answer: Callable[[Any], Awaitable[Any]],
    body: Reader,
    *,
    scope: str,
    bytes_max: int,
    opt: Mapping[str, Any] = MappingProxyType({}),
) -> list[ASGIRouteHandler]:
    """What Litestar serves: one handler a path. What goes wrong is raised and answered by the app's handlers.

    Args:
        paths: where.
        answer: takes what ``body`` has read; what it returns is sent as JSON with status 200.
        body: reads and checks the request body.
        scope: what an admin token needs.
        bytes_max: how long a body may be.
        opt: options of the route, for exception handlers.
    """
    needed = scope

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":  # type: ignore[typeddict-item]
            raise Problem(errors.METHOD_NOT_ALLOWED, "method not allowed", {"Allow": "POST"})
        if needed not in scope["scopes"]:  # type: ignore[typeddict-item]
            raise Problem(errors.RESTRICTED, f"the admin token lacks the scope {needed!r}")
        headers = dict(scope["headers"])
        # An empty body is an empty object: the vendor's client sends none where nothing is required.
        received = await _received(headers.get(b"content-length"), receive, bytes_max) or b"{}"
        kind = headers.get(b"content-type")
        answered = _encode(await answer(body.read(None if kind is None else kind.decode("latin-1"), received)))
        head = [(b"content-type", JSON), (b"content-length", str(len(answered)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": answered, "more_body": False})

    return [ASGIRouteHandler(path, opt=dict(opt), copy_scope=False)(serve) for path in paths]


_encode = msgspec.json.Encoder().encode


async def _received(stated: bytes | None, receive: Receive, bytes_max: int) -> bytes:
    """The body. Raises Problem where it is too long, or ends early."""
    # The server has refused what is no number.
    if stated is not None and int(stated) > bytes_max:
        raise _too_large()
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Problem(errors.INVALID_PARAMETER, "the body ended early")
        part = message["body"]
        size += len(part)
        if size > bytes_max:
            raise _too_large()
        if not message["more_body"]:
            return b"".join((*parts, part)) if parts else part
        parts.append(part)


def _too_large() -> Problem:
    return Problem(errors.TOO_LARGE, "the body is too large")
