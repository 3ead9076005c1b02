"""Bad input around the inbox: cursors that say nothing, acks that say too much, and clients that never ack or read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson
import pytest
from websockets.exceptions import InvalidStatus

from gateway.metrics import METRICS
from gateway.node import Node
from gateway.store import messages
from gateway.store.call import Call
from tests.integration.fleet import everything
from tests.integration.raw import RawClient
from tests.nodes import Client, login, open_socket, running_node
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually

QUERY = "?platform=web&device=d"
RETENTION_MS = 7 * 86_400_000


@dataclass
class Scene:
    """Alice's device has been sent five messages and has acked the first two.

    Attributes:
        cursors: of the five.
        bobs: a cursor of bob's inbox.
    """

    node: Node
    redis: Any
    token: str
    bob: Client
    cursors: list[str]
    bobs: str

    @property
    def epoch(self) -> str:
        return self.cursors[0].partition(".")[0]

    def place(self, index: int) -> tuple[int, int]:
        return messages.parse_id(self.cursors[index].partition(".")[2])

    def acked(self) -> str | None:
        """The cursor that the store has for the device."""
        value = self.redis.hget(self.node.store.keys.user("alice").ack, "d")
        return None if value is None else f"{self.epoch}.{value.partition('@')[0]}"

    async def alice(self, since: str | None = None) -> Client:
        """Alice's device, come back; the cursor goes in the command, where nothing needs escaping."""
        socket = await open_socket(self.node)
        auth = {"type": "auth", "token": self.token, "platform": "web", "device": "d"}
        await socket.send(orjson.dumps(auth | ({} if since is None else {"since": since})).decode())
        welcome = orjson.loads(await socket.recv())
        assert welcome["type"] == "welcome", welcome
        return Client(socket, welcome)


@pytest.fixture
async def scene(valkey: Server) -> AsyncIterator[Scene]:
    async with running_node(valkey.url, bad_commands_max=100) as node:
        token = await node.services.tokens.issue("alice", "Alice")
        alice, bob = await login(node, "alice", QUERY, token), await login(node, "bob")
        for number in range(5):
            await bob.send("alice", number)
        cursors = [(await alice.next("message"))["cursor"] for _ in range(5)]
        await alice.say({"type": "ack", "cursor": cursors[1]})
        await alice.send("bob", "hello")
        bobs = (await bob.next("message"))["cursor"]
        await alice.close()
        with valkey.client() as redis:
            made = Scene(node, redis, token, bob, cursors, bobs)
            await eventually(lambda: made.acked() == cursors[1])
            yield made
        await bob.close()


async def settled(scene: Scene, alice: Client) -> list[dict[str, Any]]:
    """All that the replay brings."""
    await eventually(lambda: not any(each.catching_up for each in scene.node.hub.of("alice")))
    return await everything(alice)


def later(scene: Scene, index: int, ms: int) -> str:
    place = scene.place(index)
    return f"{scene.epoch}.{place[0] + ms}-{place[1]}"


NOT_CURSORS: dict[str, Callable[[Scene], str]] = {
    "a word": lambda scene: "nonsense",
    "a dot": lambda scene: ".",
    "no place": lambda scene: f"{scene.epoch}.",
    "no epoch": lambda scene: "." + scene.cursors[3].partition(".")[2],
    "half a place": lambda scene: f"{scene.epoch}.5",
    "a place without its end": lambda scene: f"{scene.epoch}.5-",
    "a negative place": lambda scene: f"{scene.epoch}.-5-0",
    "three parts": lambda scene: f"{scene.epoch}.5-0-0",
    "a blank": lambda scene: f" {scene.cursors[3]}",
    "an end of line": lambda scene: f"{scene.cursors[3]}\n",
    "other digits": lambda scene: f"{scene.epoch}.\u0665-0",
    "other letters": lambda scene: f"\u00e9.{scene.cursors[3].partition('.')[2]}",
    "beyond 64 bits": lambda scene: f"{scene.epoch}.{2**64}-0",
    "a nul": lambda scene: f"{scene.epoch}.\x005-0",
    "Redis' end": lambda scene: f"{scene.epoch}.+",
    "Lua": lambda scene: f"{scene.epoch}.1-0' .. redis.call('FLUSHALL') .. '",
}
NOT_OURS: dict[str, Callable[[Scene], str]] = {
    "of another epoch": lambda scene: f"ab{scene.cursors[3]}",
    "of another user": lambda scene: scene.bobs,
    "of another user, where alice has such a place": lambda scene: (
        f"{scene.bobs.partition('.')[0]}.{scene.cursors[3].partition('.')[2]}"
    ),
}
FUTURE: dict[str, Callable[[Scene], str]] = {
    "one further than the last": lambda scene: f"{scene.epoch}.{scene.place(4)[0]}-{scene.place(4)[1] + 1}",
    "a minute ahead": lambda scene: later(scene, 4, 60_000),
    "at the end of time": lambda scene: f"{scene.epoch}.{2**64 - 1}-{2**64 - 1}",
}


