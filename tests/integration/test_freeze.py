"""A node that stood still: what happened meanwhile is known before anything passes."""

import asyncio
import time

import pytest
from websockets.exceptions import InvalidStatus

from tests.integration.fleet import (
    BRISK,
    MovableClock,
    everything,
    node_process,
    online,
    sessions_on,
    until_closed,
)
from tests.nodes import login, open_socket, running_node
from tests.proxy import Proxy
from tests.servers import Server
from tests.transport.wire import raw_socket, upgrade_request
from tests.waiting import eventually


async def test_a_node_frozen_beyond_its_lease_fences_and_comes_back_under_a_new_name(valkey: Server) -> None:
    async with running_node(valkey.url, node_id="a", **BRISK) as a, node_process(valkey.url, "b", **BRISK) as b:
        tokens = {user: await a.services.tokens.issue(user, None) for user in ("alice", "mallory", "roamer")}
        phone = "?platform=ios&device=phone"
        alice, mallory, roamer = [await login(b, user, phone, token) for user, token in tokens.items()]
        bob = await login(a, "bob")
        await bob.ask("watch", users=["alice", "roamer"])
        (before,) = await a.services.presence.sessions("alice")
        b.freeze()
        # Read by the kernel only; what comes of it is decided when the node thaws.
        for client in (alice, mallory, roamer):
            await client.say({"type": "send", "id": "frozen", "to": "bob", "body": client.welcome["user"]})
        gone = {(await bob.next("presence", 8.0))["user"] for _ in range(2)}
        assert gone == {"alice", "roamer"}
        assert (await bob.send("alice", "while you were frozen"))["type"] == "sent"
        await a.services.bans.ban(["mallory"], minutes=1)
        roamed = await login(a, "roamer", phone, tokens["roamer"])
        b.thaw()
        received, code = await until_closed(mallory)
        assert code == 4502
        assert not [each for each in received if each["type"] == "sent"]
        received, code = await until_closed(roamer)
        assert code == 4504
        assert not [each for each in received if each["type"] == "sent"]
        assert (await alice.next("message"))["body"] == "while you were frozen"
        await online(a, "alice")
        (after,) = await a.services.presence.sessions("alice")
        assert after.session == before.session
        assert after.node != before.node
        assert after.node.partition(".")[0] == "b"
        assert (await alice.send("bob", "thawed"))["type"] == "sent"
        bodies = [each["body"] for each in await everything(bob) if each["type"] == "message"]
        # A command of a session that came through may have been refused or sent, of the others never sent.
        assert [body for body in bodies if body != "alice"] == ["thawed"]
        assert (await roamed.ask("ping"))["type"] == "pong"
        assert [each.node for each in await a.services.presence.sessions("roamer")] == [a.bus.incarnation]
        for client in (alice, bob, roamed):
            await client.close()


async def test_a_short_freeze_only_puts_a_barrier_before_what_passes_next(valkey: Server) -> None:
    async with running_node(valkey.url, node_id="a") as a, node_process(valkey.url, "b") as b:
        token = await a.services.tokens.issue("alice", None)
        alice = await login(b, "alice", token=token)
        mallory = await login(b, "mallory", token=await a.services.tokens.issue("mallory", None))
        bob = await login(a, "bob")
        (before,) = await a.services.presence.sessions("alice")
        b.freeze()
        thaw_at = time.monotonic() + 0.6
        for client in (alice, mallory):
            await client.say({"type": "send", "id": "frozen", "to": "bob", "body": client.welcome["user"]})
        ban = asyncio.create_task(a.services.bans.ban(["mallory"], minutes=1))
        await eventually(lambda: a.services.bans.list())
        await eventually(lambda: time.monotonic() > thaw_at)
        b.thaw()
        done = await ban
        assert (done.sessions_closed, done.nodes_silent) == (1, [])
        received, code = await until_closed(mallory)
        assert code == 4502
        assert not [each for each in received if each["type"] == "sent"]
        assert (await alice.next("sent"))["id"] == "frozen"
        assert [each["body"] for each in await everything(bob)] == ["alice"]
        assert await a.services.presence.sessions("alice") == [before]
        for client in (alice, bob):
            await client.close()


async def test_a_gap_shorter_than_the_lease_ends_it_where_no_renewal_was_granted_before(valkey: Server) -> None:
    clock = MovableClock()
    async with running_node(valkey.url, clock, node_id="a", lease_s=60.0, lease_renew_s=20.0, drop_wait_s=61.0) as node:
        old = node.bus.incarnation
        clock.jump(10.0)
        await eventually(lambda: not node.bus.gates[0].shut)
        assert node.bus.incarnation == old
        # The last granted renewal was sent before the first gap: together they are longer than the lease.
        node.leases.stop()
        clock.jump(55.0)
        await eventually(lambda: node.bus.incarnation != old)
        assert node.bus.withheld


