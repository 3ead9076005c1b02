"""Redis frozen, killed, or out of reach of one node: sockets stay, nothing is accepted that could be lost, and when it
is back everything resyncs by itself."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest
from websockets.exceptions import InvalidStatus

from gateway.node import Node
from gateway.store.errors import StoreError
from gateway.store.store import Store
from tests.integration.fleet import (
    BRISK,
    MovableClock,
    claims_of,
    everything,
    online,
    sessions_on,
    two_nodes,
)
from tests.integration.raw import RawClient
from tests.nodes import CREDENTIALS, Client, config, login, open_socket, running_node
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually


async def readiness(node: Node) -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{node.listener.port}/readyz")
        return answer.status_code, answer.json()


async def connects_are_refused(node: Node, token: str) -> None:
    """In each of the three ways, with what each way can say."""
    with pytest.raises(InvalidStatus) as caught:
        await open_socket(node, token)
    response = caught.value.response
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert orjson.loads(response.body)["code"] == 503
    for way in ("subprotocol", "auth"):
        client = await RawClient.begin(node, token, way)
        received = await client.until_end()
        # 4006 is the first two bytes of the close frame's payload.
        assert (4006).to_bytes(2, "big") + b'{"code":503' in received
        assert b"retry_after_ms" in received


async def refusal_of_send(client: Client, *codes: int) -> int:
    answer = await client.send("bob", "while away")
    assert answer["type"] == "error", answer
    assert answer["code"] in codes
    return int(answer["code"])


async def _frozen_long_enough(client: Client) -> bool:
    """True once sends are refused for certain: the link has been given up."""
    return await refusal_of_send(client, 503, 504) == 503


async def test_a_frozen_store_takes_nobody_offline_and_accepts_nothing(valkey: Server) -> None:
    async with two_nodes(valkey.url, **BRISK) as (a, b):
        alice, bob = await login(a, "alice"), await login(b, "bob")
        token = await a.services.tokens.issue("carol", "Carol")
        await alice.ask("watch", users=["bob"])
        incarnations = (a.bus.incarnation, b.bus.incarnation)
        assert await readiness(a) == (200, {"code": 0})
        valkey.pause()
        loop = asyncio.get_running_loop()
        thaw_at = loop.time() + BRISK["lease_s"] + 1
        await eventually(lambda: _frozen_long_enough(alice))
        status, body = await readiness(a)
        assert (status, body["code"]) == (503, 503)
        assert body["reason"] == "the store is away"
        await connects_are_refused(a, token)
        # Past the end of every lease.
        await eventually(lambda: loop.time() > thaw_at)
        assert (await bob.ask("ping"))["type"] == "pong" if b.bus.up else True
        valkey.resume()
        for node in (a, b):
            await eventually(lambda: node.unready() is None)  # noqa: B023
        await eventually(lambda: _sends(alice, "bob"))
        assert (a.bus.incarnation, b.bus.incarnation) == incarnations
        for user in ("alice", "bob"):
            assert await a.services.presence.online(user)
        assert all(each["online"] for each in await everything(alice) if each["type"] == "presence")
        bodies = [each["body"] for each in await everything(bob)]
        assert bodies[-1] == "again"
        await (carol := await login(b, "carol", token=token)).close()
        assert carol.welcome["user"] == "carol"
        for client in (alice, bob):
            await client.close()


async def _sends(client: Client, to: str, body: str = "again") -> bool:
    return bool((await client.send(to, body))["type"] == "sent")


async def test_a_killed_store_that_comes_back_with_its_data_finds_everybody_there(fresh_valkey: Server) -> None:
    """That it does with all of its data nobody can know: what is unacked comes again, under the same mid."""
    async with two_nodes(fresh_valkey.url, **BRISK) as (a, b):
        alice, bob = await login(a, "alice", "?platform=web&device=d"), await login(b, "bob")
        await bob.ask("watch", users=["alice"])
        assert (await bob.send("alice", "before"))["type"] == "sent"
        before = await alice.next("message")
        fresh_valkey.kill()
        await eventually(lambda: not a.bus.up and not b.bus.up)
        assert await refusal_of_send(alice, 503) == 503
        assert (await readiness(b))[0] == 503
        fresh_valkey.restart()
        await eventually(lambda: _sends(alice, "bob"))
        await eventually(lambda: _sends(bob, "alice", "after"))
        assert (await bob.next("message"))["body"] == "again"
        assert (await alice.next("resync"))["recovered"] is False
        assert (await alice.next("message"))["mid"] == before["mid"]
        assert (await alice.next("message"))["body"] == "after"
        assert all(each["online"] for each in await everything(bob) if each["type"] == "presence")
        assert len(await a.services.presence.sessions("alice")) == 1
        for client in (alice, bob):
            await client.close()


async def test_a_store_that_comes_back_empty_gets_its_functions_and_its_users_back(fresh_valkey: Server) -> None:
    async with running_node(fresh_valkey.url, **BRISK) as node:
        alice = await login(node, "alice")
        token = await node.services.tokens.issue("alice", None)
        with fresh_valkey.client() as admin:
            admin.config_set("appendonly", "no")
            admin.flushall()
            admin.execute_command("FUNCTION", "FLUSH")
        fresh_valkey.kill()
        for path in fresh_valkey._directory.glob("appendonlydir/*"):
            path.unlink()
        fresh_valkey.restart()
        code, _ = await alice.closed()
        assert code == 4005

        async def back() -> Client | None:
            try:
                return await login(node, "alice", token=token)
            except InvalidStatus:
                return None

        again = await eventually(back)
        assert (await again.send("alice", "self"))["type"] == "sent"
        await again.close()


async def test_what_others_did_while_the_link_was_down_binds_before_anything_passes(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b", **BRISK) as b:
        async with running_node(proxy.url, node_id="a", **BRISK) as a:
            bob = await login(b, "bob")
            tokens = {user: await b.services.tokens.issue(user, None) for user in ("mallory", "eve", "dan", "carl")}
            banned, expired, deactivated, kept = [await login(a, user, token=token) for user, token in tokens.items()]
            proxy.refuse()
            await eventually(lambda: not a.bus.up)
            acts = [
                asyncio.create_task(b.services.bans.ban(["mallory"], minutes=1)),
                asyncio.create_task(b.services.tokens.expire(["eve"], claims_of(tokens["eve"])["iat_ms"] + 1)),
                asyncio.create_task(b.services.deletion.deactivate(["dan"])),
            ]
            await eventually(lambda: b.services.bans.list())
            for client in (banned, expired, deactivated, kept):
                assert await refusal_of_send(client, 503) == 503
            await eventually(lambda: _sent_all(bob, "carl", ["one", "two", "three"]))
            # The link is back, but its answers are held: whatever is said now waits, or is refused.
            proxy.pause(to_server=False)
            proxy.accept()
            for client in (banned, expired, deactivated):
                await client.say({"type": "send", "id": "late", "to": "bob", "body": "too late"})
            proxy.resume()
            for client, code in ((banned, 4502), (expired, 4501), (deactivated, 4503)):
                assert (await client.closed())[0] == code
                assert not [each for each in client.received if each["type"] == "sent"]
            for body in ("one", "two", "three"):
                assert (await kept.next("message"))["body"] == body
            assert await everything(kept) == []
            for done in await asyncio.gather(*acts):
                # It could not answer; it was named.
                assert len(done.nodes_silent) == 1
            assert [each for each in await everything(bob) if each["type"] == "message"] == []
            for client in (bob, kept):
                await client.close()


async def _sent_all(client: Client, to: str, bodies: list[str]) -> bool:
    return all([await _sends(client, to, body) for body in bodies])


async def test_who_was_kicked_while_the_link_was_down_does_not_come_back_with_it(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b", **BRISK) as b:
        async with running_node(proxy.url, node_id="a", **(BRISK | {"lease_s": 30.0})) as a:
            bob = await login(b, "bob")
            alice = await login(a, "alice")
            fast = await login(a, "fred")
            proxy.refuse()
            await eventually(lambda: not a.bus.up)
            kick = asyncio.create_task(b.services.control.kick(users=["alice"]))
            lifted = asyncio.create_task(b.services.bans.ban(["fred"], minutes=1))
            await eventually(lambda: b.services.bans.list())
            # A ban that is lifted again has still ended the sessions of its moment.
            await b.services.bans.unban(["fred"])
            proxy.accept()
            assert (await alice.closed())[0] == 4505
            assert (await fast.closed())[0] == 4505
            await online(b, "alice", False)
            for done in await asyncio.gather(kick, lifted):
                assert (done.sessions_closed, len(done.nodes_silent)) == (0, 1)
            again = await login(a, "alice")
            assert (await again.send("bob"))["type"] == "sent"
            for client in (again, bob):
                await client.close()


async def test_no_answer_in_time_is_504_and_the_retry_stores_nothing_twice(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, node_id="a", **BRISK) as a:
            alice, bob = await login(a, "alice"), await login(b, "bob")
            proxy.pause(to_server=False)
            answer = await alice.send("bob", "once", key="k1")
            assert answer["code"] == 504, answer
            message = await bob.next("message")
            proxy.resume()
            again = await eventually(lambda: _retried(alice, "once"))
            assert again["mid"] == message["mid"]
            assert again["sent_at"] == message["sent_at"]
            assert await everything(bob) == []
            # Cut with the command certainly not written: 503, and nothing is there.
            proxy.refuse()
            await eventually(lambda: not a.bus.up)
            assert (await alice.send("bob", "never", key="k2"))["code"] == 503
            proxy.accept()
            await eventually(lambda: a.unready() is None)
            assert await everything(bob) == []
            for client in (alice, bob):
                await client.close()


async def _retried(client: Client, body: str) -> dict[str, Any] | None:
    answer = await client.send("bob", body, key="k1", retry=True)
    return answer if answer["type"] == "sent" else None


async def test_a_client_that_left_during_the_break_is_offline_after_it(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, node_id="a") as a:
            alice, stays = await login(a, "alice"), await login(a, "stays")
            proxy.refuse()
            await eventually(lambda: not a.bus.up)
            await alice.close()
            await eventually(lambda: sessions_on(a, "alice") == 0)
            assert await b.services.presence.online("alice")
            proxy.accept()
            await online(b, "alice", False)
            assert await b.services.presence.online("stays")
            await stays.close()


async def test_a_connect_of_unknown_outcome_leaves_nobody_online(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, node_id="a", **(BRISK | {"probe_timeout_s": 30.0})) as a:
            tokens = {user: await b.services.tokens.issue(user, None) for user in ("alice", "bob")}
            # No answer in time; the link stays.
            proxy.pause(to_server=False)
            late = await RawClient.begin(a, tokens["alice"])
            await online(b, "alice")
            assert b"HTTP/1.1 503" in await late.until_end()
            proxy.resume()
            await online(b, "alice", False)
            # The link breaks before the answer.
            proxy.pause(to_server=False)
            cut = await RawClient.begin(a, tokens["bob"], "auth")
            await online(b, "bob")
            proxy.cut()
            assert (4006).to_bytes(2, "big") in await cut.until_end()
            proxy.resume()
            await online(b, "bob", False)
            assert len(a.hub) == 0


async def test_an_error_that_a_gaps_barrier_held_back_is_said_when_the_store_turns_out_to_be_away(
    valkey: Server,
) -> None:
    clock = MovableClock()
    async with Proxy(valkey.url) as proxy:
        changes = BRISK | {"probe_timeout_s": 30.0, "lease_s": 60.0}
        async with running_node(proxy.url, clock, node_id="a", **changes) as a:
            alice = await login(a, "alice")
            session = a.hub.of("alice")[0]
            proxy.pause(to_server=False)
            await alice.say({"type": "send", "id": "early", "to": "alice", "body": 1})
            await eventually(lambda: session.pending == 1)
            clock.jump(0.5)
            await eventually(lambda: session.gate.shut)
            # First the send's deadline passes, then the barrier's: the link is given up and cannot be made anew.
            await eventually(lambda: not a.bus.up)
            proxy.refuse()
            assert (await alice.next("error", 2.0))["code"] == 504
            assert (await alice.send("alice"))["code"] == 503
            await alice.close()


async def test_a_watch_that_was_refused_watches_nobody(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, node_id="a", **(BRISK | {"probe_timeout_s": 30.0})) as a:
            walter = await login(a, "walter")
            await walter.ask("watch", users=["bob"])
            proxy.pause(to_client=False)
            assert (await walter.ask("watch", users=["alice", "bob"]))["code"] == 504
            proxy.resume()
            assert a.watching.watched == 1
            for user in ("alice", "bob"):
                await (await login(b, user)).close()
            await walter.next("presence")
            pushes = await everything(walter)
            assert {each["user"] for each in pushes} <= {"bob"}
            await walter.close()


async def test_a_node_cut_off_beyond_its_lease_is_reaped_and_comes_back_under_a_new_name(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b", **BRISK) as b:
        async with running_node(proxy.url, node_id="a", **BRISK) as a:
            watcher = await login(b, "walter")
            alice = await login(a, "alice", "?platform=web&device=web1")
            roamer = await login(a, "roamer", "?platform=ios&device=phone")
            await watcher.ask("watch", users=["alice", "roamer"])
            old = a.bus.incarnation
            proxy.refuse()
            gone = {(await watcher.next("presence", 8.0))["user"] for _ in range(2)}
            assert gone == {"alice", "roamer"}
            # The phone has found the other node meanwhile: it is the old socket that gives way.
            token = await b.services.tokens.issue("roamer", None)
            roamed = await login(b, "roamer", "?platform=ios&device=phone", token)
            proxy.accept()
            await eventually(lambda: a.bus.incarnation != old)
            code, reason = await roamer.closed()
            assert (code, reason["code"]) == (4504, 31010)
            await online(b, "alice")
            (session,) = await b.services.presence.sessions("alice")
            assert session.node == a.bus.incarnation
            assert await eventually(lambda: _sends(alice, "walter"))
            assert (await roamed.ask("ping"))["type"] == "pong"
            assert len(await b.services.presence.sessions("roamer")) == 1
            for client in (alice, roamed, watcher):
                await client.close()


async def test_nobody_stays_online_under_a_name_that_has_been_reaped(valkey: Server) -> None:
    """The first reclaims of a node that was reaped still bear its old name; then it breaks off again."""
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b", **BRISK) as b:
        changes = BRISK | {"reconnect_min_ms": 500, "reconnect_max_ms": 500}
        async with running_node(proxy.url, node_id="a", **changes) as a:
            alice = await login(a, "alice")
            old = a.bus.incarnation
            proxy.refuse()
            await online(b, "alice", False, 8.0)
            proxy.accept()
            await eventually(lambda: a.bus.incarnation != old)
            proxy.refuse()
            await alice.close()
            await eventually(lambda: sessions_on(a, "alice") == 0)
            proxy.accept()
            await eventually(lambda: a.unready() is None)
            await online(b, "alice", False)
            with valkey.client() as admin:
                await eventually(lambda: not admin.keys(f"*at:{old}"))


async def test_a_start_that_loses_the_store_says_so(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy:
        store = await Store.open(proxy.url, partitions=config().partitions, timeout_s=1.0)
        node = Node(config(), CREDENTIALS, store)
        proxy.refuse()
        with pytest.raises(StoreError):
            await node.start()
        await node.abandon()
