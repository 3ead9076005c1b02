"""A disconnect that Redis did not carry out is not the end of it: nobody stays online who is gone."""

import pytest

from gateway.node import SWEEP_S, Node
from gateway.services import leases
from gateway.store import nodes, sessions
from tests.integration.fleet import MovableClock
from tests.nodes import login, running_node
from tests.servers import Server
from tests.waiting import eventually

PATIENT = {"lease_s": 120.0, "lease_renew_s": 40.0, "drop_wait_s": 121.0}
"""A lease that outlasts what the clock jumps by."""


async def test_a_disconnect_that_was_refused_is_made_good(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        alice = await login(node, "alice")
        with valkey.client() as redis:
            redis.execute_command("FUNCTION", "FLUSH")
            await alice.close()
            await eventually(lambda: not node.hub.sessions)

            async def offline() -> bool:
                return not await node.services.presence.online("alice")

            await eventually(offline)


async def test_a_node_that_stops_with_a_disconnect_unheard_leaves_its_lease_to_a_reaper(valkey: Server) -> None:
    async with running_node(valkey.url, node_id="second", lease_s=2, lease_renew_s=0.5) as second:
        async with running_node(valkey.url) as node:
            await login(node, "alice")
            with valkey.client() as redis:
                # The node's last disconnect is refused, and it has no time left to compare.
                redis.execute_command("FUNCTION", "FLUSH")

        async def offline() -> bool:
            return not await second.services.presence.online("alice")

        await eventually(offline, 8)


async def ghost(node: Node, incarnation: str, user: str) -> None:
    """A `connect` that a link had swallowed arrives: the session that it registers ended long ago."""
    gone = await login(node, user)
    (session,) = node.hub.of(user)
    await gone.close()
    await eventually(lambda: not node.hub.sessions and not node.admission.leaving)
    connect = sessions.connect(
        node.store.keys,
        session,
        incarnation,
        device_policy="platform",
        sessions_max=16,
        since=None,
        retention_ms=60_000,
    )
    assert (await node.store.execute(connect))[0] == 0
    assert await node.services.presence.online(user)


async def test_a_session_registered_after_its_end_is_found_by_the_sweep(valkey: Server) -> None:
    clock = MovableClock()
    async with running_node(valkey.url, clock, **PATIENT) as node:
        await ghost(node, node.bus.incarnation, "alice")
        bob = await login(node, "bob")
        clock.jump(SWEEP_S)

        async def only_bob() -> bool:
            return not await node.services.presence.online("alice")

        await eventually(only_bob)
        assert await node.services.presence.online("bob")
        await bob.close()


async def test_a_session_registered_after_its_node_was_reaped_is_found_later(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when whoever reaped it is gone by then."""
    monkeypatch.setattr(leases, "REVISIT_S", 1.0)
    async with running_node(valkey.url, **PATIENT) as node:
        await node.store.execute(nodes.end(node.store.keys, "dead.1"))
        node.leases.renew()

        async def buried() -> bool:
            listed = nodes.parse_leases(await node.store.execute(nodes.leases(node.store.keys)))
            return [lease.incarnation for lease in listed] == [node.bus.incarnation]

        await eventually(buried)
        await ghost(node, "dead.1", "alice")
    async with running_node(valkey.url, **PATIENT) as node:

        async def offline() -> bool:
            node.leases.renew()
            return not await node.services.presence.online("alice")

        await eventually(offline)

        async def forgotten() -> bool:
            return not any(b"dead.1" in member for member, _ in await listed_nodes(node))

        await eventually(forgotten)


async def listed_nodes(node: Node) -> list[tuple[bytes, float]]:
    """All that is kept of nodes, second looks and claims included."""
    return [tuple(pair) for pair in await node.store.execute(nodes.leases(node.store.keys))]
