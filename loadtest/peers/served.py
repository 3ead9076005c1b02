"""How the Python peers are served: uvicorn in its fast dress, one process, on a free port of this machine."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn


def serve(app: Any, path: str) -> None:
    """Prints the socket's address and serves until it is terminated: uvloop, httptools, no access log, no compression.

    Args:
        app: the ASGI application.
        path: where in it the socket is.
    """
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        access_log=False,
        log_level="warning",
    )
    print(f"ws://127.0.0.1:{listening.getsockname()[1]}{path}", flush=True)
    uvicorn.Server(config).run(sockets=[listening])
