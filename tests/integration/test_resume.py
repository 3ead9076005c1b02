"""Coming back: policy first, then what is missing, on whichever node."""

from collections.abc import Awaitable, Callable

import pytest

from gateway.metrics import METRICS
from gateway.node import Node
from tests.integration.fleet import BRISK, claims_of, everything, node_process, two_nodes
from tests.integration.raw import RawClient
from tests.nodes import login, running_node
from tests.servers import Server
from tests.waiting import eventually

PHONE, TABLET = "?platform=web&device=phone", "?platform=web&device=tablet"


async def missed(node: Node, token: str, query: str = PHONE) -> str:
    """A cursor of alice's, behind which a message waits."""
    alice, bob = await login(node, "alice", query, token), await login(node, "bob")
    await bob.send("alice", "seen")
    cursor: str = (await alice.next("message"))["cursor"]
    await alice.close()
    await eventually(lambda: len(node.hub.of("alice")) == 0)
    await bob.send("alice", "a secret")
    await bob.close()
    return cursor


async def ban(node: Node, token: str) -> None:
    await node.services.bans.ban(["alice"], minutes=5)


async def expire(node: Node, token: str) -> None:
    await node.services.tokens.expire(["alice"], node.clock.wall_ms() + 1)


async def revoke(node: Node, token: str) -> None:
    await node.services.tokens.revoke("alice", claims_of(token)["jti"])


async def deactivate(node: Node, token: str) -> None:
    await node.services.deletion.deactivate(["alice"])


async def refuse(node: Node, token: str) -> None:
    await node.services.settings.set({"devicePolicy": "refuse"})


@pytest.mark.parametrize(
    ("act", "close_code", "status"),
    [(ban, 4502, 403), (expire, 4501, 401), (revoke, 4501, 401), (deactivate, 4503, 403), (refuse, 4506, 403)],
)
async def test_what_was_decided_meanwhile_is_looked_at_before_anything_is_replayed(
    valkey: Server, act: Callable[[Node, str], Awaitable[None]], close_code: int, status: int
) -> None:
    async with two_nodes(valkey.url) as (a, b):
        token = await a.services.tokens.issue("alice", "Alice")
        since = await missed(a, token)
        await act(a, token)
        tablet = None
        if act is refuse:
            await eventually(lambda: b.services.settings.live.device_policy == "refuse")
            tablet = await login(a, "alice", TABLET, token)
        for node in (a, b):
            for way in ("header", "subprotocol", "auth"):
                raw = await RawClient.begin(node, token, way, f"{PHONE}&since={since}")
                received = await raw.until_end()
                assert b"secret" not in received
                assert b"welcome" not in received
                if way == "header":
                    assert f"HTTP/1.1 {status} ".encode() in received
                else:
                    assert close_code.to_bytes(2, "big") + b'{"code"' in received
        if tablet is not None:
            await tablet.close()


async def test_a_device_that_another_replaced_gets_no_replay_on_its_old_session(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        token = await a.services.tokens.issue("alice", "Alice")
        since = await missed(a, token)
        first = await login(a, "alice", f"{PHONE}&since={since}", token)
        assert (await first.next("message"))["body"] == "a secret"
        second = await login(b, "alice", f"{PHONE}&since={since}", token)
        code, reason = await first.closed()
        assert (code, reason["code"]) == (4504, 31010)
        assert second.welcome["recovered"] is True
        assert (await second.next("message"))["body"] == "a secret"
        assert await everything(second) == []
        await second.close()


async def test_a_slow_consumer_goes_on_at_another_node_where_it_was(valkey: Server) -> None:
    limits = {"outbound_bytes_max": 64 * 1024, "outbound_age_max_s": 60.0}
    async with two_nodes(valkey.url, **limits) as (a, b):
        token = await a.services.tokens.issue("alice", "Alice")
        bob = await login(b, "bob")
        first = await login(a, "alice", PHONE, token)
        await bob.send("alice", [0])
        since: str = (await first.next("message"))["cursor"]
        await first.close()
        slow = await RawClient.open(a, token, query=f"{PHONE}&since={since}", receive_buffer=4096)
        slow.pause()
        before, count = METRICS.slow_consumers, 1
        while METRICS.slow_consumers == before:
            assert (await bob.send("alice", [count, "x" * 8192]))["type"] == "sent"
            count += 1
            assert count < 3000
        slow.abort()
        again = await login(b, "alice", f"{PHONE}&since={since}", token, max_size=None)
        assert again.welcome["recovered"] is True
        assert [(await again.next("message"))["body"][0] for _ in range(1, count)] == list(range(1, count))
        assert await everything(again) == []
        for client in (again, bob):
            await client.close()


async def test_a_killed_nodes_client_goes_on_at_another_with_nothing_missing_and_nothing_twice(valkey: Server) -> None:
    async with running_node(valkey.url, node_id="a", **BRISK) as a, node_process(valkey.url, "b", **BRISK) as b:
        token = await a.services.tokens.issue("alice", "Alice")
        bob = await login(a, "bob")
        alice = await login(b, "alice", PHONE, token)
        received = list[int]()
        cursor = ""
        for number in range(60):
            assert (await bob.send("alice", number))["type"] == "sent"
            if number == 20:
                b.kill()
                await alice.closed()
                # What had come before the end.
                for message in alice.received:
                    received.append(message["body"])
                    cursor = message["cursor"]
            elif number < 20 and number % 2 == 0:
                message = await alice.next("message")
                received.append(message["body"])
                cursor = message["cursor"]
        alice = await login(a, "alice", f"{PHONE}&since={cursor}", token)
        assert alice.welcome["recovered"] is True
        received += [(await alice.next("message"))["body"] for _ in range(60 - len(received))]
        assert received == list(range(60))
        assert await everything(alice) == []
        for client in (alice, bob):
            await client.close()
