"""Messages recalled, changed and looked up, through the vendor's client and on live sockets of two nodes."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

from gateway.node import Node
from gateway.store import messages
from tests.api.admin import Admin, refusal
from tests.api.v4.messages.messaging import history, quiet, recall, refused, send, update
from tests.api.vendor import Vendor
from tests.nodes import Client, login
from tests.waiting import eventually

DELETE, UPDATE = "/v4/message/delete", "/v4/direct-channel/message/update"
HISTORY = "/v4/direct-channel/history-message/list"


# Recalling.


@pytest.mark.operation(DELETE)
async def test_a_recalled_message_is_gone_and_everybody_connected_is_told(
    alice: Client, bob: Client, vendor: Vendor
) -> None:
    await alice.send("bob", "kept")
    sent = await alice.send("bob", "oops")
    await bob.next("message")
    await bob.next("message")
    await recall(vendor, sent["mid"], is_admin=1, extra="sorry", disable_push=True, disable_update_last_msg=True)
    for client in (bob, alice):
        push = await client.next("recalled")
        assert (push["mid"], push["from"], push["to"]) == (sent["mid"], "alice", "bob")
        assert (push["admin"], push["extra"]) == (True, "sorry")
        assert abs(push["at"] - time.time() * 1000) < 10_000
    assert [record.content for record in await history(vendor)] == ["kept"]
    # Again, and a third time with the wrong time: nothing more happens.
    await recall(vendor, sent["mid"])
    await recall(vendor, sent["mid"], sent_at=1)
    await quiet(alice, bob)


@pytest.mark.operation(DELETE)
async def test_a_device_that_was_away_learns_of_the_recall_and_never_sees_the_message(
    nodes: tuple[Node, Node], alice: Client, vendor: Vendor
) -> None:
    first = await login(nodes[1], "bob", "?platform=web&device=browser")
    await alice.send("bob", "seen")
    seen = await first.next("message")
    await first.close()
    unseen = await alice.send("bob", "unseen")
    await recall(vendor, seen["mid"])
    await recall(vendor, unseen["mid"], sent_at=unseen["sent_at"])
    again = await login(nodes[0], "bob", f"?platform=web&device=browser&since={seen['cursor']}")
    assert again.welcome["recovered"] is True
    assert [(await again.next())["mid"] for _ in range(2)] == [seen["mid"], unseen["mid"]]
    await quiet(again)
    fresh = await login(nodes[1], "bob", "?platform=ios&device=phone")
    recalled = [await fresh.next(), await fresh.next()]
    assert [(each["type"], each["mid"]) for each in recalled] == [
        ("recalled", seen["mid"]),
        ("recalled", unseen["mid"]),
    ]
    # Its place counts like any other: acked, it does not come again.
    await fresh.say({"type": "ack", "cursor": recalled[1]["cursor"]})
    await quiet(fresh)
    await fresh.close()
    acked = await login(nodes[1], "bob", "?platform=ios&device=phone")
    await quiet(acked)
    await acked.close()
    await again.close()


@pytest.mark.operation(DELETE)
async def test_the_senders_other_devices_lose_their_copy(
    nodes: tuple[Node, Node], alice: Client, bob: Client, vendor: Vendor
) -> None:
    phone = await login(nodes[0], "alice", "?platform=ios&device=phone")
    await phone.close()
    sent = await alice.send("bob", "oops")
    await recall(vendor, sent["mid"])
    phone = await login(nodes[0], "alice", "?platform=ios&device=phone")
    pushed = await phone.next()
    assert (pushed["type"], pushed["mid"]) == ("recalled", sent["mid"])
    await quiet(phone)
    await phone.close()


@pytest.mark.operation(DELETE)
async def test_a_message_with_a_key_is_found_by_its_time_or_without(alice: Client, bob: Client, vendor: Vendor) -> None:
    sent = [await alice.send("bob", n, key=f"key{n}") for n in range(3)]
    await recall(vendor, sent[0]["mid"])
    await recall(vendor, sent[1]["mid"], sent_at=sent[1]["sent_at"])
    # A time that is wrong only costs a longer search.
    await recall(vendor, sent[2]["mid"], sent_at=sent[2]["sent_at"] - 86_400_000)
    assert [(await bob.next("recalled"))["mid"] for _ in range(3)] == [each["mid"] for each in sent]
    # The client's repetition is answered, and brings nothing back.
    assert (await alice.send("bob", 0, key="key0", retry=True))["mid"] == sent[0]["mid"]
    assert await history(vendor) == []


@pytest.mark.operation(DELETE)
async def test_only_the_senders_own_message_of_a_served_channel_is_recalled(
    alice: Client, bob: Client, vendor: Vendor
) -> None:
    mid = (await alice.send("bob"))["mid"]
    await bob.next("message")
    wrong: list[tuple[dict[str, Any], tuple[int, int]]] = [
        ({"from_user_id": "mallory"}, (400, 1015)),
        ({"channel_id": "carol"}, (400, 1015)),
        ({"message_id": "5FGT-7VA9-G4DD-4V5P"}, (400, 1015)),
        ({"channel_type": 6}, (400, 1015)),
        ({"channel_type": 3}, (430, 1009)),
        ({"channel_type": 4}, (430, 1009)),
        ({"channel_type": 10, "subchannel_id": "s"}, (430, 1009)),
        ({"channel_type": 0}, (400, 1002)),
    ]
    for fields, expected in wrong:
        assert await refused(lambda fields=fields: recall(vendor, **({"mid": mid} | fields))) == expected, fields
    await quiet(bob)
    assert len(await history(vendor)) == 1


async def test_a_note_to_oneself_is_recalled_once(alice: Client, vendor: Vendor) -> None:
    mid = (await alice.send("alice", "note"))["mid"]
    await alice.next("message")
    await recall(vendor, mid, to="alice")
    assert (await alice.next("recalled"))["mid"] == mid
    await quiet(alice)


# Changing.


@pytest.mark.operation(UPDATE)
async def test_a_changed_message_is_told_and_shown_in_its_last_form(alice: Client, bob: Client, vendor: Vendor) -> None:
    sent = await alice.send("bob", {"text": "helo"}, kind="text")
    await bob.next("message")
    await update(vendor, sent["mid"], '{"text": "hello"}')
    await update(vendor, sent["mid"], "plain, now")
    for client in (bob, alice):
        pushed = [await client.next("updated") for _ in range(2)]
        assert [each["body"] for each in pushed] == [{"text": "hello"}, "plain, now"]
        assert {each["mid"] for each in pushed} == {sent["mid"]}
        assert pushed[0]["at"] >= sent["sent_at"]
    [record] = await history(vendor)
    assert (record.content, record.message_type, record.sent_at) == ("plain, now", "text", sent["sent_at"])
    await recall(vendor, sent["mid"])
    assert await history(vendor) == []
    assert await refused(lambda: update(vendor, sent["mid"], "too late")) == (400, 1015)


@pytest.mark.operation(UPDATE)
async def test_a_device_that_was_away_gets_message_and_last_change_in_order(
    nodes: tuple[Node, Node], admin: Admin, vendor: Vendor
) -> None:
    await admin.services.tokens.issue("bob", "Bob")
    mid = (await send(vendor, "bob"))["bob"]
    for content in ("one", "two"):
        await update(vendor, mid, content)
    bob = await login(nodes[1], "bob")
    first, second = await bob.next(), await bob.next()
    assert [(each["type"], each["mid"]) for each in (first, second)] == [("message", mid), ("updated", mid)]
    assert second["body"] == "two"
    await quiet(bob)
    await bob.close()


async def test_both_names_of_the_message_are_understood(admin: Admin, alice: Client, bob: Client) -> None:
    mid = (await alice.send("bob"))["mid"]
    asked = {"fromUserId": "alice", "targetId": "bob", "content": "c"}
    assert await admin.result(UPDATE, asked | {"messageUID": mid}) is None
    assert await admin.result(UPDATE, asked | {"messageUID": "no such", "messageId": mid}) is None
    assert refusal(await admin.call(UPDATE, asked | {"messageUID": mid, "messageId": "no such"})) == (400, 1015)
    assert refusal(await admin.call(UPDATE, asked)) == (400, 1002)


@pytest.mark.operation(UPDATE)
async def test_an_old_or_unknown_message_is_not_changed(nodes: tuple[Node, Node], bob: Client, vendor: Vendor) -> None:
    store, yesterday = nodes[0].store, int(time.time() * 1000) - 90_000_000
    keys = store.keys.user("carol")
    await nodes[0].services.tokens.issue("carol", "Carol")
    tail = messages.tail("old", "alice", "carol", "text", b"1")
    await store.topology.master(keys.partition).execute("XADD", keys.inbox, f"{yesterday}-0", "m", tail)
    assert await refused(lambda: update(vendor, "old", "new", to="carol")) == (400, 1002)
    assert await refused(lambda: update(vendor, "none", "new")) == (400, 1015)
    assert await refused(lambda: update(vendor, "none", "x" * 131_073)) == (400, 1005)
    await quiet(bob)


# Histories.


@pytest.mark.operation(HISTORY)
async def test_a_history_holds_both_sides_newest_first_and_nobody_else(
    nodes: tuple[Node, Node], alice: Client, bob: Client, vendor: Vendor
) -> None:
    carol = await login(nodes[1], "carol")
    sent = []

    async def later() -> None:
        # Two inboxes have no common order within a millisecond.
        await eventually(lambda: time.time() * 1000 > sent[-1]["sent_at"] + 1)

    for number in range(4):
        sent.append(await alice.send("bob", {"n": number}))
        await later()
        sent.append(await bob.send("alice", f"to alice {number}", kind="own"))
        await later()
        await carol.send("bob", "c")
        await carol.send("alice", "c")
    # A second device: the sender's own copies are no messages of their own.
    phone = await login(nodes[0], "alice", "?platform=ios&device=phone")
    sent.append(await phone.send("bob", [1]))
    for user, other in (("alice", "bob"), ("bob", "alice")):
        records = await history(vendor, user, other, page_size=100)
        assert [record.message_id for record in records] == [each["mid"] for each in reversed(sent)]
        assert {record.channel_id for record in records} == {other}
    assert [record.content for record in records[:3]] == ["[1]", "to alice 3", '{"n":3}']
    assert [record.from_user_id for record in records[:3]] == ["alice", "bob", "alice"]
    assert [record.message_type for record in records[:3]] == ["text", "own", "text"]
    assert [record.sent_at for record in records] == [each["sent_at"] for each in reversed(sent)]
    for client in (carol, phone):
        await client.close()


@pytest.mark.operation(HISTORY)
async def test_a_history_is_paged_by_time(nodes: tuple[Node, Node], vendor: Vendor) -> None:
    await nodes[0].services.tokens.issue("bob", "Bob")
    store, start = nodes[0].store, int(time.time() * 1000) - 60_000
    keys = store.keys.user("bob")
    for number in range(25):
        tail = messages.tail(f"m{number}", "alice", "bob", "text", b"1")
        await store.topology.master(keys.partition).execute("XADD", keys.inbox, f"{start + number}-0", "m", tail)

    async def page(latest: int, **more: Any) -> list[str]:
        records = await history(vendor, start_at=latest, end_at=start, **more)
        return [record.message_id for record in records]

    assert await page(start + 24) == [f"m{number}" for number in range(24, 14, -1)]
    assert await page(start + 15, include_start=False) == [f"m{number}" for number in range(14, 4, -1)]
    assert await page(start + 5, include_start=False, page_size=100) == [f"m{number}" for number in range(4, -1, -1)]
    assert await page(start, include_start=True) == ["m0"]
    assert await page(start, include_start=False) == []


async def test_a_body_of_any_depth_that_was_relayed_is_shown(alice: Client, bob: Client, vendor: Vendor) -> None:
    relayed, refused = 1, 2000
    while refused - relayed > 1:
        depth = (relayed + refused) // 2
        body = "[" * depth + "]" * depth
        await alice.socket.send(f'{{"type":"send","id":"deep","to":"bob","body":{body}}}')
        if orjson.loads(await alice.socket.recv())["type"] == "sent":
            relayed = depth
        else:
            refused = depth
    assert relayed > 900
    records = await history(vendor, page_size=100)
    assert "[" * relayed + "]" * relayed in [record.content for record in records]


async def test_a_history_of_nobody_is_empty(vendor: Vendor) -> None:
    assert await history(vendor, "nobody", "noone") == []
    assert await history(vendor, start_at=0, end_at=0, include_start=False) == []
