"""The control channel: commands by hand, draining, settings, and what is no command at all."""

import asyncio
import time
from typing import Any

import httpx
import orjson
import pytest
import structlog
from websockets.exceptions import InvalidStatus

from gateway.metrics import METRICS
from gateway.services.errors import Refused
from tests.integration.fleet import MovableClock, claims_of, online, two_nodes
from tests.integration.raw import RawClient
from tests.nodes import login, open_socket, running_node
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually


def publish(valkey: Server, command: Any) -> None:
    """What an operator does with nothing but redis-cli."""
    with valkey.client() as client:
        client.publish("gw:control", command if isinstance(command, str | bytes) else orjson.dumps(command))


async def test_a_kick_published_by_hand_runs_once_on_one_of_the_nodes(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        alice = await login(a, "alice", "?platform=ios")
        also = await login(b, "alice", "?platform=web")
        with structlog.testing.capture_logs() as logged:
            publish(valkey, '{"cmd":"kick","user":"alice"}')
            for client in (alice, also):
                assert (await client.closed())[0] == 4505

            def carried_out() -> list[Any]:
                return [each for each in logged if each["event"] == "a control command was carried out"]

            await eventually(carried_out)
            # Both nodes have heard it: a later command has gone round.
            await a.services.control.ask("ping")
            (done,) = carried_out()
        assert done["sessions_closed"] == 2
        assert done["nodes_answered"] == sorted([a.bus.incarnation, b.bus.incarnation])


async def test_ban_expire_and_unban_by_hand(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        token = await a.services.tokens.issue("alice", None)
        alice = await login(b, "alice", token=token)
        publish(valkey, {"cmd": "ban", "user": "alice", "minutes": 5, "reason": "by hand", "call": "call-1"})
        code, reason = await alice.closed()
        assert (code, reason["reason"]) == (4502, "by hand")
        with valkey.client() as client:
            answer = await eventually(
                lambda: client.lpop(a.store.keys.reply(a.store.keys.partition("call-1"), "call-1"))
            )
        assert orjson.loads(answer)["sessions_closed"] == 1
        publish(valkey, {"cmd": "unban", "user": "alice"})

        async def let_in() -> Any:
            try:
                return await login(a, "alice", token=token)
            except InvalidStatus:
                return None

        alice = await eventually(let_in)
        publish(valkey, {"cmd": "expire", "user": "alice"})
        assert (await alice.closed())[0] == 4501
        with pytest.raises(InvalidStatus):
            await open_socket(b, token)


MALFORMED = [
    b"",
    b"kick alice",
    b"ping",
    b"message to all",
    b"drop everybody",
    b"session",
    b"even this",
    b"but not that",
    b"unban alice",
    b"quit",
    b"d{}",
    b"\xff\xfe",
    b"[]",
    b"null",
    b"{",
    b'{"cmd":"kick"}',
    b'{"cmd":"nothing","user":"alice"}',
    b'{"cmd":"kick","user":7}',
    b'{"cmd":"kick","user":"alice","every":true}',
    b'{"cmd":"ban","user":"alice","minutes":0}',
    b'{"cmd":"ban","user":"alice","minutes":43201}',
    b'{"cmd":"kick","user":"alice","call":"../key"}',
    b'{"cmd":"kick","user":"' + b"a" * 65 + b'"}',
    b'{"cmd":"ping","user":"\xff"}',
    b"[" * 100_000,
    b'{"more":' + b"[" * 100_000,
    b"x" * 1_000_000,
]


async def test_what_is_no_command_is_logged_and_ignored(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        alice, bob = await login(a, "alice"), await login(b, "bob")
        reconnects = METRICS.store_reconnects
        with structlog.testing.capture_logs() as logged:
            for payload in MALFORMED:
                publish(valkey, payload)
            for client, to in ((alice, "bob"), (bob, "alice")):
                assert (await client.send(to))["type"] == "sent"
                await client.next("message") if to == "alice" else None
            await a.services.control.ask("ping")
        warnings = [each for each in logged if each["log_level"] == "warning"]
        assert len(warnings) == 2 * len(MALFORMED)
        assert all(len(str(each)) < 1000 for each in warnings)
        assert reconnects == METRICS.store_reconnects
        assert [len(node.hub) for node in (a, b)] == [1, 1]
        for client in (alice, bob):
            await client.close()


async def test_a_drained_node_sends_its_clients_away_takes_none_and_resumes(valkey: Server) -> None:
    async with two_nodes(valkey.url, reconnect_spread_ms=400) as (a, b):
        token = await a.services.tokens.issue("alice", None)
        clients = [await login(b, user) for user in ("u1", "u2", "u3")]
        stays = await login(a, "stays")
        assert await a.services.control.drain("b") == [b.bus.incarnation]
        for client in clients:
            code, reason = await client.closed()
            assert code == 1001
            (push,) = [each for each in client.received if each["type"] == "going_away"]
            assert push["reconnect_after_ms"] == reason["retry_after_ms"] <= 400
        for user in ("u1", "u2", "u3"):
            await online(a, user, False)
        with pytest.raises(InvalidStatus) as caught:
            await open_socket(b, token)
        assert caught.value.response.status_code == 503
        assert "Retry-After" in caught.value.response.headers
        late = await RawClient.begin(b, token, "auth")
        assert (4006).to_bytes(2, "big") in await late.until_end()
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"http://127.0.0.1:{b.listener.port}/readyz")
            assert (answer.status_code, answer.json()["reason"]) == (503, "the node drains")
            assert (await http.get(f"http://127.0.0.1:{a.listener.port}/readyz")).status_code == 200
        records = {each.node: each.draining for each in await b.services.control.nodes()}
        assert records == {"a": False, "b": True}
        assert (await stays.ask("ping"))["type"] == "pong"
        assert await b.services.control.resume(b.bus.incarnation) == [b.bus.incarnation]
        alice = await login(b, "alice", token=token)
        with pytest.raises(Refused):
            await a.services.control.drain("nobody")
        for client in (alice, stays):
            await client.close()


async def test_resuming_in_the_middle_of_a_drain_keeps_who_is_still_there(valkey: Server) -> None:
    async with running_node(valkey.url, drain_s=3.0) as node:
        clients = [await login(node, f"u{number}") for number in range(40)]
        node.drain()
        # The first batch is closed at once, the others wait for their turn.
        await eventually(lambda: len(node.hub) < 40)
        node.resume()
        left = len(node.hub)
        assert 0 < left < 40
        again = await login(node, "again")
        await eventually(lambda: len(node.listener.connections) == left + 1)
        answering = 0
        for client in clients:
            if client.socket.close_code is None:
                assert (await client.ask("ping"))["type"] == "pong"
                answering += 1
        assert answering == left
        # A drain begun anew goes on to its end.
        node.drain()
        assert (await again.closed())[0] == 1001
        for client in clients:
            await client.closed()
        assert node.listener.draining


async def test_a_stopped_node_leaves_nothing_behind(valkey: Server) -> None:
    async with running_node(valkey.url, node_id="a") as a:
        async with running_node(valkey.url, node_id="b") as b:
            alice = await login(b, "alice")
            assert await a.services.presence.online("alice")
            incarnation = b.bus.incarnation
            await b.stop()
            assert (await alice.closed())[0] == 1012
        assert not await a.services.presence.online("alice")
        assert [each.node for each in await a.services.control.nodes()] == ["a"]
        with valkey.client() as client:
            assert not client.keys(f"*at:{incarnation}")


async def test_a_changed_setting_binds_on_every_node_even_one_that_missed_the_news(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, node_id="a") as a:
            alice, bob = await login(a, "alice"), await login(b, "bob")
            assert (await alice.send("bob"))["type"] == "sent"
            changed = await a.services.settings.set({"friendsOnly": True})
            assert changed["friendsOnly"] is True
            await eventually(lambda: b.services.settings.live.friends_only)
            for client, to in ((alice, "bob"), (bob, "alice")):
                assert (await client.send(to))["code"] == 25469
            assert await b.services.friends.befriend("alice", "bob")
            for client, to in ((alice, "bob"), (bob, "alice")):
                assert (await client.send(to))["type"] == "sent"
            proxy.refuse()
            await eventually(lambda: not a.bus.up)
            await b.services.friends.unfriend("alice", ["bob"])
            await b.services.settings.set({"friendsOnly": False})
            proxy.accept()
            await eventually(lambda: not a.services.settings.live.friends_only)

            async def sends() -> bool:
                return bool((await alice.send("bob"))["type"] == "sent")

            await eventually(sends)
            with pytest.raises(Refused):
                await b.services.settings.set({"devicePolicy": "any"})
            for client in (alice, bob):
                await client.close()


async def test_muting_a_sender_reaches_their_live_sessions(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        alice, bob = await login(a, "alice"), await login(b, "bob")
        await b.services.accounts.mute(["alice"], True)
        await eventually(lambda: a.hub.of("alice")[0].muted)
        assert (await alice.send("bob"))["code"] == 20106
        assert (await bob.send("alice"))["type"] == "sent"
        # A later session of the user is muted from its start.
        other = await login(b, "alice", "?platform=ios")
        assert (await other.send("bob"))["code"] == 20106
        await b.services.accounts.mute(["alice"], False)
        await eventually(lambda: not a.hub.of("alice")[0].muted)
        assert (await alice.send("bob"))["type"] == "sent"
        for client in (alice, bob, other):
            await client.close()


async def test_many_acts_at_once_are_each_acknowledged(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        users = [f"u{number}" for number in range(20)]
        clients = [await login((a, b)[number % 2], user) for number, user in enumerate(users)]
        kicks = [a.services.control.kick(users=[user]) for user in users[:10]]
        *kicked, banned = await asyncio.gather(*kicks, b.services.bans.ban(users[10:], minutes=1))
        assert [each.sessions_closed for each in kicked] == [1] * 10
        assert banned.sessions_closed == 10
        assert banned.nodes_silent == []
        for number, client in enumerate(clients):
            assert (await client.closed())[0] == (4505 if number < 10 else 4502)


async def test_more_acts_than_connections_wait_for_one_another(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        kicks = (node.services.control.kick(users=[f"u{n}" for n in range(10)]) for _ in range(20))
        looks = (node.services.presence.online(f"u{n}") for n in range(200))
        assert len(await asyncio.gather(*kicks, *looks)) == 220


async def test_a_nodes_own_clock_neither_ends_a_ban_nor_spares_a_token(valkey: Server) -> None:
    """Ends and cut-offs are the store's time, as the issue times of tokens are."""
    clock = MovableClock()
    async with running_node(valkey.url, clock) as node:
        token = await node.services.tokens.issue("alice", None)
        alice = await login(node, "alice", token=token)
        clock.wall_ahead_ms = -3_600_000 + 4_000
        publish(valkey, {"cmd": "expire", "user": "alice"})
        assert (await alice.closed())[0] == 4501
        await node.services.bans.ban(["alice"], minutes=1)
        (ban,) = await node.services.bans.list()
        assert ban.until_ms is not None
        assert abs(ban.until_ms - time.time() * 1000 - 60_000) < 5000
        await node.services.bans.forget_ended()
        clock.wall_ahead_ms = 3_600_000
        await node.services.bans.forget_ended()
        assert await node.services.bans.list() == [ban]


async def test_two_drops_of_one_user_at_once_are_both_acknowledged(valkey: Server) -> None:
    """Both have found the session listed before its node hears of either."""
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, node_id="a", probe_timeout_s=30.0) as a:
            token = await b.services.tokens.issue("alice", None)
            alice = await login(a, "alice", token=token)
            proxy.pause(to_server=False)
            ban = asyncio.create_task(b.services.bans.ban(["alice"], minutes=1))
            await eventually(lambda: b.services.bans.list())
            cut_off = claims_of(token)["iat_ms"] + 1
            expiry = asyncio.create_task(b.services.tokens.expire(["alice"], cut_off))

            async def voided() -> bool:
                account = await b.services.accounts.get("alice")
                return account is not None and account.void_before == cut_off

            await eventually(voided)
            proxy.resume()
            first, second = await ban, await expiry
            assert (first.sessions_closed, second.sessions_closed) == (1, 0)
            for done in (first, second):
                assert (done.nodes_answered, done.nodes_silent) == ([a.bus.incarnation], [])
            assert (await alice.closed())[0] == 4502
