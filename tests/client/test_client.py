"""The face of the Python client on a real gateway: sending, receiving, its lists, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.client import (
    Blocked,
    Client,
    Closed,
    Deactivated,
    Malformed,
    Message,
    Muted,
    NoSuchUser,
    NotAllowed,
    NotFriends,
    Recalled,
    Refused,
    TooLarge,
    Updated,
)
from gateway.store.recalls import Target
from tests.client.conftest import Apps
from tests.waiting import eventually


async def test_a_message_goes_from_app_to_app(apps: Apps) -> None:
    async with Client(apps.url(), apps.token("alice"), device="phone", platform="ios") as alice:
        _, inbox = await apps.listening("bob", platform="web")
        sent = await alice.send("bob", {"text": "hello"}, kind="note")
        await eventually(lambda: inbox)
        assert inbox[0] == Message(
            sent.mid, "alice", "bob", "note", {"text": "hello"}, sent.sent_at, cursor=inbox[0].cursor
        )
        assert sent.online
        assert (alice.state, alice.user, alice.device, bool(alice.session)) == ("live", "alice", "phone", True)
    assert alice.state == "stopped"
    assert await alice.stopped() is None
    with pytest.raises(Closed):
        await alice.send("bob", 1)


async def test_a_client_that_was_closed_connects_again_and_goes_on(apps: Apps) -> None:
    bob = await apps.connected("bob")
    alice, inbox = await apps.listening("alice")
    await bob.send("alice", 1)
    await eventually(lambda: inbox.bodies == [1])
    await alice.close()
    await alice.close()
    assert not (await bob.send("alice", 2)).online
    await alice.connect()
    await eventually(lambda: inbox.bodies == [1, 2])
    assert alice.duplicates == 0


async def test_messages_are_iterated_over_until_the_client_is_closed(apps: Apps) -> None:
    alice, bob = await apps.connected("alice"), await apps.connected("bob")
    for number in range(5):
        await alice.send("bob", number)
    got = []
    async for message in bob:
        got.append(message.body)
        if len(got) == 2:
            break
    async for message in bob:
        got.append(message.body)
        if len(got) == 5:
            await bob.close()
    assert got == [0, 1, 2, 3, 4]


async def test_messages_are_handed_over_once_by_a_handler_or_by_iteration(apps: Apps) -> None:
    handled, _ = await apps.listening("alice")
    with pytest.raises(RuntimeError, match="handed over once"):
        await anext(handled)
    bob = await apps.connected("bob")
    waiting = asyncio.create_task(anext(bob))
    await eventually(lambda: bob._waiting_for_next)
    with pytest.raises(RuntimeError, match="one `async for`"):
        await anext(bob)
    with pytest.raises(RuntimeError, match="exclude each other"):
        bob.on_message(print)
    await handled.send("bob", "only once")
    assert (await waiting).body == "only once"


async def test_the_own_other_device_gets_what_this_one_sends(apps: Apps) -> None:
    laptop, seen = await apps.listening("alice", device="laptop", platform="desktop")
    changes: list[Any] = []
    laptop.on_session(changes.append)
    phone, own = await apps.listening("alice", device="phone", platform="ios")
    await eventually(lambda: changes)
    assert (changes[0].event, changes[0].device, changes[0].platform) == ("opened", "phone", "ios")
    bob = await apps.connected("bob")
    await phone.send("bob", "hi")
    await bob.send("alice", "back")
    await eventually(lambda: seen.bodies == ["hi", "back"])
    assert (seen[0].sender, seen[0].to, seen[0].device) == ("alice", "bob", "phone")
    await eventually(lambda: own.bodies == ["back"])


async def test_what_is_taken_back_or_changed_comes_in_order_with_the_messages(apps: Apps) -> None:
    alice = await apps.connected("alice")
    bob = apps.new("bob")
    told: list[Any] = []
    for register in (bob.on_message, bob.on_recalled, bob.on_updated):
        register(told.append)
    await bob.connect()
    first, second = await alice.send("bob", {"content": "1"}), await alice.send("bob", {"content": "2"})
    services = apps.node.services
    await services.messages.update(Target(second.mid, "alice", "bob"), '{"content": "two"}')
    await services.messages.recall(Target(first.mid, "alice", "bob"), admin=True, extra="spam")
    await alice.send("bob", "last")
    await eventually(lambda: len(told) == 5)
    assert [type(each) for each in told] == [Message, Message, Updated, Recalled, Message]
    assert (told[2].mid, told[2].body, told[2].sender) == (second.mid, {"content": "two"}, "alice")
    assert (told[3].mid, told[3].admin, told[3].extra) == (first.mid, True, "spam")


async def test_an_ephemeral_message_reaches_who_is_there_and_is_stored_nowhere(apps: Apps) -> None:
    alice, (bob, inbox) = await apps.connected("alice"), await apps.listening("bob")
    await alice.send("bob", "typing", ephemeral=True)
    await eventually(lambda: inbox)
    assert inbox[0].cursor is None
    await bob.close()
    await alice.send("bob", "typing", ephemeral=True)
    await alice.send("bob", "stays")
    await bob.connect()
    await eventually(lambda: inbox.bodies == ["typing", "stays"])


async def test_a_refusal_is_raised_as_what_it_is(apps: Apps) -> None:
    services = apps.node.services
    alice, bob = await apps.connected("alice"), await apps.connected("bob")

    async def refused(kind: type[Refused], code: int, body: Any = "hello", to: str = "bob") -> None:
        with pytest.raises(kind) as caught:
            await alice.send(to, body)
        assert (type(caught.value), caught.value.code) == (kind, code)

    await refused(NoSuchUser, 404, to="nobody")
    await refused(Malformed, 400, to="")
    await refused(TooLarge, 30016, "x" * (129 * 1024))
    # Over the limit of a frame it would end the connection: it does not leave the client.
    await refused(TooLarge, 30016, "x" * (1024 * 1024))
    await bob.blocklist.add("alice")
    await refused(Blocked, 405)
    await bob.blocklist.remove("alice")
    await bob.allowlist.enable()
    await refused(NotAllowed, 407)
    await bob.allowlist.disable()
    await services.accounts.mute(["alice"], True)
    await refused(Muted, 20106)
    await services.accounts.mute(["alice"], False)
    await services.settings.set({"friendsOnly": True})
    await refused(NotFriends, 25469)
    await services.settings.set({"friendsOnly": False})
    await services.deletion.deactivate(["bob"])
    await refused(Deactivated, 31029)
    with pytest.raises(TypeError):
        await alice.send("carol", {1, 2})
    assert apps.states[alice] == ["connecting", "live"]


async def test_every_list_and_a_clients_own_sessions(apps: Apps) -> None:
    alice = await apps.connected("alice")
    await alice.blocklist.add([f"user{number}" for number in range(250)])
    assert len([user async for user in alice.blocklist.list()]) == 250
    assert await alice.blocklist.check(["user1", "bob"]) == {"user1": True, "bob": False}
    await alice.allowlist.add("carol")
    assert [user async for user in alice.allowlist.list()] == ["carol"]
    assert await alice.allowlist.status() is False
    assert [friend async for friend in alice.friends.list()] == []
    (session,) = [each async for each in alice.sessions.list()]
    assert (session.session, session.this) == (alice.session, True)
    found = await alice.users.get("alice")
    assert found is not None
    assert found.name == "Alice"
    assert await alice.ping() > 1_700_000_000_000
    with pytest.raises(Malformed):
        await alice.ask("no such command")


async def test_a_handler_of_what_happens_is_a_plain_function(apps: Apps) -> None:
    async def slow(state: str, why: str) -> None:
        raise AssertionError("never called")

    client = apps.new("alice")
    with pytest.raises(TypeError, match="a plain function"):
        client.on_state(slow)

    def faulty(state: str, why: str) -> None:
        raise ValueError("the app's own fault")

    client.on_state(faulty)
    await client.connect()
    assert client.state == "live"


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="ten minutes"):
        Client("ws://localhost", "token", send_s=600)
    with pytest.raises(ValueError, match="handled"):
        Client("ws://localhost", "token", ack="never")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ws://"):
        Client("http://localhost", "token")
