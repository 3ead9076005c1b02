"""The inbox over sockets: resuming, acks, and live pushes while a session catches up."""

import asyncio
from typing import Any

from gateway.metrics import METRICS
from gateway.node import Node
from gateway.store import messages
from tests.integration.fleet import claims_of, everything, two_nodes, until_closed
from tests.integration.raw import RawClient
from tests.nodes import Client, login, running_node
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually


async def receive(client: Client, count: int, deadline_s: float = 20.0) -> list[dict[str, Any]]:
    """The next messages, in the order they came."""
    async with asyncio.timeout(deadline_s):
        return [await client.next("message", deadline_s) for _ in range(count)]


async def fill(sender: Client, to: str, bodies: range) -> None:
    """Sends one message a body; the commands go out together, the replies are awaited after."""
    for body in bodies:
        await sender.say({"type": "send", "id": f"f{body}", "to": to, "body": body})
    for body in bodies:
        sent = await sender.next("sent")
        assert sent["id"] == f"f{body}"


async def nothing_more(node: Node, client: Client) -> list[dict[str, Any]]:
    """What else comes once the replay is through; empty."""
    await eventually(lambda: not any(each.catching_up for each in node.hub.of(client.welcome["user"])))
    return await everything(client)


def bodies_of(received: list[dict[str, Any]]) -> list[Any]:
    return [each["body"] for each in received]