async def test_a_since_that_cannot_be_honoured_brings_what_is_unacked_and_says_so(scene: Scene) -> None:
    for name, row in (NOT_CURSORS | NOT_OURS | FUTURE).items():
        alice = await scene.alice(row(scene))
        assert (alice.welcome["recovered"], alice.welcome["cursor"]) == (False, scene.cursors[1]), name
        assert [each["body"] for each in await settled(scene, alice)] == [2, 3, 4], name
        assert scene.acked() == scene.cursors[1]
        await alice.close()


async def test_a_since_that_the_inbox_still_reaches_back_to_is_honoured(scene: Scene) -> None:
    for since, bodies in (
        (scene.cursors[4], []),
        (scene.cursors[0], [1, 2, 3, 4]),
        (f"{scene.epoch}.0-0", [0, 1, 2, 3, 4]),
        # Nothing ever had this place, and nothing is missing behind it.
        (f"{scene.epoch}.{scene.place(0)[0] - 1}-9", [0, 1, 2, 3, 4]),
    ):
        alice = await scene.alice(since)
        assert (alice.welcome["recovered"], alice.welcome["cursor"]) == (True, since)
        assert [each["body"] for each in await settled(scene, alice)] == bodies
        await alice.close()


async def test_a_since_older_than_the_retention_is_not_believed(scene: Scene) -> None:
    now_ms = scene.node.clock.wall_ms()
    inbox = scene.node.store.keys.user("alice").inbox
    entries = scene.redis.xrange(inbox)
    scene.redis.delete(inbox)
    old = f"{now_ms - RETENTION_MS - 60_000}-0"
    for place in (old, f"{now_ms - RETENTION_MS - 30_000}-0"):
        scene.redis.xadd(inbox, {"m": '"mid":"old","from":"bob","to":"alice","kind":"text","body":0}'}, place)
    for place, fields in entries:
        scene.redis.xadd(inbox, fields, place)
    alice = await scene.alice(f"{scene.epoch}.{old}")
    assert (alice.welcome["recovered"], alice.welcome["cursor"]) == (False, scene.cursors[1])
    assert [each["body"] for each in await settled(scene, alice)] == [2, 3, 4]
    assert scene.redis.xlen(inbox) == 5
    await alice.close()


async def test_a_since_of_another_form_is_an_error(scene: Scene) -> None:
    for since in ("", "x" * 200, 5, ["a"], {"a": 1}, True):
        socket = await open_socket(scene.node)
        auth = {"type": "auth", "token": scene.token, "platform": "web", "device": "d", "since": since}
        await socket.send(orjson.dumps(auth).decode())
        answer = orjson.loads(await socket.recv())
        assert (answer["type"], answer["code"]) == ("error", 400), since
        assert "since" in answer["reason"]
        await socket.close()
    for query in ("&since=", f"&since={'x' * 200}"):
        with pytest.raises(InvalidStatus) as refused:
            await open_socket(scene.node, scene.token, QUERY + query)
        assert refused.value.response.status_code == 400, query


