"""Sessions of dead nodes under a policy that keeps newcomers out: they keep nobody out."""

from typing import Any

import pytest

from gateway.metrics import METRICS
from gateway.node import Node
from gateway.store import nodes, sessions
from gateway.store.keys import NODES
from tests.integration.fleet import BRISK, everything, node_process
from tests.integration.raw import RawClient
from tests.nodes import Client, login, running_node
from tests.servers import Server
from tests.store.acts import session
from tests.waiting import eventually

PHONE, TABLET = "?platform=ios&device=phone", "?platform=ios&device=tablet"


async def policy(node: Node, name: str) -> None:
    await node.services.settings.set({"devicePolicy": name})


async def left_behind(node: Node, incarnation: str, *session_ids: str) -> None:
    """Alice's sessions as a node has left them that no reaper has been to yet."""
    for session_id in session_ids:
        who = session("alice", session_id, device=session_id, platform="ios", issued_at=node.clock.wall_ms())
        call = sessions.connect(
            node.store.keys,
            who,
            incarnation,
            device_policy="unlimited",
            sessions_max=16,
            since=None,
            retention_ms=86_400_000,
        )
        assert (await node.store.execute(call))[0] == 0


async def lease(node: Node, incarnation: str, ends_in_ms: int) -> None:
    now_ms = nodes.parse_time(await node.store.execute(nodes.time(node.store.keys)))
    listed = nodes.leases(node.store.keys)
    await node.store.execute(listed._replace(command=("ZADD", NODES, now_ms + ends_in_ms, incarnation)))


async def refusal(node: Any, token: str, query: str) -> bytes:
    late = await RawClient.begin(node, token, "subprotocol", query)
    return await late.until_end()


async def listed(client: Client) -> list[str]:
    return [each["device"] for each in (await client.ask("sessions.list"))["sessions"]]


@pytest.mark.parametrize(("name", "most"), [("refuse", 16), ("unlimited", 2)])
async def test_sessions_of_a_dead_node_stand_in_nobodys_way_and_those_of_a_live_one_do(
    valkey: Server, name: str, most: int
) -> None:
    # No renewal, and so no reaping, comes in between.
    async with running_node(valkey.url, lease_s=60.0, lease_renew_s=20.0, sessions_per_user_max=most) as node:
        await policy(node, name)
        token = await node.services.tokens.issue("alice", "Alice")
        bob = await login(node, "bob")
        await left_behind(node, "gone.1", "phone", "watch")
        await bob.ask("watch", users=["alice"])
        before = METRICS.sessions_reaped
        for ends_in_ms, member in ((50_000, "gone.1"), (50_000, "grace")):
            await lease(node, member, ends_in_ms)
            ended = await refusal(node, token, TABLET)
            assert b'{"code":31023' in ended or b'{"code":31024' in ended, ended
            await lease(node, member, -1)
        assert METRICS.sessions_reaped == before
        tablet = await login(node, "alice", TABLET, token)
        assert METRICS.sessions_reaped == before + 2
        assert await listed(tablet) == ["tablet"]
        # Who watches ends up with what is so.
        pushes = [each for each in await everything(bob) if each["type"] == "presence"]
        assert pushes[-1]["online"] is True
        # A rival that is there is as much in the way as ever.
        if name == "refuse":
            assert b'{"code":31023' in await refusal(node, token, PHONE)
        for client in (tablet, bob):
            await client.close()


async def test_a_killed_node_keeps_a_newcomer_out_no_longer_than_its_lease(valkey: Server) -> None:
    async with running_node(valkey.url, node_id="a", **BRISK) as a, node_process(valkey.url, "b", **BRISK) as b:
        await policy(a, "refuse")
        token = await a.services.tokens.issue("alice", "Alice")
        await login(b, "alice", PHONE, token)
        assert b'{"code":31023' in await refusal(a, token, TABLET)
        b.kill()

        async def let_in() -> bool:
            late = await RawClient.begin(a, token, "header", TABLET)
            await late.until(b"\r\n\r\n", or_end=True)
            late.abort()
            await late.until_end()
            return late.received.startswith(b"HTTP/1.1 101")

        await eventually(let_in, 10)
