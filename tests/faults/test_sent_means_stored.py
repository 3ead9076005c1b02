"""Traffic while things break: `sent` means stored, 503 means not stored, and the recipient sees each once, in order.

After a restart of the store what comes again bears the ``mid`` that it had.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson
from websockets.exceptions import ConnectionClosed

from tests.integration.fleet import BRISK, node_process, two_nodes
from tests.nodes import Client, running_node
from tests.nodes import login as log_in
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually

WINDOW = 40

login = partial(log_in, max_queue=None)
"""A client that never stops reading, so that it hears of every end."""


class Traffic:
    """One sender's numbered messages to one recipient, some under way at a time, and what became of each."""

    def __init__(self, client: Client, to: str) -> None:
        self.outcomes: dict[int, int] = {}
        self.count = 0
        self._client = client
        self._to = to
        self._stopped = False

    async def run(self) -> None:
        """Sends until ``stop``; every message has its outcome at the end, unless the connection has ended."""
        try:
            while not self._stopped or len(self.outcomes) < self.count:
                while not self._stopped and self.count - len(self.outcomes) < WINDOW:
                    command = {"type": "send", "id": str(self.count), "to": self._to, "body": self.count}
                    self.count += 1
                    await self._client.say(command)
                answer = orjson.loads(await self._client.socket.recv())
                if answer["type"] in ("sent", "error"):
                    self.outcomes[int(answer["id"])] = answer.get("code", 0)
        except ConnectionClosed:
            pass

    def stop(self) -> None:
        self._stopped = True

    def of(self, code: int) -> set[int]:
        return {number for number, outcome in self.outcomes.items() if outcome == code}


async def during(traffic: Traffic, trouble: Callable[[], Awaitable[None]]) -> None:
    """Traffic before, during and after the trouble."""
    running = asyncio.create_task(traffic.run())
    await eventually(lambda: len(traffic.of(0)) > 100)
    await trouble()
    before = len(traffic.of(0))
    await eventually(lambda: len(traffic.of(0)) > before + 100, 15)
    traffic.stop()
    async with asyncio.timeout(10):
        await running


async def inbox(client: Client, last: int, *, once: bool = True) -> list[Any]:
    """The bodies that come up to a certain one; where messages may come more than ``once``, each the first time."""
    bodies: dict[str, Any] = {}
    while True:
        message = await client.next("message", 15)
        assert not once or message["mid"] not in bodies
        bodies.setdefault(message["mid"], message["body"])
        if message["body"] == last:
            return list(bodies.values())


def judge(traffic: Traffic, bodies: list[Any]) -> None:
    assert bodies == sorted(set(bodies)), "once, and in the order they were sent"
    stored = set(bodies)
    assert traffic.of(0) <= stored
    assert not traffic.of(503) & stored
    assert set(traffic.outcomes.values()) <= {0, 503, 504}


async def test_while_the_link_is_cut_again_and_again(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, node_id="a") as a:
            alice, bob = await login(a, "alice"), await login(b, "bob")
            traffic = Traffic(alice, "bob")

            async def cuts() -> None:
                for _ in range(8):
                    sent = len(traffic.of(0))
                    await eventually(lambda: len(traffic.of(0)) > sent + 20)  # noqa: B023
                    proxy.cut()

            await during(traffic, cuts)
            judge(traffic, await inbox(bob, max(traffic.of(0))))
            assert traffic.of(503) or traffic.of(504)
            for client in (alice, bob):
                await client.close()


async def test_while_the_recipients_node_loses_its_link_again_and_again(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, node_id="a") as a:
            alice, bob = await login(b, "alice"), await login(a, "bob")
            traffic = Traffic(alice, "bob")

            async def cuts() -> None:
                for _ in range(8):
                    sent = len(traffic.of(0))
                    await eventually(lambda: len(traffic.of(0)) > sent + 50)  # noqa: B023
                    proxy.cut()

            await during(traffic, cuts)
            assert traffic.of(0) == set(range(traffic.count))
            judge(traffic, await inbox(bob, traffic.count - 1))
            for client in (alice, bob):
                await client.close()


async def test_while_the_store_is_killed_and_restarted(fresh_valkey: Server) -> None:
    async with two_nodes(fresh_valkey.url, **BRISK) as (a, b):
        alice, bob = await login(a, "alice"), await login(b, "bob")
        traffic = Traffic(alice, "bob")

        async def restart() -> None:
            fresh_valkey.kill()
            await eventually(lambda: len(traffic.of(503)) > 10)
            await asyncio.to_thread(fresh_valkey.restart)

        await during(traffic, restart)
        # Whether the last second was on disk nobody can tell, so all that is unacked comes again.
        judge(traffic, await inbox(bob, max(traffic.of(0)), once=False))
        for client in (alice, bob):
            await client.close()


async def test_while_the_senders_node_is_killed(valkey: Server) -> None:
    async with running_node(valkey.url, node_id="a", **BRISK) as a, node_process(valkey.url, "b", **BRISK) as b:
        alice = await login(b, "alice", token=await a.services.tokens.issue("alice", None))
        bob = await login(a, "bob")
        traffic = Traffic(alice, "bob")
        running = asyncio.create_task(traffic.run())
        await eventually(lambda: len(traffic.of(0)) > 200)
        b.kill()
        await running
        bodies = await inbox(bob, max(traffic.of(0)))
        judge(traffic, bodies)
        await bob.close()


async def test_while_the_recipients_node_is_killed_and_the_recipient_resumes_elsewhere(valkey: Server) -> None:
    async with running_node(valkey.url, node_id="a", **BRISK) as a, node_process(valkey.url, "b", **BRISK) as b:
        token = await a.services.tokens.issue("bob", None)
        bob = await login(b, "bob", "?platform=web&device=d", token)
        alice = await login(a, "alice")
        traffic = Traffic(alice, "bob")
        running = asyncio.create_task(traffic.run())
        await eventually(lambda: len(traffic.of(0)) > 200)
        first = [await bob.next("message") for _ in range(50)]
        b.kill()
        sent = len(traffic.of(0))
        await eventually(lambda: len(traffic.of(0)) > sent + 200)
        traffic.stop()
        await running
        assert traffic.of(0) == set(range(traffic.count))
        again = await login(a, "bob", f"?platform=web&device=d&since={first[-1]['cursor']}", token)
        assert again.welcome["recovered"] is True
        await bob.closed()
        bodies = [each["body"] for each in first] + await inbox(again, traffic.count - 1)
        assert bodies == list(range(traffic.count))
        for client in (alice, again):
            await client.close()
