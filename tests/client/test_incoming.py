"""What a client hands to its app: each once, in order, and acknowledged when the app is done with it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.client import Client, Message, QueueFull, Unreadable
from gateway.client import client as face
from gateway.client import incoming as module
from gateway.core.close import Closing
from gateway.node import Node
from gateway.protocol import codes
from gateway.store.keys import Keys
from tests.client.conftest import Apps, Inbox
from tests.client.test_upkeep import proxied
from tests.servers import Server
from tests.waiting import eventually


class Kept:
    """A cursor kept by the app; ``fault`` is raised instead, as long as it is set."""

    def __init__(self, cursor: str | None = None) -> None:
        self.cursor = cursor
        self.saved: list[str] = []
        self.fault: Exception | None = None

    async def load(self) -> str | None:
        if self.fault is not None:
            raise self.fault
        return self.cursor

    def save(self, cursor: str) -> None:
        if self.fault is not None:
            raise self.fault
        self.cursor = cursor
        self.saved.append(cursor)


def acked(server: Server, node: Node, user: str, device: str) -> str | None:
    """The place in the inbox that a device has acked, in the store."""
    keys: Keys = node.store.keys
    with server.client() as redis:
        found = redis.hget(keys.user(user).ack, device)
    return str(found).split("@")[0] if found else None


def place(message: Message) -> str:
    assert message.cursor is not None
    return message.cursor.partition(".")[2]


async def test_a_message_is_acked_when_its_handler_has_returned(valkey: Server, apps: Apps) -> None:
    alice, handled, go_on = await apps.connected("alice"), Inbox(), asyncio.Event()
    bob = apps.new("bob")

    async def handle(message: Message) -> None:
        if message.body == 2:
            await go_on.wait()
        handled.append(message)

    bob.on_message(handle)
    await bob.connect()
    for number in range(1, 4):
        await alice.send("bob", number)
    await eventually(lambda: handled.bodies == [1])
    await eventually(lambda: acked(valkey, apps.node, "bob", "bobs-own") == place(handled[0]))
    go_on.set()
    await eventually(lambda: handled.bodies == [1, 2, 3])
    await eventually(lambda: acked(valkey, apps.node, "bob", "bobs-own") == place(handled[2]))


async def test_a_crash_before_a_handler_has_returned_brings_the_message_again(valkey: Server, apps: Apps) -> None:
    alice, bob = await apps.connected("alice"), await apps.connected("bob")
    for number in range(3):
        await alice.send("bob", number)
    assert [(await anext(bob)).body for _ in range(2)] == [0, 1]
    await bob.close()
    # Asking for 1 took 0 over; what became of 1 nobody knows.
    _, inbox = await apps.listening("bob")
    await eventually(lambda: inbox.bodies == [1, 2])


async def test_a_message_may_be_acked_at_receipt(valkey: Server, apps: Apps) -> None:
    alice, bob = await apps.connected("alice"), await apps.connected("bob", ack="received")
    for number in range(3):
        await alice.send("bob", number)
    first = await anext(bob)
    await eventually(lambda: (acked(valkey, apps.node, "bob", "bobs-own") or "") > place(first))
    await bob.close()
    again = await apps.connected("bob", ack="received")
    await alice.send("bob", "new")
    assert (await anext(again)).body == "new"


async def test_acks_are_few(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    alice = await apps.connected("alice", in_flight=64)
    bob, inbox = await apps.listening("bob")
    link = bob._upkeep.link
    assert link is not None
    original = link.tell

    async def tell(type_: str, **fields: Any) -> None:
        told.append((type_, fields["cursor"]))
        await original(type_, **fields)

    monkeypatch.setattr(link, "tell", tell)
    await asyncio.gather(*(alice.send("bob", number) for number in range(150)))
    await eventually(lambda: told and told[-1] == ("ack", inbox[-1].cursor) and len(inbox) == 150)
    # At every 64th, and when it has been quiet for a moment: on a machine that stands still now and then as well.
    assert len(told) <= 50


async def test_a_handler_that_fails_is_told_of_and_does_not_hold_up_the_rest(valkey: Server, apps: Apps) -> None:
    alice, bob, handled = await apps.connected("alice"), apps.new("bob"), Inbox()

    def handle(message: Message) -> None:
        if message.body == "poison":
            raise ValueError("cannot be shown")
        handled.append(message)

    bob.on_message(handle)
    await bob.connect()
    for body in ("first", "poison", "last"):
        await alice.send("bob", body)
    await eventually(lambda: handled.bodies == ["first", "last"])
    assert [type(error) for error in apps.errors[bob]] == [ValueError]
    await eventually(lambda: acked(valkey, apps.node, "bob", "bobs-own") == place(handled[1]))


async def test_messages_wait_for_a_handler(apps: Apps) -> None:
    alice, bob, handled = await apps.connected("alice"), await apps.connected("bob"), Inbox()
    for number in range(3):
        await alice.send("bob", number)
    bob.on_message(handled.append)
    await eventually(lambda: handled.bodies == [0, 1, 2])


async def test_a_body_of_any_json_comes_through(apps: Apps) -> None:
    bob, inbox = await apps.listening("bob")
    (session,) = apps.node.hub.of("bob")
    bodies = ["\\ud800 half a pair", "123456789012345678901234567890"]
    for number, body in enumerate((f'"{bodies[0]}"', bodies[1], "null", '"\\u0000"')):
        push = f'{{"type":"message","mid":"m{number}","from":"a","to":"bob","kind":"k","sent_at":1,"body":{body}}}'
        session.send(push.encode())
    await eventually(lambda: len(inbox) == 4)
    assert [type(body) for body in inbox.bodies] == [str, float, type(None), str]
    session.send(b"not JSON")
    session.send(b"[1]")
    session.send(b'{"type":"message","mid":"no other fields"}')
    session.send(b'{"type":"something newer"}')
    await eventually(lambda: len(apps.errors[bob]) == 3)
    assert [type(error) for error in apps.errors[bob]] == [Unreadable, Unreadable, KeyError]
    assert apps.states[bob] == ["connecting", "live"]
    await bob.ping()


async def test_what_comes_again_is_handed_over_once_and_counts_as_taken_over(valkey: Server, apps: Apps) -> None:
    alice = await apps.connected("alice")
    bob, inbox = await apps.listening("bob")
    for number in range(5):
        await alice.send("bob", number)
    await eventually(lambda: len(inbox) == 5)
    # As after a failover, where everything unacked comes again: this time from the start, acks forgotten.
    with valkey.client() as redis:
        redis.delete(apps.node.store.keys.user("bob").ack)
    bob._incoming.cursor = None
    (session,) = apps.node.hub.of("bob")
    session.cut(Closing.of(codes.SESSION_LOST))
    await eventually(lambda: bob.duplicates == 5)
    await eventually(lambda: acked(valkey, apps.node, "bob", "bobs-own") == place(inbox[4]))
    await alice.send("bob", "new")
    await eventually(lambda: inbox.bodies == [0, 1, 2, 3, 4, "new"])


async def test_only_so_many_ids_are_remembered(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 10)
    alice = await apps.connected("alice")
    bob, inbox = await apps.listening("bob")
    for number in range(30):
        await alice.send("bob", number)
    await eventually(lambda: len(inbox) == 30)
    assert len(bob._incoming._seen) == 10


async def test_an_app_that_is_slow_makes_the_gateway_keep_the_rest(apps: Apps) -> None:
    alice, bob, handled, go_on = (
        await apps.connected("alice"),
        apps.new("bob", incoming_max=20),
        Inbox(),
        asyncio.Event(),
    )

    async def handle(message: Message) -> None:
        await go_on.wait()
        handled.append(message)

    bob.on_message(handle)
    await bob.connect()
    for number in range(100):
        await alice.send("bob", number)
    await eventually(lambda: apps.errors[bob])
    assert [type(error) for error in apps.errors[bob]] == [QueueFull]
    assert len(bob._incoming._waiting) == 20
    # It can still be heard from.
    await bob.send("alice", "busy")
    go_on.set()
    await eventually(lambda: len(handled) == 100)
    assert handled.bodies == list(range(100))
    assert bob._incoming.passed_over >= 79


async def test_ten_thousand_waiting_messages_come_in_order(valkey: Server, apps: Apps) -> None:
    await apps.token("bob")()
    senders = await asyncio.gather(*(apps.connected(f"sender{number}", in_flight=64) for number in range(4)))
    for start in range(0, 2500, 500):
        await asyncio.gather(
            *(sender.send("bob", number) for sender in senders for number in range(start, start + 500))
        )
    _, inbox = await apps.listening("bob")
    await eventually(lambda: len(inbox) == 10_000, 30)
    for sender in senders:
        assert [message.body for message in inbox if message.sender == sender.user] == list(range(2500))
    await eventually(lambda: acked(valkey, apps.node, "bob", "bobs-own") == place(inbox[-1]))


async def test_the_apps_own_cursor_moves_with_what_it_has_taken_over(apps: Apps) -> None:
    alice, kept = await apps.connected("alice"), Kept()
    bob, inbox = await apps.listening("bob", cursors=kept, device=None)
    for number in range(3):
        await alice.send("bob", number)
    await eventually(lambda: len(inbox) == 3)
    await eventually(lambda: kept.cursor == inbox[2].cursor)
    await bob.close()
    await alice.send("bob", 3)
    # Without a device the gateway remembers nothing: where to go on is the app's own.
    _, later = await apps.listening("bob", cursors=kept, device=None)
    await eventually(lambda: later.bodies == [3])
    assert kept.saved == sorted(kept.saved)


async def test_a_cursor_hook_that_fails_is_told_of(apps: Apps) -> None:
    alice, kept = await apps.connected("alice"), Kept()
    bob, _ = await apps.listening("bob", cursors=kept)
    kept.fault = OSError("disk full")
    await alice.send("bob", 1)
    await eventually(lambda: apps.errors[bob])
    assert isinstance(apps.errors[bob][0].__cause__, OSError)
    await bob.close()
    kept.fault = OSError("no such file")
    again = apps.new("bob", cursors=kept)
    connecting = asyncio.create_task(again.connect())
    await eventually(lambda: apps.errors[again])
    kept.fault = None
    await connecting


async def test_a_lost_gap_is_said_honestly(valkey: Server, apps: Apps) -> None:
    alice = await apps.connected("alice")
    bob = apps.new("bob", cursors=Kept("nowhere.1-1"))
    resumed: list[bool] = []
    bob.on_resumed(resumed.append)
    await bob.connect()
    assert resumed == [False]
    await alice.send("bob", "and yet")
    assert (await anext(bob)).body == "and yet"


async def test_a_resync_goes_on_in_the_new_epoch(apps: Apps) -> None:
    alice = await apps.connected("alice")
    bob, inbox = await apps.listening("bob")
    resumed: list[bool] = []
    bob.on_resumed(resumed.append)
    await alice.send("bob", 1)
    await eventually(lambda: inbox.bodies == [1])
    (session,) = apps.node.hub.of("bob")
    session.send(b'{"type":"resync","cursor":"other.0-0","head":"other.5-0","recovered":false}')
    again = b'{"type":"message","cursor":"other.1-0","sent_at":1,"mid":"%b","from":"a","to":"bob","kind":"k","body":1}'
    session.send(again % inbox[0].mid.encode())
    await eventually(lambda: bob.duplicates == 1)
    assert resumed == [False]
    assert bob._incoming.cursor == "other.1-0"


async def test_an_ack_that_was_refused_for_its_rate_is_told_again(valkey: Server, apps: Apps) -> None:
    alice = await apps.connected("alice")
    _, inbox = await apps.listening("bob")
    (session,) = apps.node.hub.of("bob")
    session.bucket.rate, session.bucket.burst, session.bucket.level = 1.0, 1.0, 0.0
    await alice.send("bob", 1)
    await eventually(lambda: inbox)
    await eventually(lambda: acked(valkey, apps.node, "bob", "bobs-own") == place(inbox[0]))


async def test_closing_waits_for_the_handler_that_runs_and_begins_no_other(apps: Apps) -> None:
    alice, bob, steps = await apps.connected("alice"), apps.new("bob"), list[str]()
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def handle(message: Message) -> None:
        entered.set()
        await go_on.wait()
        steps.append(message.body)

    bob.on_message(handle)
    await bob.connect()
    await alice.send("bob", "slow")
    await alice.send("bob", "next")
    await entered.wait()
    closing = asyncio.create_task(bob.close())
    await eventually(lambda: bob._incoming.resting)
    go_on.set()
    await closing
    assert steps == ["slow"]
    await bob.connect()
    await eventually(lambda: steps == ["slow", "next"])


async def test_a_handler_may_close_its_client_and_connect_it_again(apps: Apps) -> None:
    alice, bob, steps = await apps.connected("alice"), apps.new("bob"), list[str]()
    running = []

    async def handle(message: Message) -> None:
        running.append(message)
        assert len(running) == 1
        await bob.close()
        if message.body != "last":
            await bob.connect()
        running.pop()
        steps.append(message.body)

    bob.on_message(handle)
    await bob.connect()
    for body in ("one", "two", "last"):
        await alice.send("bob", body)
    await eventually(lambda: steps == ["one", "two", "last"])
    assert bob.state == "stopped"
    assert apps.errors[bob] == []


async def test_a_handler_that_never_ends_is_cancelled_at_the_end(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face, "HANDLER_S", 0.1)
    alice, bob, ended = await apps.connected("alice"), apps.new("bob"), list[str]()

    entered = asyncio.Event()

    async def handle(message: Message) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(message.body)

    bob.on_message(handle)
    await bob.connect()
    await alice.send("bob", "stuck")
    await entered.wait()
    await bob.close()
    assert ended == ["stuck"]


async def test_a_client_that_only_sends_is_not_held_up_by_what_it_does_not_read(apps: Apps) -> None:
    alice, bob = await apps.connected("alice", incoming_max=5), await apps.connected("bob")
    for number in range(20):
        await bob.send("alice", number)
    for number in range(20):
        await alice.send("bob", number)
    assert apps.states[alice] == ["connecting", "live"]


async def test_two_devices_take_over_each_for_itself(apps: Apps) -> None:
    async with proxied(apps.node) as (proxy, url):
        phone, first = await apps.listening("bob", url=url, device="phone", platform="ios")
        _, second = await apps.listening("bob", device="laptop", platform="desktop")
        alice = await apps.connected("alice")
        await alice.send("bob", 1)
        await eventually(lambda: first.bodies == second.bodies == [1])
        proxy.refuse()
        await eventually(lambda: phone.state == "waiting")
        await alice.send("bob", 2)
        await eventually(lambda: second.bodies == [1, 2])
        proxy.accept()
        await eventually(lambda: first.bodies == [1, 2])


def test_what_an_overflowing_link_still_brings_is_not_taken_behind_the_gap() -> None:
    client = Client("ws://127.0.0.1:1", "t", incoming_max=2)
    incoming = client._incoming
    incoming.welcomed("e.0-0")

    def push(number: int) -> None:
        incoming.take(
            {
                "type": "message",
                "mid": f"m{number}",
                "from": "alice",
                "to": "bob",
                "kind": "text",
                "body": number,
                "sent_at": number,
                "cursor": f"e.{number}-0",
            }
        )

    def handled() -> list[int]:
        found = []
        while incoming._waiting:
            item = incoming._waiting.popleft()
            incoming._done(item)
            assert isinstance(item.received, Message)
            found.append(item.received.body)
        return found

    for number in range(1, 4):
        push(number)
    assert handled() == [1, 2]
    # The link is being aborted, and the socket's buffer has one more.
    push(4)
    assert (handled(), incoming.cursor) == ([], "e.2-0")
    incoming.welcomed("e.2-0")
    for number in range(3, 5):
        push(number)
    assert handled() == [3, 4]
