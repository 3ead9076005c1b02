"""python-socketio with its Redis client manager, as its documentation recommends it: ASGI, WebSocket only.

PEER_REDIS=unix:///path PEER_SECRET=… python -m loadtest.peers.python_socketio_server      prints its address

A user is a room; every message is answered by an acknowledgement. Nothing is stored and no policy is asked.
"""

from __future__ import annotations

import os
from typing import Any

import jwt
import socketio  # type: ignore[import-untyped]

from loadtest.peers.served import serve

SECRET = os.environ.get("PEER_SECRET", "")

sio = socketio.AsyncServer(
    async_mode="asgi",
    # Every event is a task that publishes; the pool refuses those for which it has no connection.
    client_manager=socketio.AsyncRedisManager(
        os.environ.get("PEER_REDIS", ""), redis_options={"max_connections": 4096}
    ),
    transports=["websocket"],
    http_compression=False,
    async_handlers=False,
    logger=False,
    engineio_logger=False,
)


@sio.event  # type: ignore[untyped-decorator]
async def connect(sid: str, environ: dict[str, Any], auth: dict[str, str]) -> None:
    """Checks the token; the user's room is what messages are sent to."""
    try:
        user = jwt.decode(auth["token"], SECRET, algorithms=["HS256"], options={"verify_aud": False})["sub"]
    except (jwt.InvalidTokenError, KeyError, TypeError):
        raise socketio.exceptions.ConnectionRefusedError("token") from None
    await sio.save_session(sid, {"user": user})
    await sio.enter_room(sid, user)


@sio.event  # type: ignore[untyped-decorator]
async def send(sid: str, to: str, body: dict[str, Any]) -> None:
    """A direct message; returning is the acknowledgement."""
    user = (await sio.get_session(sid))["user"]
    await sio.emit("message", (user, body), room=to)


app = socketio.ASGIApp(sio)

if __name__ == "__main__":
    serve(app, "/socket.io/?EIO=4&transport=websocket")