async def test_who_comes_before_the_first_lease_is_granted_is_sent_away(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        alice = await login(node, "alice")
        token = await node.services.tokens.issue("bob", None)
        node.bus.withhold()
        assert node.unready() == "this node holds no lease"
        with pytest.raises(InvalidStatus) as refused:
            await open_socket(node, token)
        assert refused.value.response.status_code == 503
        assert (await alice.send("bob"))["code"] == 503
        node.leases.renew()
        await eventually(lambda: node.unready() is None)

        async def sends() -> bool:
            return bool((await alice.ask("ping"))["type"] == "pong")

        await eventually(sends)
        await alice.close()


async def test_a_second_gap_needs_a_barrier_of_its_own(valkey: Server) -> None:
    """The first gap's PING was answered before the ban; only the second one's answer comes after it."""
    clock = MovableClock()
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, clock, node_id="a", lease_s=60.0, probe_timeout_s=30.0) as a:
            alice, bob = await login(a, "alice"), await login(b, "bob")
            session = a.hub.of("alice")[0]
            proxy.pause(to_server=False)
            clock.jump(0.5)
            await eventually(lambda: session.gate.shut)
            await b.services.settings.get()
            ban = asyncio.create_task(b.services.bans.ban(["alice"], minutes=1))
            await eventually(lambda: b.services.bans.list())
            clock.jump(0.5)
            await alice.say({"type": "send", "id": "x", "to": "bob", "body": "after the ban"})
            await eventually(lambda: session.held)
            proxy.resume()
            done = await ban
            assert (done.sessions_closed, done.nodes_silent) == (1, [])
            assert (await alice.closed())[0] == 4502
            assert await everything(bob) == []
            await bob.close()


async def test_while_the_gate_is_shut_nothing_is_written_either(valkey: Server) -> None:
    clock = MovableClock()
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, clock, node_id="a", lease_s=60.0, probe_timeout_s=30.0) as a:
            alice, bob = await login(a, "alice"), await login(b, "bob")
            session = a.hub.of("alice")[0]
            # The command goes, its answer and the message wait behind the ban.
            proxy.pause(to_server=False)
            ban = asyncio.create_task(b.services.bans.ban(["alice"], minutes=1))
            await eventually(lambda: b.services.bans.list())
            clock.jump(0.5)
            await eventually(lambda: session.gate.shut)
            a.admission.muted(b"salice\n0")
            session.send(b'{"type":"message","body":"not after the ban"}')
            proxy.resume()
            await ban
            received, code = await until_closed(alice)
            assert code == 4502
            assert received == []
            assert sessions_on(a, "alice") == 0
            await bob.close()


async def test_what_was_held_while_joining_is_taken_when_the_lease_is_granted_again(valkey: Server) -> None:
    """The lease becomes doubtful behind a gap: then the gap's barrier opens nothing, and the renewal does."""
    clock = MovableClock()
    async with Proxy(valkey.url) as proxy, running_node(proxy.url, clock, role="edge") as node:
        token = await node.services.tokens.issue("alice", "Alice")
        await eventually(lambda: node.bus.ready and not node.bus.links[0]._pending)
        granted_at, gate = node.leases._granted_at, node.bus.gates[0]
        assert granted_at is not None
        proxy.pause(to_server=False)
        lease_s = node.config.lease_s
        clock.jump(granted_at + lease_s - 0.5 - clock.now())
        await eventually(lambda: gate.shut)
        assert not gate.away
        async with raw_socket(node) as client:
            client.send(upgrade_request(Sec_WebSocket_Protocol=f"gateway.v1, gateway.bearer.{token}"))
            assert (await client.response()).status == 101
            client.text({"type": "ping", "id": "before the welcome"})
            (session,) = await eventually(lambda: node.hub.of("alice"))
            await eventually(lambda: session.held)

            async def doubted() -> bool:
                # In steps that are no gaps.
                clock.jump(0.02)
                await asyncio.sleep(0.04)
                return node.bus.withheld

            await eventually(doubted, 10)
            proxy.resume()
            assert (await client.message())["id"] == "before the welcome"
            assert (await client.message())["type"] == "welcome"
            client.text({"type": "ping", "id": "again"})
            assert (await client.message("pong"))["id"] == "again"


async def test_a_suspended_machine_is_noticed_at_the_first_turn_of_the_loop(valkey: Server) -> None:
    clock = MovableClock()
    async with running_node(valkey.url, clock) as node:
        alice, bob = await login(node, "alice"), await login(node, "bob")
        old = node.bus.incarnation
        clock.ahead_s += node.config.lease_s + 1
        await eventually(lambda: node.bus.incarnation != old)
        await eventually(lambda: node.unready() is None)

        async def sends() -> bool:
            return bool((await alice.send("bob", "awake"))["type"] == "sent")

        await eventually(sends)
        assert (await bob.next("message"))["body"] == "awake"
        for user in ("alice", "bob"):
            (session,) = await node.services.presence.sessions(user)
            assert session.node == node.bus.incarnation
        with valkey.client() as admin:
            await eventually(lambda: not admin.keys(f"*at:{old}"))
        for client in (alice, bob):
            await client.close()