async def test_since_goes_on_where_the_client_was_on_either_node_once_and_in_order(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        bob = await login(b, "bob")
        alice = await login(a, "alice", "?platform=web&device=d")
        await fill(bob, "alice", range(5))
        first = await receive(alice, 5)
        assert bodies_of(first) == list(range(5))
        cursors = [each["cursor"] for each in first]
        assert len(set(cursors)) == 5
        await alice.close()
        await fill(bob, "alice", range(5, 8))
        for node in (a, b):
            again = await login(node, "alice", f"?platform=web&device=d&since={cursors[2]}")
            assert again.welcome["cursor"] == cursors[2]
            assert again.welcome["recovered"] is True
            received = await receive(again, 5)
            assert bodies_of(received) == [3, 4, 5, 6, 7]
            assert received[-1]["cursor"] == again.welcome["head"]
            # A replayed push says what the live one said.
            assert received[0] == first[3]
            assert await nothing_more(node, again) == []
            await again.close()
        await bob.close()


async def test_acks_say_where_a_device_begins_and_a_new_device_begins_where_any_has_acked(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        bob = await login(b, "bob")
        token = await a.services.tokens.issue("alice", "Alice")
        # Never connected before: everything waits.
        await fill(bob, "alice", range(4))
        phone = await login(a, "alice", "?platform=ios&device=phone", token)
        assert phone.welcome["recovered"] is True
        received = await receive(phone, 4)
        await phone.say({"type": "ack", "cursor": received[1]["cursor"]})
        assert (await phone.ask("ping"))["type"] == "pong"
        await phone.close()
        phone = await login(b, "alice", "?platform=ios&device=phone", token)
        assert bodies_of(await receive(phone, 2)) == [2, 3]
        # Acks never go back.
        await phone.say({"type": "ack", "cursor": received[3]["cursor"]})
        await phone.say({"type": "ack", "cursor": received[0]["cursor"]})
        assert (await phone.ask("ping"))["type"] == "pong"
        await phone.close()
        laptop = await login(a, "alice", "?platform=desktop&device=laptop", token)
        assert await nothing_more(a, laptop) == []
        assert laptop.welcome["cursor"] == received[3]["cursor"]
        # A session without a device has no acks of its own.
        bare = await login(a, "alice", "?platform=web", token)
        await fill(bob, "alice", range(4, 5))
        (message,) = await receive(bare, 1)
        await bare.say({"type": "ack", "cursor": message["cursor"]})
        await bare.close()
        (message,) = await receive(laptop, 1)
        await laptop.close()
        laptop = await login(b, "alice", "?platform=desktop&device=laptop", token)
        assert bodies_of(await receive(laptop, 1)) == [4]
        for client in (bob, laptop):
            await client.close()


async def test_an_ack_beyond_what_was_sent_is_refused_and_one_of_another_epoch_ignored(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        alice = await login(node, "alice", "?platform=web&device=d")
        bob = await login(node, "bob")
        await fill(bob, "alice", range(1))
        (message,) = await receive(alice, 1)
        epoch, _, place = message["cursor"].partition(".")
        ms, _, sequence = place.partition("-")
        await alice.say({"type": "ack", "cursor": f"{epoch}.{int(ms) + 1}-{sequence}"})
        assert (await alice.next("error"))["code"] == 400
        await alice.say({"type": "ack", "cursor": "no cursor"})
        assert (await alice.next("error"))["code"] == 400
        await alice.say({"type": "ack", "cursor": f"ff{epoch}.{place}"})
        assert (await alice.ask("ping"))["type"] == "pong"
        await alice.close()
        alice = await login(node, "alice", "?platform=web&device=d")
        assert bodies_of(await receive(alice, 1)) == [0]
        for client in (alice, bob):
            await client.close()


async def test_recovered_is_false_where_something_may_be_missing(valkey: Server) -> None:
    async with running_node(valkey.url, inbox_max=3) as node:
        bob = await login(node, "bob")
        alice = await login(node, "alice", "?platform=web&device=d")
        await fill(bob, "alice", range(3))
        received = await receive(alice, 3)
        assert (await bob.send("alice", "no room"))["code"] == 20607
        await alice.say({"type": "ack", "cursor": received[2]["cursor"]})
        await alice.ask("ping")
        await fill(bob, "alice", range(3, 4))
        (last,) = await receive(alice, 1)
        epoch, _, place = last["cursor"].partition(".")
        ahead = f"{epoch}.{int(place.partition('-')[0]) + 1_000_000}-0"
        other = f"ab{epoch}.{place}"
        for since, recovered, waiting in (
            (received[2]["cursor"], True, [3]),
            # What came after it was acked and trimmed to make room.
            (received[0]["cursor"], False, [3]),
            (ahead, False, [3]),
            (other, False, [3]),
            ("nonsense", False, [3]),
            (last["cursor"], True, []),
        ):
            await alice.close()
            alice = await login(node, "alice", f"?platform=web&device=d&since={since}")
            assert alice.welcome["recovered"] is recovered, since
            assert bodies_of(await receive(alice, len(waiting))) == waiting, since
            assert await nothing_more(node, alice) == [], since
        for client in (alice, bob):
            await client.close()


async def test_deactivation_changes_the_epoch(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        bob = await login(node, "bob")
        alice = await login(node, "alice", "?platform=web&device=d")
        await fill(bob, "alice", range(1))
        (message,) = await receive(alice, 1)
        await node.services.deletion.deactivate(["alice"])
        await alice.closed()
        await node.services.deletion.reactivate(["alice"])
        alice = await login(node, "alice", f"?platform=web&device=d&since={message['cursor']}")
        assert alice.welcome["recovered"] is False
        assert alice.welcome["cursor"].partition(".")[0] != message["cursor"].partition(".")[0]
        for client in (alice, bob):
            await client.close()


async def test_two_thousand_waiting_messages_arrive_in_order_with_live_ones_behind_them(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        bob, carol = await login(b, "bob"), await login(a, "carol")
        token = await a.services.tokens.issue("alice", "Alice")
        await fill(bob, "alice", range(2000))

        async def live() -> None:
            for number in range(200):
                assert (await carol.send("alice", f"live {number}"))["type"] == "sent"

        sending = asyncio.create_task(live())
        alice = await login(a, "alice", "?platform=web&device=d", token)
        received = await receive(alice, 2200)
        await sending
        assert await everything(alice) == []
        assert [body for body in bodies_of(received) if isinstance(body, int)] == list(range(2000))
        assert [body for body in bodies_of(received) if isinstance(body, str)] == [f"live {n}" for n in range(200)]
        places = [messages.parse_cursor(each["cursor"]) for each in received]
        assert places == sorted(places, key=lambda place: place[1] if place else (0, 0))
        assert len({each["mid"] for each in received}) == 2200
        session = a.hub.of("alice")[0]
        assert not session.catching_up
        for client in (alice, bob, carol):
            await client.close()


async def test_a_push_that_overtakes_the_replay_is_neither_lost_nor_repeated(valkey: Server) -> None:
    """The replay's first answer is held while live messages are stored and pushed."""
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, node_id="a", probe_timeout_s=30.0) as a:
            bob = await login(b, "bob")
            token = await b.services.tokens.issue("alice", "Alice")
            await fill(bob, "alice", range(450))
            alice = await login(a, "alice", "?platform=web&device=d", token)
            session = a.hub.of("alice")[0]
            proxy.pause(to_server=False)
            await fill(bob, "alice", range(450, 460))
            proxy.resume()
            assert bodies_of(await receive(alice, 460)) == list(range(460))
            await eventually(lambda: not session.catching_up)
            await fill(bob, "alice", range(460, 462))
            assert bodies_of(await receive(alice, 2)) == [460, 461]
            assert await everything(alice) == []
            for client in (alice, bob):
                await client.close()


async def test_a_replay_that_what_it_was_to_bring_was_taken_from_says_so(valkey: Server) -> None:
    """The inbox is full, another device has acked all of it, and new messages come while the slow one is replayed."""
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b", inbox_max=200) as b:
        async with running_node(proxy.url, node_id="a", inbox_max=200, probe_timeout_s=30.0) as a:
            bob = await login(b, "bob")
            token = await b.services.tokens.issue("alice", "Alice")
            for device, platform in (("slow", "web"), ("quick", "ios")):
                await (await login(b, "alice", f"?platform={platform}&device={device}", token)).close()
            await fill(bob, "alice", range(200))
            quick = await login(b, "alice", "?platform=ios&device=quick", token)
            await quick.say({"type": "ack", "cursor": (await receive(quick, 200))[-1]["cursor"]})
            await quick.ask("ping")
            slow = await login(a, "alice", "?platform=web&device=slow", token)
            assert slow.welcome["recovered"] is True
            proxy.pause(to_server=False)
            await fill(bob, "alice", range(200, 210))
            proxy.resume()
            received, code = await until_closed(slow)
            assert code == 4005
            assert bodies_of(received) == list(range(len(received)))
            since = received[-1]["cursor"] if received else slow.welcome["cursor"]
            again = await login(a, "alice", f"?platform=web&device=slow&since={since}", token)
            assert again.welcome["recovered"] is False
            assert bodies_of(await receive(again, 10)) == list(range(200, 210))
            for client in (again, quick, bob):
                await client.close()


async def test_a_break_in_the_middle_of_the_replay_goes_on_where_it_was(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, node_id="a") as a:
            bob = await login(b, "bob")
            token = await b.services.tokens.issue("alice", "Alice")
            await fill(bob, "alice", range(1000))
            alice = await login(a, "alice", "?platform=web&device=d", token)
            proxy.cut()
            await fill(bob, "alice", range(1000, 1010))
            assert bodies_of(await receive(alice, 1010)) == list(range(1010))
            await eventually(lambda: a.unready() is None)
            assert await everything(alice) == []
            for client in (alice, bob):
                await client.close()


async def test_an_ephemeral_message_is_never_shown_to_a_socket_that_is_not_in_yet(valkey: Server) -> None:
    """Another session of the user brings the message to this node while a revoked token is still being judged."""
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, node_id="a", probe_timeout_s=30.0, store_timeout_ms=30_000) as a:
            bob = await login(b, "bob")
            live = await login(a, "alice", "?platform=ios")
            revoked = await b.services.tokens.issue("alice", None)
            await b.services.tokens.revoke("alice", claims_of(revoked)["jti"])
            proxy.pause(to_client=False)
            joining = await RawClient.begin(a, revoked, "auth")
            await eventually(lambda: len(a.hub.of("alice")) == 2)
            assert (await bob.send("alice", "fleeting", ephemeral=True))["type"] == "sent"
            assert (await live.next("message"))["body"] == "fleeting"
            proxy.resume()
            assert b"fleeting" not in await joining.until_end()
            assert (await bob.send("alice", "stored"))["online"]
            assert (await live.next("message"))["body"] == "stored"
            for client in (live, bob):
                await client.close()


async def test_many_large_replays_at_once_leave_the_link_and_the_others_alone(valkey: Server) -> None:
    """Redis ends a subscribed link that has more than its output limit waiting; a replay must never get there."""
    with valkey.client() as redis:
        limits = redis.config_get("client-output-buffer-limit")["client-output-buffer-limit"]
        redis.config_set("client-output-buffer-limit", "pubsub 33554432 8388608 60")
        try:
            async with running_node(valkey.url, store_timeout_ms=5000) as node:
                await node.services.settings.set({"devicePolicy": "unlimited"})
                alice, bob = await login(node, "alice"), await login(node, "bob")
                await node.services.tokens.issue("carol", "Carol")
                for _ in range(100):
                    assert (await alice.send("carol", "x" * 120_000))["type"] == "sent"
                before = METRICS.store_reconnects
                carols = [await login(node, "carol", f"?platform=web&device=d{number}") for number in range(8)]
                assert (await alice.send("bob", "still here"))["type"] == "sent"
                assert (await bob.next("message"))["body"] == "still here"
                for carol in carols:
                    for _ in range(100):
                        await carol.next("message", 20)
                assert METRICS.store_reconnects == before
                for client in (alice, bob, *carols):
                    await client.close()
        finally:
            redis.config_set("client-output-buffer-limit", limits)
