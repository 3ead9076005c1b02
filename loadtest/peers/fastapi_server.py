"""A chat server on FastAPI and redis-py's pub/sub, as a team writes it for a product: what the gateway stands in for.

PEER_REDIS=unix:///path PEER_SECRET=… python -m loadtest.peers.fastapi_server      prints its address

One subscription connection and one task for all users of the process, one channel per user. Nothing is stored, no
policy is asked, and a user who is away misses messages.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import jwt
import orjson
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from loadtest.peers.served import serve

CONNECTIONS = 4096
SECRET = os.environ.get("PEER_SECRET", "")


class Room:
    """The sockets of this process's users, and the one subscription that feeds them."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.subscription: PubSub = redis.pubsub(ignore_subscribe_messages=True)
        self.sockets: dict[bytes, set[WebSocket]] = {}

    async def enter(self, user: str, websocket: WebSocket) -> None:
        """From here on the user's messages come to this socket too."""
        channel = f"user:{user}".encode()
        if channel not in self.sockets:
            self.sockets[channel] = set()
            await self.subscription.subscribe(channel)
        self.sockets[channel].add(websocket)

    async def leave(self, user: str, websocket: WebSocket) -> None:
        """The socket is gone."""
        channel = f"user:{user}".encode()
        sockets = self.sockets[channel]
        sockets.discard(websocket)
        if not sockets:
            del self.sockets[channel]
            await self.subscription.unsubscribe(channel)

    async def feed(self) -> None:
        """Writes what is published to the sockets."""
        await self.subscription.subscribe("nobody")
        async for message in self.subscription.listen():
            text = message["data"].decode()
            for websocket in tuple(self.sockets.get(message["channel"], ())):
                await websocket.send_text(text)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The connections to Redis, as long as the application lives."""
    # redis-py refuses who finds all connections in use, which are 100 unless told otherwise.
    redis = Redis.from_url(os.environ["PEER_REDIS"], max_connections=CONNECTIONS)
    app.state.room = Room(redis)
    feeding = asyncio.create_task(app.state.room.feed())
    yield
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)
    await app.state.room.subscription.aclose()
    await redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws")
async def chat(websocket: WebSocket) -> None:
    """One client: a token in the handshake, then ``send`` commands, each answered by ``sent``."""
    token = websocket.headers.get("authorization", "").partition(" ")[2]
    try:
        user = jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_aud": False})["sub"]
    except jwt.InvalidTokenError:
        await websocket.close(1008)
        return
    await websocket.accept()
    room: Room = app.state.room
    await room.enter(user, websocket)
    try:
        await websocket.send_text('{"type":"welcome"}')
        while True:
            command = orjson.loads(await websocket.receive_text())
            message = {"type": "message", "from": user, "to": command["to"], "body": command["body"]}
            await room.redis.publish(f"user:{command['to']}", orjson.dumps(message))
            await websocket.send_text(orjson.dumps({"type": "sent", "id": command["id"]}).decode())
    except WebSocketDisconnect:
        pass
    finally:
        await room.leave(user, websocket)


if __name__ == "__main__":
    serve(app, "/ws")