async def test_an_ack_moves_nothing_that_it_should_not(scene: Scene) -> None:
    rows = {name: (row(scene), 400) for name, row in (NOT_CURSORS | FUTURE).items()}
    rows |= {name: (row(scene), 0) for name, row in NOT_OURS.items()}
    rows |= {"backwards": (scene.cursors[0], 0), "again": (scene.cursors[1], 0)}
    alice = await scene.alice()
    assert [each["body"] for each in await settled(scene, alice)] == [2, 3, 4]
    for name, (cursor, code) in rows.items():
        await alice.say({"type": "ack", "cursor": cursor})
        received = await everything(alice)
        assert [(each["type"], each["code"]) for each in received] == ([("error", code)] if code else []), name
    # A good one behind them works as ever, so the bad ones have been through.
    await alice.say({"type": "ack", "cursor": scene.cursors[2]})
    await eventually(lambda: scene.acked() == scene.cursors[2])
    await alice.say({"type": "ack", "cursor": scene.cursors[0]})
    await alice.close()
    alice = await scene.alice()
    assert [each["body"] for each in await settled(scene, alice)] == [3, 4]
    await alice.close()


async def test_an_ack_of_another_form_is_an_error(scene: Scene) -> None:
    alice = await scene.alice(scene.cursors[4])
    for fields in ({}, {"cursor": None}, {"cursor": 5}, {"cursor": ""}, {"cursor": "x" * 200}):
        await alice.say({"type": "ack", **fields})
        [error] = await everything(alice)
        assert (error["type"], error["code"]) == ("error", 400), fields
    assert scene.acked() == scene.cursors[1]
    await alice.close()


async def test_who_names_no_device_may_ack_and_nothing_comes_of_it(scene: Scene) -> None:
    alice = await login(scene.node, "alice", "?platform=desktop", scene.token)
    await alice.say({"type": "ack", "cursor": (await settled(scene, alice))[-1]["cursor"]})
    assert await everything(alice) == []
    await alice.close()
    alice = await login(scene.node, "alice", "?platform=desktop", scene.token)
    assert alice.welcome["cursor"] == scene.cursors[1]
    assert len(scene.redis.hgetall(scene.node.store.keys.user("alice").ack)) == 1
    await alice.close()


