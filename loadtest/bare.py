"""The limit to compare with: a bare relay on websockets' Sans-I/O layer, without Redis, policy, storage or presence.

python -m loadtest.bare        prints its address, serves until it is terminated

The garbage collector is set as the gateway's: what that saves is no merit of the one or the other.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from typing import cast

import jwt
import uvloop
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from gateway.cli.running import settle_garbage
from gateway.cli.serve import GARBAGE
from gateway.protocol import SUBPROTOCOL, commands, replies


class _Connection(asyncio.Protocol):
    """One client; everybody is found in ``users``."""

    users: dict[str, _Connection] = {}

    def __init__(self) -> None:
        self.ws = ServerProtocol(subprotocols=[Subprotocol(SUBPROTOCOL)])
        self.user = ""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.ws.receive_data(data)
        for event in self.ws.events_received():
            if isinstance(event, Request):
                self._open(event)
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self._relay(bytes(event.data))
        self.transmit()

    def _open(self, request: Request) -> None:
        token = request.headers["Authorization"].partition(" ")[2]
        self.user = jwt.decode(token, options={"verify_signature": False})["sub"]
        self.users[self.user] = self
        self.ws.send_response(self.ws.accept(request))
        self.ws.send_text(b'{"type":"welcome"}')

    def _relay(self, payload: bytes) -> None:
        command = commands.decode(payload)
        if not isinstance(command, commands.Send):
            return
        recipient = self.users.get(command.to)
        if recipient is not None:
            recipient.ws.send_text(
                b'{"type":"message","from":"%b","to":"%b","body":%b}'
                % (self.user.encode(), command.to.encode(), bytes(command.body))
            )
            recipient.transmit()
        self.ws.send_text(replies.encode(replies.Sent(command.id, "", 0, recipient is not None)))

    def transmit(self) -> None:
        writes = self.ws.data_to_send()
        if writes and self.transport is not None:
            self.transport.write(b"".join(writes))
            if writes[-1] == b"":
                self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.users.pop(self.user, None)
        self.transport = None


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0)
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    settle_garbage()
    print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/connect", flush=True)
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    gc.set_threshold(*GARBAGE)
    uvloop.run(_serve())
