"""Calls through redis-py end when they are told to: by a cancellation, by a deadline of the caller, by their own."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway.store.errors import Moved, OutcomeUnknown, StoreUnavailable
from gateway.store.master import Dedicated, Master
from gateway.store.topology import parse
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually

TURNS = 60
"""Turns of the event loop over which a few calls are spread: an end is tried in each of them."""

ENDS_WITHIN_S = 1.0

Acts = Callable[[Master], Awaitable[Any]]


async def _on_one_connection(master: Master) -> None:
    async with master.dedicated() as connection:
        await connection.pipelined(("PING",), ("PING",))


ACTS: dict[str, Acts] = {
    "execute": lambda master: master.execute("PING"),
    "pipelined": lambda master: master.pipelined([("PING",)] * 3),
    "dedicated": _on_one_connection,
}


@pytest.fixture
async def master(valkey: Server) -> AsyncIterator[Master]:
    master = Master(parse(valkey.url).endpoint, 2.0, connections_max=2)
    yield master
    await master.close()


async def without_end(master: Master, act: Acts) -> None:
    while True:
        await act(master)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def ends(calling: asyncio.Future[None]) -> bool:
    """Whether it ends by itself; it has ended when this returns."""
    ended, _ = await asyncio.wait([calling], timeout=ENDS_WITHIN_S)
    while not calling.done():
        calling.cancel()
        await asyncio.wait([calling], timeout=0.01)
    return bool(ended)


@pytest.mark.parametrize("act", ACTS)
async def test_a_cancellation_is_never_lost_whenever_it_comes(master: Master, act: str) -> None:
    lost = []
    for turn in range(TURNS):
        calling = asyncio.ensure_future(without_end(master, ACTS[act]))
        await turns(turn)
        calling.cancel()
        if not await ends(calling):
            lost.append(turn)
        # The connection is whole again: nobody takes the answer that was left unread for the own one.
        assert await master.execute("ECHO", str(turn)) == str(turn).encode()
    assert lost == []


@pytest.mark.parametrize("act", ACTS)
async def test_a_deadline_around_calls_holds_whenever_it_comes(master: Master, act: str) -> None:
    async def in_time(deadline: asyncio.Timeout) -> None:
        async with deadline:
            await without_end(master, ACTS[act])

    lost = []
    for turn in range(1, TURNS):
        deadline = asyncio.timeout(None)
        calling = asyncio.ensure_future(in_time(deadline))
        await turns(turn)
        deadline.reschedule(asyncio.get_running_loop().time())
        if not await ends(calling):
            lost.append(turn)
        elif not isinstance(calling.exception(), TimeoutError):
            raise AssertionError(f"ended otherwise after turn {turn}") from calling.exception()
    assert lost == []


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("connected", [True, False])
async def test_a_frozen_server_is_given_up_in_time(valkey: Server, act: str, connected: bool) -> None:
    """After the greeting it may have taken what was written, before it there was nothing to take."""
    master = Master(parse(valkey.url).endpoint, 0.3)
    if connected:
        await master.execute("PING")
    valkey.pause()
    started = time.monotonic()
    with pytest.raises(OutcomeUnknown if connected else StoreUnavailable):
        await ACTS[act](master)
    assert 0.25 < time.monotonic() - started < 2.0
    valkey.resume()
    assert await master.execute("ECHO", "again") == b"again"
    await master.close()


@pytest.mark.parametrize("answer", ["refused", "silent"])
async def test_a_connection_that_broke_while_idle_wrote_nothing(valkey: Server, answer: str) -> None:
    """It is opened again for the call, and whatever becomes of that, the call did not go out."""
    async with Proxy(valkey.url) as proxy:
        master = Master(parse(proxy.url).endpoint, 0.3)
        async with master.dedicated() as connection:
            first = await connection.execute_command("CLIENT", "ID")
            await _break(connection, proxy)
            assert await connection.execute_command("CLIENT", "ID") != first
            await _break(connection, proxy)
            if answer == "refused":
                proxy.refuse()
            else:
                proxy.pause(to_server=False)
            with pytest.raises(StoreUnavailable):
                await connection.execute_command("INCR", "n")
        proxy.accept()
        proxy.resume()
        assert await master.execute("EXISTS", "n") == 0
        await master.close()


async def _break(connection: Dedicated, proxy: Proxy) -> None:
    writer = connection._connection._writer
    proxy.cut()
    await eventually(writer.transport.is_closing)


@pytest.mark.parametrize("act", ACTS)
async def test_an_answer_that_came_while_this_process_stood_still_is_an_answer(valkey: Server, act: str) -> None:
    master = Master(parse(valkey.url).endpoint, 0.1)
    await master.execute("PING")
    loop = asyncio.get_running_loop()
    alarm, clock = socket.socketpair()
    with alarm, clock:
        # Among the sockets, so that the timers are next: what came meanwhile is read behind them.
        loop.add_reader(clock, lambda: (clock.recv(1), time.sleep(0.11)))
        for turn in range(12):
            calling = asyncio.ensure_future(ACTS[act](master))
            await turns(turn)
            alarm.send(b"!")
            await calling
        loop.remove_reader(clock)
    await master.close()


async def test_who_finds_all_connections_in_use_waits_so_long_and_wrote_nothing(valkey: Server) -> None:
    master = Master(parse(valkey.url).endpoint, 0.3, connections_max=1)
    async with master.dedicated():
        with pytest.raises(StoreUnavailable):
            await master.execute("PING")
    assert await master.execute("PING") == b"PONG"
    await master.close()


@pytest.mark.parametrize("act", ACTS)
async def test_calls_under_way_when_their_master_is_closed_end_and_leave_no_connection_behind(
    valkey: Server, act: str
) -> None:
    """A failover replaces masters under calls that are on their way to them."""
    for turn in range(TURNS):
        master = Master(parse(valkey.url).endpoint, 2.0, connections_max=1)
        await master.execute("PING")
        calls = [asyncio.ensure_future(ACTS[act](master)) for _ in range(3)]
        await turns(turn + 1)
        await master.close()
        await asyncio.gather(*calls)
        with pytest.raises(Moved):
            await ACTS[act](master)
    with valkey.client() as client:
        await eventually(lambda: all(entry["name"] != "gateway" for entry in client.client_list()))


async def test_a_close_that_is_cancelled_closes_all_the_same(valkey: Server) -> None:
    """A link that is given up while it asks a sentinel: the pool closes by tasks, which a cancellation would stop."""
    lost = []
    for turn in range(1, TURNS):
        master = Master(parse(valkey.url).endpoint, 2.0)
        async with master.dedicated() as connection:
            writer = connection._connection._writer
        closing = asyncio.ensure_future(master.close())
        await turns(turn)
        closing.cancel()
        await asyncio.wait([closing])
        await turns(2)
        if not writer.transport.is_closing():
            lost.append(turn)
            writer.close()
    assert lost == []