async def test_an_ack_of_what_waits_and_was_not_sent_yet_is_refused(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(proxy.url, probe_timeout_s=30.0) as node:
        bob = await login(node, "bob")
        token = await node.services.tokens.issue("alice", "Alice")
        await waiting(node, "alice", 100, 10)
        # A batch takes its time now, and there are several.
        proxy.slow(0.1)
        alice = await login(node, "alice", QUERY, token)
        await alice.say({"type": "ack", "cursor": alice.welcome["head"]})
        error = await alice.next("error")
        assert (error["code"], error["reason"]) == (400, "$.cursor: beyond what was sent on this connection")
        proxy.slow(0)
        cursors = [(await alice.next("message"))["cursor"] for _ in range(100)]
        assert cursors[-1] == alice.welcome["head"]
        await alice.say({"type": "ack", "cursor": alice.welcome["head"]})
        assert await everything(alice) == []
        for client in (alice, bob):
            await client.close()


async def waiting(node: Node, to: str, count: int, body_bytes: int) -> None:
    """Numbered messages of bob's, through the gateway's own Function."""
    keys, config = node.store.keys, node.config

    def calls() -> Any:
        for number in range(count):
            body = orjson.dumps([number, "x" * body_bytes])
            tail = messages.tail(f"m{number}", "bob", to, "text", body)
            yield Call(
                *messages.relay(
                    keys, "bob", to, "", f"m{number}", tail, config.inbox_max, RETENTION_MS, 0, config.inbox_bytes_max
                )
            )

    making = calls()
    while some := list(islice(making, 500)):
        assert all(reply[0] == 0 for reply in await node.store.execute_all(some))


async def test_ten_thousand_waiting_messages_come_in_batches_with_live_ones_behind_and_others_beside(
    valkey: Server,
) -> None:
    async with running_node(valkey.url) as node:
        bob, carol = await login(node, "bob"), await login(node, "carol")
        token = await node.services.tokens.issue("alice", "Alice")
        await waiting(node, "alice", 9_990, 1_000)
        with valkey.client() as redis:
            redis.config_resetstat()
            alice = await login(node, "alice", QUERY, token)
            (session,) = node.hub.of("alice")
            # Alice does not read yet, so that there is much still to come: others are served meanwhile.
            for number in range(10):
                assert (await bob.send("carol", number))["type"] == "sent"
                assert (await carol.next("message"))["body"] == number
                assert (await bob.send("alice", ["live", number]))["type"] == "sent"
            assert (await bob.send("alice", "one too many"))["code"] == 20607
            assert session.catching_up
            received = [await alice.next("message", 20) for _ in range(10_000)]
            batches = redis.info("commandstats")["cmdstat_xrange"]["calls"]
        assert [each["body"][0] for each in received] == [*range(9_990), *["live"] * 10]
        assert [each["body"][1] for each in received[9_990:]] == list(range(10))
        assert await everything(alice) == []
        assert 10_000 / messages.REPLAY_BATCH <= batches <= 10_000 / messages.REPLAY_BATCH + 2
        assert not session.catching_up
        for client in (alice, bob, carol):
            await client.close()


async def test_a_client_that_never_acks_fills_its_inbox_and_loses_nothing(valkey: Server) -> None:
    async with running_node(valkey.url, inbox_max=20) as node:
        bob = await login(node, "bob")
        alice = await login(node, "alice", QUERY)
        for number in range(20):
            assert (await bob.send("alice", number))["type"] == "sent"
        received = [await alice.next("message") for _ in range(20)]
        refused = await bob.send("alice", "no room")
        assert (refused["type"], refused["code"]) == ("error", 20607)
        assert (await bob.send("alice", "typing", ephemeral=True))["type"] == "sent"
        assert (await alice.next("message"))["body"] == "typing"
        assert (await alice.send("bob", "still there"))["type"] == "sent"
        await alice.close()
        for since, recovered, bodies in (
            (received[14]["cursor"], True, list(range(15, 20))),
            (None, True, list(range(20))),
        ):
            alice = await login(node, "alice", QUERY if since is None else f"{QUERY}&since={since}")
            assert alice.welcome["recovered"] is recovered
            assert [(await alice.next("message"))["body"] for _ in bodies] == bodies
            assert await everything(alice) == []
            await alice.close()
        alice = await login(node, "alice", f"{QUERY}&since={received[19]['cursor']}")
        await alice.say({"type": "ack", "cursor": received[0]["cursor"]})
        await everything(alice)
        assert (await bob.send("alice", "room"))["type"] == "sent"
        assert (await alice.next("message"))["body"] == "room"
        for client in (alice, bob):
            await client.close()


async def test_a_client_that_acks_and_never_reads_is_sent_away_and_gets_what_it_did_not_name(valkey: Server) -> None:
    slow = {"outbound_bytes_max": 64 * 1024, "outbound_age_max_s": 60.0, "close_linger_ms": 5000}
    async with running_node(valkey.url, **slow) as node:
        await node.services.settings.set({"devicePolicy": "unlimited"})
        token = await node.services.tokens.issue("alice", "Alice")
        # The other device reads: from it the cursors are known.
        reader = await login(node, "alice", "?platform=web&device=reader", token)
        raw = await RawClient.open(node, token, query=QUERY, receive_buffer=4096)
        raw.pause()
        bob = await login(node, "bob")
        before, cursors = METRICS.slow_consumers, list[str]()
        while METRICS.slow_consumers == before:
            assert (await bob.send("alice", [len(cursors), "x" * 8192]))["type"] == "sent"
            cursors.append((await reader.next("message"))["cursor"])
            if len(cursors) % 3 == 1:
                raw.say({"type": "ack", "cursor": cursors[len(cursors) // 2]})
            assert len(cursors) < 3000
        raw.resume()
        await raw.until((4001).to_bytes(2, "big") + b'{"code":4001')
        raw.abort()
        await eventually(lambda: len(node.hub.of("alice")) == 1)
        with valkey.client() as redis:
            acked = redis.hget(node.store.keys.user("alice").ack, "d").partition("@")[0]
        index = [cursor.partition(".")[2] for cursor in cursors].index(acked)
        assert 0 < index <= len(cursors) // 2
        again = await login(node, "alice", QUERY, token)
        assert again.welcome["cursor"] == cursors[index]
        received = [await again.next("message") for _ in cursors[index + 1 :]]
        assert [each["cursor"] for each in received] == cursors[index + 1 :]
        assert await everything(again) == []
        for client in (again, reader, bob):
            await client.close()
