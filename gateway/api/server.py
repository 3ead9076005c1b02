"""The admin port: uvicorn inside the node's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import httptools
import uvicorn
from litestar.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.api import errors
from gateway.api.routes import JSON
from gateway.config import Config
from gateway.config.rules import is_loopback
from gateway.store.turns import Turns

STOP_S = 3
"""How long requests under way may take to finish when the server stops."""

TICK_S = 1.0
"""How often an answer's Date is made anew."""

BACKLOG = 512

REQUESTS_A_TURN = 4
"""Requests that are read in one turn of the loop: more at once would keep the relays of this node waiting."""

HEAD_BYTES_MAX = 64 * 1024
"""A request's line and headers, and what comes between two parts of its body or behind the last; the parser itself
would take any number."""

FIELDS_MAX = 100
"""Headers of a request: each costs the event loop a microsecond before anybody has asked for a signature."""

REQUEST_S = 30.0
"""How long a request may take to arrive; who connects and sends none holds a descriptor for as long."""


class AdminServer:
    """Serves the Server API on ``admin_host:admin_port``.

    Args:
        app: from ``gateway.api.app.build``.
        config: where to listen; beyond loopback with the node's TLS certificate, where there is one.
    """

    def __init__(self, app: ASGIApp, config: Config) -> None:
        self._host = config.admin_host
        self._asked_port = config.admin_port
        self._app = app
        # Beyond loopback a signature travels, and whoever sees it may use it until its window ends.
        self._tls = (None, None) if is_loopback(config.admin_host) else (config.tls_cert, config.tls_key)
        self._context: ssl.SSLContext | None = None
        self._server: _Uvicorn | None = None
        self._serving: asyncio.Task[None] | None = None
        self.port = config.admin_port
        """The port; the real one from ``start`` on, where 0 was asked for."""

    async def start(self) -> None:
        """Listens and answers by the time it returns.

        Raises:
            OSError: the port cannot be had; the message says which and why.
        """
        certificate, key = self._tls
        settings = uvicorn.Config(
            self._app,
            http=partial(_Requests, turns=Turns(REQUESTS_A_TURN)),  # type: ignore[arg-type]
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=STOP_S,
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
        try:
            settings.load()
        except OSError as error:
            raise OSError(error.errno, f"the admin port's TLS certificate or key cannot be used: {error}") from error
        self._context = settings.ssl
        logging.getLogger("uvicorn.error").addFilter(_is_of_use)
        listening = _listen(self._host, self._asked_port)
        self.port = listening.getsockname()[1]
        server = _Uvicorn(settings)
        self._server = server
        self._serving = asyncio.create_task(server.serve(sockets=[listening]), name="admin-server")
        up = asyncio.create_task(server.up.wait())
        await asyncio.wait({up, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        if not server.up.is_set():
            up.cancel()
            listening.close()
            await self._serving

    def reload_certificate(self) -> None:
        """Reads the certificate and its key again, for handshakes from now on; nothing without TLS.

        Raises:
            OSError, ssl.SSLError: they cannot be used.
        """
        certificate, key = self._tls
        if self._context is not None and certificate is not None:
            self._context.load_cert_chain(certificate, key)

    async def stop(self) -> None:
        """Stops listening, lets requests under way finish for ``STOP_S``, then returns. Harmless when not started."""
        if self._server is None or self._serving is None:
            return
        self._server.stop()
        await self._serving
        self._server = self._serving = None


class _Requests(HttpToolsProtocol):
    """uvicorn's faster parser, paced, with limits to heads and time, and JSON for what never becomes a request."""

    def __init__(self, *arguments: Any, turns: Turns, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._turns = turns
        self._held: list[bytes] = []
        # Bytes since the last one of a body, or since the head began.
        self._framing_bytes = 0
        self._fields = 0
        self._in_head = True
        self._arriving = True
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_the_rest()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._held and self._turns.take():
            self._read(data)
            return
        self._held.append(data)
        if len(self._held) == 1:
            # It is not read further meanwhile: what waits is what came in one go.
            self.flow.pause_reading()
            self._turns.do(self._read_held)

    def _read_held(self) -> None:
        data, self._held = b"".join(self._held), []
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self._read(data)

    def _read(self, data: bytes) -> None:
        if not self._in_head:
            # Before: if any of it is body, this begins anew.
            self._framing_bytes += len(data)
        super().data_received(data)
        if self._in_head:
            self._framing_bytes += len(data)
        if self._framing_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self._refuse_head()
        if self._arriving and self._deadline is None and not self.transport.is_closing():
            self._expect_the_rest()

    def _expect_the_rest(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_S, self.transport.close)

    def _arrived(self) -> None:
        self._arriving = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._arriving = True
        self._framing_bytes = self._fields = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            # Behind a body in parts: nobody asks for them, and uvicorn would keep any number.
            return
        self._fields += 1
        if self._fields > FIELDS_MAX:
            raise ValueError("too many headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._framing_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._framing_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._arrived()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        # Called while the parser's complaint is handled; a method that HTTP does not know is not allowed here either.
        if self._fields > FIELDS_MAX:
            self._refuse_head()
        elif isinstance(sys.exception(), httptools.HttpParserInvalidMethodError):
            self._refuse(b"405 Method Not Allowed", errors.METHOD_NOT_ALLOWED, "method not allowed", b"allow: POST\r\n")
        else:
            self._refuse(b"400 Bad Request", errors.INVALID_PARAMETER, "this is no HTTP request")

    def _refuse_head(self) -> None:
        self._refuse(b"431 Request Header Fields Too Large", errors.TOO_LARGE, "the headers are too large")

    def _refuse(self, status: bytes, code: int, message: str, header: bytes = b"") -> None:
        body = errors.encode(code, message)
        self.transport.write(
            b"HTTP/1.1 %b\r\n%bcontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status, header, JSON, len(body), body)
        )
        self.transport.close()


class _Uvicorn(uvicorn.Server):
    """uvicorn without signal handlers (the node owns the signals), saying when it is up, woken once a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        # uvicorn's own asks ten times a second whether it is to stop: a third of an idle node's wake-ups.
        # The tick writes the Date of the second.
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._stopping.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


_UPGRADES = ("Unsupported upgrade request", "No supported WebSocket library detected")


def _is_of_use(record: logging.LogRecord) -> bool:
    # Anybody may ask this port for a WebSocket; uvicorn's advice to install one is not for here.
    return not record.getMessage().startswith(_UPGRADES)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
            listening.setblocking(False)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise OSError(error.errno, _explained(error, host, port)) from error
    return listening


def _explained(error: OSError, host: str, port: int) -> str:
    where = f"admin port {port} on {host}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program; choose another with --admin-port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where} is not permitted to this user; choose one above 1023 with --admin-port"
    reason = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
    return f"cannot listen on {where}: {reason}; see --admin-host and --admin-port"
