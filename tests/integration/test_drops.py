"""Bans, expiries, revocations, deactivations and kicks: written, carried out on every node, acknowledged."""

import asyncio
import time

import orjson
import pytest
from websockets.exceptions import InvalidStatus

from gateway.node import Node
from gateway.store import drops
from tests.integration.fleet import (
    BRISK,
    MovableClock,
    claims_of,
    everything,
    node_process,
    online,
    sessions_on,
    two_nodes,
    until_closed,
)
from tests.integration.raw import RawClient
from tests.nodes import Client, login, open_socket, running_node
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually


async def refused(node: Node, token: str, status: int, code: int) -> dict[str, object]:
    """A connect with the token in the header is refused with this status and code; returns the body."""
    with pytest.raises(InvalidStatus) as caught:
        await open_socket(node, token)
    response = caught.value.response
    assert response.status_code == status
    body: dict[str, object] = orjson.loads(response.body)
    assert body["code"] == code
    return body


async def test_a_ban_drops_the_user_on_every_node_and_is_acknowledged(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        token = await a.services.tokens.issue("alice", "Alice")
        web = await login(a, "alice", "?platform=web", token)
        desktop = await login(b, "alice", "?platform=desktop", token)
        bystander = await login(b, "bob")
        now_ms = time.time() * 1000
        done = await a.services.bans.ban(["alice"], minutes=5, reason="spam")
        assert done.sessions_closed == 2
        assert done.nodes_answered == sorted([a.bus.incarnation, b.bus.incarnation])
        assert done.nodes_silent == []
        assert 0 < done.took_ms < 2000
        for node in (a, b):
            assert sessions_on(node, "alice") == 0
        assert not await a.services.presence.online("alice")
        for client in (web, desktop):
            code, reason = await client.closed()
            assert (code, reason["code"], reason["reason"]) == (4502, 31011, "spam")
            assert abs(reason["until"] - now_ms - 300_000) < 5000
        body = await refused(b, token, 403, 31009)
        assert isinstance(body["until"], int)
        assert await a.services.bans.unban(["alice"]) == 1
        again = await login(b, "alice", token=token)
        assert (await again.ask("ping"))["type"] == "pong"
        await again.close()
        await bystander.close()


async def test_a_ban_without_an_end_holds_until_it_is_lifted_and_bans_are_listed_with_their_ends(
    valkey: Server,
) -> None:
    async with running_node(valkey.url) as node:
        bans = node.services.bans
        client = await login(node, "carol")
        await bans.ban(["alice"], minutes=1, reason="short")
        await bans.ban(["bob"], minutes=43_200, reason="long")
        await bans.ban(["carol"], minutes=None, reason="for good")
        code, reason = await client.closed()
        assert code == 4502
        assert "until" not in reason
        listed = await bans.list()
        assert [(ban.user, ban.reason) for ban in listed] == [
            ("carol", "for good"),
            ("bob", "long"),
            ("alice", "short"),
        ]
        now_ms = time.time() * 1000
        ends = [ban.until_ms for ban in listed]
        assert ends[0] is None
        assert ends[1] is not None
        assert abs(ends[1] - now_ms - 43_200 * 60_000) < 5000
        assert [ban.user for ban in await bans.list(offset=1, limit=1)] == ["bob"]
        assert await bans.unban(["alice", "bob", "carol"]) == 3
        assert await bans.list() == []


async def test_a_ban_ends_by_itself(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        token = await node.services.tokens.issue("alice", "Alice")
        # A ban that has 0.6 s to go: the shortest that can be asked for is a minute.
        ends = await node.store.now_ms() + 600
        await node.store.execute(drops.ban(node.store.keys, "alice", "call", ends, "short"))
        await refused(node, token, 403, 31009)
        assert [ban.user for ban in await node.services.bans.list()] == ["alice"]

        async def let_in() -> Client | None:
            try:
                return await login(node, "alice", token=token)
            except InvalidStatus:
                return None

        client = await eventually(let_in)
        assert await node.services.bans.list() == []
        await node.services.bans.forget_ended()
        await client.close()


async def issue_two_in_one_second(node: Node, user: str) -> tuple[str, str]:
    """Two tokens of one second, the second at least a millisecond later."""
    while True:
        first = await node.services.tokens.issue(user, None)
        second = await node.services.tokens.issue(user, None)
        one, two = claims_of(first), claims_of(second)
        if one["iat"] == two["iat"] and one["iat_ms"] < two["iat_ms"]:
            return first, second


async def test_expire_is_exact_to_the_millisecond(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        old, new = await issue_two_in_one_second(a, "alice")
        voided = await login(a, "alice", "?platform=web", old)
        kept = await login(b, "alice", "?platform=ios", new)
        done = await b.services.tokens.expire(["alice"], claims_of(new)["iat_ms"])
        assert done.sessions_closed == 1
        assert done.nodes_answered == [a.bus.incarnation]
        code, reason = await voided.closed()
        assert (code, reason["code"]) == (4501, 31020)
        assert (await kept.ask("ping"))["type"] == "pong"
        await refused(b, old, 401, 31020)
        again = await login(a, "alice", "?platform=desktop", new)
        # An earlier cut-off does not give life back.
        await a.services.tokens.expire(["alice"], 1000)
        await refused(a, old, 401, 31020)
        await again.close()
        await kept.close()


async def test_expire_leaves_live_sockets_up_when_the_setting_says_so(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        token = await node.services.tokens.issue("alice", "Alice")
        client = await login(node, "alice", token=token)
        await node.services.settings.set({"expireKeepsConnections": True})
        done = await node.services.tokens.expire(["alice"], claims_of(token)["iat_ms"] + 1)
        assert done.sessions_closed == 0
        assert (await client.ask("ping"))["type"] == "pong"
        await refused(node, token, 401, 31020)
        await client.close()


async def test_revoking_a_token_ends_only_the_session_that_came_with_it(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        lost = await a.services.tokens.issue("alice", "Alice")
        other = await a.services.tokens.issue("alice", "Alice")
        gone = await login(a, "alice", "?platform=ios", lost)
        stays = await login(b, "alice", "?platform=web", other)
        done = await b.services.tokens.revoke("alice", claims_of(lost)["jti"])
        assert (done.sessions_closed, done.nodes_answered) == (1, [a.bus.incarnation])
        assert (await gone.closed())[0] == 4501
        assert (await stays.ask("ping"))["type"] == "pong"
        await refused(b, lost, 401, 31020)
        await stays.close()


async def test_a_deactivated_user_is_dropped_kept_out_and_may_come_back_when_reactivated(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        token = await a.services.tokens.issue("alice", "Alice")
        client = await login(a, "alice", token=token)
        sender = await login(b, "bob")
        assert (await sender.send("alice"))["type"] == "sent"
        done = await b.services.deletion.deactivate(["alice"])
        assert done.sessions_closed == 1
        code, reason = await client.closed()
        assert (code, reason["code"]) == (4503, 31029)
        await refused(b, token, 403, 31029)
        assert (await sender.send("alice"))["code"] == 31029
        assert (await b.services.deletion.reactivate(["alice"])).users == ["alice"]
        back = await login(b, "alice", "?platform=web&device=d", token)
        await eventually(lambda: not b.hub.of("alice")[0].catching_up)
        assert await everything(back) == [], "the inbox went with the account"
        assert (await sender.send("alice"))["type"] == "sent"
        await back.next("message")
        await back.close()
        await sender.close()


async def test_kick_takes_all_sessions_or_one_or_a_device(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        await a.services.settings.set({"devicePolicy": "unlimited"})
        await eventually(lambda: b.services.settings.live.device_policy == "unlimited")
        token = await a.services.tokens.issue("alice", "Alice")
        one, two, three, four = [
            await login(node, "alice", f"?platform=web&device={device}", token)
            for node, device in ((a, "d1"), (b, "d2"), (a, "d3"), (b, "d4"))
        ]
        done = await a.services.control.kick(session=("alice", two.welcome["session"]), reason="that one")
        assert (done.sessions_closed, done.nodes_answered) == (1, [b.bus.incarnation])
        code, reason = await two.closed()
        assert (code, reason) == (4505, {"code": 4505, "reason": "that one"})
        done = await b.services.control.kick(device=("alice", "d3"))
        assert (done.sessions_closed, done.nodes_answered) == (1, [a.bus.incarnation])
        assert (await three.closed())[0] == 4505
        for left in (one, four):
            assert (await left.ask("ping"))["type"] == "pong"
        done = await b.services.control.kick(users=["alice", "nobody", "alice"])
        assert done.sessions_closed == 2
        assert len(done.nodes_answered) == 2
        for left in (one, four):
            assert (await left.closed())[0] == 4505
        nobody = await a.services.control.kick(users=["alice"])
        assert (nobody.sessions_closed, nobody.nodes_answered, nobody.nodes_silent) == (0, [], [])
        back = await login(a, "alice", token=token)
        await back.close()


async def test_a_user_ends_one_of_their_own_sessions(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        phone = await login(a, "alice", "?platform=ios")
        laptop = await login(b, "alice", "?platform=desktop")
        other = await login(b, "bob")
        assert (await other.ask("sessions.drop", session=phone.welcome["session"]))["code"] == 404
        assert (await laptop.ask("sessions.drop", session=phone.welcome["session"]))["type"] == "ok"
        assert (await phone.closed())[0] == 4505
        assert (await laptop.next("session"))["event"] == "closed"
        assert [each["this"] for each in (await laptop.ask("sessions.list"))["sessions"]] == [True]
        await laptop.close()
        await other.close()


async def test_a_frozen_node_is_named_silent_when_its_lease_has_ended_and_drops_the_user_when_it_thaws(
    valkey: Server,
) -> None:
    async with running_node(valkey.url, node_id="a", **BRISK) as a, node_process(valkey.url, "b", **BRISK) as b:
        token = await a.services.tokens.issue("alice", "Alice")
        alice = await login(b, "alice", "?platform=web", token)
        here = await login(a, "alice", "?platform=ios", token)
        bob = await login(a, "bob")
        incarnation = next(s.node for s in await a.services.presence.sessions("alice") if s.platform == "web")
        b.freeze()
        await alice.say({"type": "send", "id": "frozen", "to": "bob", "body": 1})
        started = time.monotonic()
        done = await a.services.bans.ban(["alice"], minutes=1)
        took = time.monotonic() - started
        assert done.nodes_answered == [a.bus.incarnation]
        assert done.nodes_silent == [incarnation]
        assert done.sessions_closed == 1
        assert took < BRISK["lease_s"] + 1.5
        assert (await here.closed())[0] == 4502
        await online(a, "alice", False)
        b.thaw()
        received, code = await until_closed(alice)
        assert code in (4502, 1006)
        assert not [each for each in received if each["type"] == "sent"]
        assert await everything(bob) == []
        await bob.close()


async def test_what_was_queued_for_a_dropped_client_never_arrives(valkey: Server) -> None:
    async with running_node(valkey.url, outbound_bytes_max=64 * 1024 * 1024) as node:
        token = await node.services.tokens.issue("alice", "Alice")
        slow = await RawClient.open(node, token, receive_buffer=4096)
        bob = await login(node, "bob")
        slow.pause()
        connection = next(each for each in node.listener.connections if each.session and each.session.user == "alice")
        assert connection.transport is not None
        body, count = "x" * 100_000, 0
        while connection.transport.get_write_buffer_size() == 0 or count < 3:
            assert (await bob.send("alice", body))["type"] == "sent"
            count += 1
            assert count < 200, "the socket takes everything"
        assert (await bob.send("alice", "the last one"))["type"] == "sent"
        assert (await node.services.bans.ban(["alice"], minutes=1)).sessions_closed == 1
        assert connection.transport is None or connection.transport.is_closing()
        slow.resume()
        received = await slow.until_end()
        assert b"the last one" not in received
        await bob.close()


async def test_a_command_read_but_held_at_a_gap_is_discarded_by_the_drop_that_waited(valkey: Server) -> None:
    clock = MovableClock()
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, clock, node_id="a", lease_s=60.0, probe_timeout_s=30.0) as a:
            alice = await login(a, "alice")
            bob = await login(b, "bob")
            proxy.pause(to_server=False)
            ban = asyncio.create_task(b.services.bans.ban(["alice"], minutes=1))
            await eventually(lambda: b.services.bans.list())
            session = a.hub.of("alice")[0]
            clock.jump(0.5)
            await alice.say({"type": "send", "id": "x", "to": "bob", "body": "after the ban"})
            await eventually(lambda: session.held or session.gate.shut)
            await eventually(lambda: session.held)
            assert not ban.done()
            proxy.resume()
            done = await ban
            assert (done.sessions_closed, done.nodes_silent) == (1, [])
            assert (await alice.closed())[0] == 4502
            assert await everything(bob) == []
            await bob.close()


async def test_a_relay_outstanding_at_the_drop_has_its_outcome_before_the_acknowledgement(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, node_id="a", probe_timeout_s=30.0, store_timeout_ms=30_000) as a:
            alice = await login(a, "alice")
            bob = await login(b, "bob")
            session = a.hub.of("alice")[0]
            proxy.pause(to_client=False)
            await alice.say({"type": "send", "id": "x", "to": "bob", "body": "outstanding"})
            await eventually(lambda: session.pending == 1)
            ban = asyncio.create_task(b.services.bans.ban(["alice"], minutes=1))
            assert (await alice.closed())[0] == 4502
            assert not ban.done()
            assert session.pending == 1
            proxy.resume()
            done = await ban
            assert (done.sessions_closed, done.nodes_silent) == (1, [])
            assert session.pending == 0
            # Stored before the acknowledgement, so it is here by the time anything later is.
            assert [each["body"] for each in await everything(bob)] == ["outstanding"]
            await bob.close()


async def test_the_socket_of_a_kicked_client_that_does_not_answer_the_close_is_gone_at_once(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        token = await node.services.tokens.issue("alice", "Alice")
        silent = await RawClient.open(node, token)
        started = time.monotonic()
        await node.services.control.kick(users=["alice"])
        await silent.until_end()
        assert time.monotonic() - started < 5.0
        await eventually(lambda: not node.listener.connections)
