"""The line between the supervisor and one worker: JSON, one message a line, over a socket pair that both inherit.

Its end is how each learns that the other is gone. Nothing of it is in the file system, and nobody else can reach it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from gateway.metrics import Measures

LINE_BYTES_MAX = 1024 * 1024
"""The longest message; all counters of a worker take 5 KB."""


class Message(msgspec.Struct, omit_defaults=True):
    """What one tells the other; only what belongs to ``what`` is set.

    Attributes:
        what: to a worker: ``begin`` (the first message), ``close`` (take no new sockets), ``stop``, ``abandon``,
            ``reload``, ``measure``, ``siblings``; from a worker: ``ready``, ``failed``, ``measures``, ``siblings``.
        spec: how to begin, pickled by the supervisor and read by nobody else.
        drain_s: how long the worker may take to send its clients away.
        lines: why the worker could not start, for the person at the terminal.
        status: the exit status that goes with it.
        client_port, admin_port: where it listens.
        measures: its own counters and gauges.
        siblings: those of the other workers by index; None = it did not answer in time.
        restarts: how often each was started again.
    """

    what: str
    spec: bytes = b""
    drain_s: float = 0.0
    lines: list[str] = []
    status: int = 0
    client_port: int = 0
    admin_port: int = 0
    measures: Measures | None = None
    siblings: dict[str, Measures | None] = {}
    restarts: dict[str, int] = {}


class Channel:
    """One end of the line.

    Args:
        reader, writer: made by ``over``.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Channel:
        """The channel over one socket of a pair, which it then owns."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end, limit=LINE_BYTES_MAX))

    def tell(self, what: str, **fields: Any) -> None:
        """Says it; nothing where the other end is gone, which ``heard`` tells.

        Not waited for: each message is the answer to one, or one of the few that end a worker.
        """
        if not self._writer.is_closing():
            self._writer.write(msgspec.json.encode(Message(what, **fields)) + b"\n")

    async def heard(self) -> AsyncIterator[Message]:
        """What the other end says, until it is gone."""
        while True:
            try:
                line = await self._reader.readuntil(b"\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            yield msgspec.json.decode(line, type=Message)

    async def close(self) -> None:
        """Hangs up, when all that was told has gone out."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
