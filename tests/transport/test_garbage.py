"""Sessions and messages leave no cycles: the collector, whose full round stops the loop, has little to do."""

import gc
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from websockets.datastructures import Headers

from gateway.transport.upgrade import Fields
from tests.transport.conftest import Edge
from tests.transport.wire import CLOSE, CONT, PING, TEXT, RawSocket, frame, raw_session, raw_socket, upgrade_request
from tests.waiting import eventually

SESSIONS = 5


@contextmanager
def cycles() -> Iterator[list[str]]:
    """Lists, when it ends, the types of this project's and the library's objects that only the collector would free."""
    found: list[str] = []
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        kinds = [type(each) for each in gc.garbage]
        found += sorted(kind.__qualname__ for kind in kinds if kind.__module__.startswith(("gateway", "websockets")))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def closes(client: RawSocket) -> None:
    client.send(frame(CLOSE, struct.pack("!H", 1000)))


def vanishes(client: RawSocket) -> None:
    client.writer.transport.abort()


def is_closed(client: RawSocket) -> None:
    client.send(frame(TEXT, b"{") * 10)


def breaks_the_framing(client: RawSocket) -> None:
    client.send(frame(CONT, b"x"))


@pytest.mark.parametrize("end", [closes, vanishes, is_closed, breaks_the_framing])
async def test_an_ended_session_leaves_none(edge: Edge, end: Callable[[RawSocket], None]) -> None:
    async with edge() as node:
        async with raw_session(node) as client:
            # What is made once, at the first of its kind, is no cycle of a session.
            end(client)
        await eventually(lambda: not node.listener.connections)
        with cycles() as left:
            for _ in range(SESSIONS):
                async with raw_session(node) as client:
                    client.send(frame(PING, b"x") + frame(TEXT, b'{"type":"send","id":"1","to":"alice","body":1}'))
                    await client.message("sent")
                    end(client)
            await eventually(lambda: not node.listener.connections)
        assert left == []


async def test_a_refused_connection_leaves_none(edge: Edge) -> None:
    async with edge() as node:
        with cycles() as left:
            for path, token in (("/v1/connect", "no.token.this"), ("/nowhere", None), ("/healthz", None)) * SESSIONS:
                async with raw_socket(node) as client:
                    client.send(upgrade_request(path, token))
                    await client.response()
            await eventually(lambda: not node.listener.connections)
        assert left == []


async def test_an_open_connection_holds_no_request(edge: Edge) -> None:
    async with edge() as node, raw_session(node):
        gc.collect()
        held = [each for each in gc.get_objects() if isinstance(each, Headers | Fields)]
        assert not [each for each in held if each.get_all("sec-websocket-key")]
