"""The pipeline of durable sends against a real master with a real replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from gateway.metrics import METRICS
from gateway.store.errors import OutcomeUnknown, StoreRefused, StoreUnavailable
from gateway.store.replicated import ReplicatedPipeline, Replication
from gateway.store.topology import parse
from tests.proxy import Proxy
from tests.replicas import BINARIES, followed
from tests.servers import Server, redis7_binary
from tests.store.acts import asked
from tests.store.links import frozen, quick
from tests.waiting import eventually

LONG = Replication(1, 900)
"""Longer than anything that a test holds up on purpose."""

SHORT = Replication(1, 100)


class Told:
    """What a pipeline told its owner, and the replies in the order in which they came."""

    def __init__(self) -> None:
        self.downs = 0
        self.replies: list[tuple[Any, Any]] = []

    def down(self, _: object) -> None:
        self.downs += 1

    def put(self, context: Any, reply: Any) -> None:
        self.replies.append((context, reply))

    @property
    def kinds(self) -> list[Any]:
        return [type(reply) if isinstance(reply, Exception) else reply for _, reply in self.replies]


def pipe_to(url: str, replication: Replication, told: Told, **times: float) -> ReplicatedPipeline:
    """A pipeline to a server. Integers count as replies to writes, all else as replies to reads."""

    def ignore(*_: object) -> None: ...

    return ReplicatedPipeline(
        parse(url).endpoint,
        quick(**times),
        replication,
        mark="mark",
        wrote=lambda reply: type(reply) is int,
        pending_max=1000,
        on_up=ignore,
        on_down=told.down,
        on_unsettled=ignore,
        on_missing=ignore,
        on_data=ignore,
    )


@asynccontextmanager
async def piped(
    url: str, replication: Replication = LONG, **times: float
) -> AsyncIterator[tuple[ReplicatedPipeline, Told]]:
    """A pipeline that is up, ticking."""
    told = Told()
    pipeline = pipe_to(url, replication, told, **times)
    pipeline.start()
    ticking = asyncio.create_task(_tick(pipeline))
    try:
        await eventually(lambda: pipeline.up)
        yield pipeline, told
    finally:
        ticking.cancel()
        await pipeline.close()


async def _tick(pipeline: ReplicatedPipeline) -> None:
    while True:
        await asyncio.sleep(0.02)
        pipeline.tick(asyncio.get_running_loop().time())


def value(server: Server, key: str) -> Any:
    with server.client() as client:
        return client.get(key)


@BINARIES
async def test_a_reply_comes_when_the_replica_has_it(binary: Callable[[], str]) -> None:
    async with followed(binary()) as pair, piped(pair.master.url) as (pipeline, told):
        pair.way.pause(to_server=False)
        pipeline.post(("INCR", "n"), told.put, "first")
        await eventually(lambda: value(pair.master, "n") == "1")
        assert value(pair.replica, "n") is None
        assert told.replies == []
        pair.way.resume()
        await eventually(lambda: told.replies)
        assert told.replies == [("first", 1)]
        assert value(pair.replica, "n") == "1"


@BINARIES
async def test_what_comes_meanwhile_leaves_together_behind_one_wait(binary: Callable[[], str]) -> None:
    async with followed(binary()) as pair, piped(pair.master.url) as (pipeline, told):
        before = pair.waits()
        pair.way.pause(to_server=False)
        pipeline.post(("INCR", "n"), told.put, 0)
        await eventually(lambda: value(pair.master, "n") == "1")
        for number in range(1, 300):
            pipeline.post(("INCR", "n"), told.put, number)
            # Each in a turn of its own.
            await asyncio.sleep(0)
        assert value(pair.master, "n") == "1"
        pair.way.resume()
        await eventually(lambda: len(told.replies) == 300)
        assert told.replies == [(number, number + 1) for number in range(300)]
        assert pair.waits() - before == 2


@BINARIES
async def test_too_few_replicas_make_writes_unknown_and_leave_other_replies_alone(binary: Callable[[], str]) -> None:
    async with followed(binary()) as pair, piped(pair.master.url, SHORT) as (pipeline, told):
        counted = METRICS.replication_shortfalls
        with frozen(pair.replica):
            for command in (("INCR", "n"), ("ECHO", "x"), ("GET",), ("INCR", "n")):
                pipeline.post(command, told.put)
            await eventually(lambda: len(told.replies) == 4)
        # What was refused has nothing to wait for.
        assert told.kinds == [StoreRefused, OutcomeUnknown, b"x", OutcomeUnknown]
        assert METRICS.replication_shortfalls - counted == 2
        assert value(pair.master, "n") == "2", "unknown is not undone"
        await pair.in_step()
        assert await asked(pipeline, "INCR", "n") == 3


@BINARIES
async def test_a_read_of_what_another_connection_wrote_is_covered_too(binary: Callable[[], str]) -> None:
    """As when a repeated send finds its first try, which came through another node."""
    async with followed(binary()) as pair, piped(pair.master.url, SHORT) as (pipeline, _):
        with frozen(pair.replica), pair.master.client() as other:
            other.set("first-try", "stored")
            assert isinstance(await asked(pipeline, "STRLEN", "first-try"), OutcomeUnknown)
        await pair.in_step()
        assert await asked(pipeline, "STRLEN", "first-try") == 6


async def test_a_break_makes_unknown_what_was_written_and_refuses_what_was_not() -> None:
    async with followed(redis7_binary()) as pair, Proxy(pair.master.url) as front:
        async with piped(front.url) as (pipeline, told):
            pair.way.pause(to_server=False)
            pipeline.post(("INCR", "n"), told.put, "written")
            await eventually(lambda: value(pair.master, "n") == "1")
            pipeline.post(("INCR", "n"), told.put, "waiting")
            front.cut()
            await eventually(lambda: len(told.replies) == 2)
            assert told.kinds == [OutcomeUnknown, StoreUnavailable]
            assert [context for context, _ in told.replies] == ["written", "waiting"]
            pair.way.resume()
            await eventually(lambda: pipeline.up)
            assert await asked(pipeline, "INCR", "n") == 2, "what was refused was not carried out"


@BINARIES
async def test_a_master_that_is_demoted_meanwhile_makes_what_it_took_unknown(binary: Callable[[], str]) -> None:
    async with followed(binary()) as pair, piped(pair.master.url) as (pipeline, told):
        pair.way.pause(to_server=False)
        pipeline.post(("INCR", "n"), told.put)
        await eventually(lambda: value(pair.master, "n") == "1")
        with pair.master.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", pair.replica.url.rpartition(":")[2])
        await eventually(lambda: told.replies)
        assert told.kinds == [OutcomeUnknown]
        # Nothing is taken for replicated, or taken at all, by what is no master any more.
        await eventually(lambda: not pipeline.up)
        assert isinstance(await asked(pipeline, "INCR", "n"), StoreUnavailable)


async def test_a_frozen_master_is_given_up_with_what_waits_for_it() -> None:
    async with followed(redis7_binary()) as pair, piped(pair.master.url, SHORT, timeout_s=0.3) as (pipeline, told):
        with frozen(pair.master):
            pipeline.post(("INCR", "n"), told.put, "written")
            await eventually(lambda: pipeline._waiting)
            pipeline.post(("INCR", "n"), told.put, "waiting")
            await eventually(lambda: len(told.replies) == 2)
            assert told.kinds == [OutcomeUnknown, StoreUnavailable]
            assert told.downs == 1
        await eventually(lambda: pipeline.up)
        assert await asked(pipeline, "INCR", "n") == 2


async def test_neither_a_replica_nor_a_user_who_may_not_wait_is_connected_to() -> None:
    async with followed(redis7_binary()) as pair:
        with pair.master.client() as client:
            client.execute_command("ACL", "SETUSER", "hasty", "on", ">secret", "~*", "&*", "+@all", "-wait")
        for url, reason in (
            (pair.replica.url, "WAIT cannot be used with replica instances"),
            (pair.master.url.replace("://", "://hasty:secret@"), "no permissions"),
        ):
            pipeline = pipe_to(url, LONG, Told())
            pipeline.start()
            try:
                await eventually(lambda: reason in pipeline.last_fault)  # noqa: B023
                assert not pipeline.up
            finally:
                await pipeline.close()


async def test_a_mark_that_cannot_be_written_leaves_nothing_said_to_be_replicated() -> None:
    async with followed(redis7_binary()) as pair, piped(pair.master.url) as (pipeline, _):
        pipeline._mark = ("SET",)
        assert isinstance(await asked(pipeline, "INCR", "n"), OutcomeUnknown)
        pipeline._mark = ("SET", "mark", "")
        assert await asked(pipeline, "INCR", "n") == 2
