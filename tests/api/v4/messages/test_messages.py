"""Messages that the app's server sends, through the vendor's client and on live sockets of two nodes."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest

from gateway.node import Node
from gateway.store import accounts, messages
from tests.api.admin import Admin
from tests.api.v4.messages.messaging import HELLO, TEXT, history, quiet, recall, refused, send
from tests.api.vendor import Vendor
from tests.nodes import Client, login

SEND, SYSTEM = "/v4/direct-channel/message/send", "/v4/system-channel/message/send"
HISTORY = "/v4/direct-channel/history-message/list"


@pytest.mark.operation(SEND)
async def test_a_message_arrives_once_as_it_was_given(bob: Client, vendor: Vendor) -> None:
    mids = await send(vendor, "bob", content='{"content": "grüße",\n "n": 1.0}')
    push = await bob.next("message")
    assert mids == {"bob": push["mid"]}
    assert (push["from"], push["to"], push["kind"]) == ("alice", "bob", TEXT)
    assert push["body"] == {"content": "grüße", "n": 1.0}
    assert abs(push["sent_at"] - time.time() * 1000) < 10_000
    assert not push.keys() & {"system", "device", "metadata"}
    await quiet(bob)


@pytest.mark.parametrize("content", ["just text", "", "[1, 2]", "7", '{"half": ', '"quoted"', "line\nline\u2028\u0000"])
async def test_any_other_text_arrives_as_a_string_and_comes_back_as_it_was(
    bob: Client, vendor: Vendor, content: str
) -> None:
    await send(vendor, "bob", content=content, kind="own")
    assert (await bob.next("message"))["body"] == content
    [record] = await history(vendor)
    assert (record.content, record.message_type) == (content, "own")


@pytest.mark.operation(SEND)
async def test_each_recipient_who_takes_it_has_an_id_in_the_answer(
    nodes: tuple[Node, Node], admin: Admin, bob: Client, vendor: Vendor
) -> None:
    for user in ("carol", "dave"):
        await admin.services.tokens.issue(user, user)
    await vendor.call(vendor.users.soft_delete_users, "UserIdsMax100Request", user_ids=["dave"])
    mids = await send(vendor, "bob", "nobody", "carol", "dave", "bob")
    assert mids.keys() == {"bob", "carol"}
    assert (await bob.next("message"))["mid"] == mids["bob"] != mids["carol"]
    await quiet(bob)
    carol = await login(nodes[1], "carol")
    assert (await carol.next("message"))["mid"] == mids["carol"]
    await carol.close()


@pytest.mark.operation(SEND)
async def test_lists_bind_only_where_the_call_asks_for_it(admin: Admin, bob: Client, vendor: Vendor) -> None:
    await admin.result("/v4/user/blocklist/add", {"userId": "bob", "targetUserIds": ["alice"]})
    await admin.result("/v4/app/setting/set", {"friendsOnly": True})
    assert await send(vendor, "bob", verify_blocklist=1) == {}
    assert (await send(vendor, "bob")).keys() == (await send(vendor, "bob", verify_blocklist=0)).keys() == {"bob"}
    await bob.next("message")
    await bob.next("message")
    await admin.result("/v4/user/blocklist/remove", {"userId": "bob", "blockedUserIds": ["alice"]})
    await admin.result("/v4/user/allowlist-setting/set", {"userIds": ["bob"], "enabled": True})
    assert await send(vendor, "bob", verify_blocklist=1) == {}
    await quiet(bob)
    await admin.result("/v4/user/allowlist/add", {"userId": "bob", "targetUserIds": ["alice"]})
    assert (await send(vendor, "bob", verify_blocklist=1)).keys() == {"bob"}
    await bob.next("message")


async def test_a_full_inbox_takes_no_more_and_nobody_else_suffers(admin: Admin, vendor: Vendor) -> None:
    for user in ("carol", "dave"):
        await admin.services.tokens.issue(user, user)
    for _ in range(50):
        await send(vendor, "carol")
    assert (await send(vendor, "carol", "dave")).keys() == {"dave"}


@pytest.mark.operation(SEND)
async def test_an_echo_reaches_the_senders_devices(alice: Client, bob: Client, vendor: Vendor) -> None:
    mids = await send(vendor, "bob", is_echo_to_sender=1)
    echo = await alice.next("message")
    assert (echo["mid"], echo["from"], echo["to"], echo["body"]) == (mids["bob"], "alice", "bob", {"content": "hello"})
    await send(vendor, "bob", is_echo_to_sender=0)
    assert (await send(vendor, "alice", is_echo_to_sender=1)).keys() == {"alice"}
    assert (await alice.next("message"))["to"] == "alice"
    await quiet(alice)


async def test_an_echo_of_a_sender_who_does_not_exist_is_no_error(bob: Client, vendor: Vendor) -> None:
    assert (await send(vendor, "bob", is_echo_to_sender=1, from_user_id="robot")).keys() == {"bob"}
    assert (await bob.next("message"))["from"] == "robot"


async def test_a_deleted_or_muted_sender_is_not_refused_and_gets_no_inbox_back(
    nodes: tuple[Node, Node], bob: Client, vendor: Vendor
) -> None:
    await nodes[0].services.tokens.issue("alice", "Alice")
    await vendor.call(vendor.users.soft_delete_users, "UserIdsMax100Request", user_ids=["alice"])
    assert (await send(vendor, "bob", is_echo_to_sender=1)).keys() == {"bob"}
    await bob.next("message")
    store = nodes[0].store
    assert await store.execute(messages.read(store.keys, "alice", (0, 0))) == []


@pytest.mark.operation(SEND)
async def test_what_is_not_to_be_kept_waits_for_a_device_and_shows_in_no_history(
    nodes: tuple[Node, Node], admin: Admin, vendor: Vendor
) -> None:
    await admin.services.tokens.issue("bob", "Bob")
    mids = await send(vendor, "bob", should_persist=0)
    assert await history(vendor) == []
    bob = await login(nodes[1], "bob")
    assert (await bob.next("message"))["mid"] == mids["bob"]
    await recall(vendor, mids["bob"])
    assert (await bob.next("recalled"))["mid"] == mids["bob"]
    await bob.close()


@pytest.mark.operation(SEND, HISTORY)
async def test_metadata_reaches_the_device_and_the_history(bob: Client, vendor: Vendor) -> None:
    await send(vendor, "bob", has_metadata=True, metadata={"colour": "rot", "ü": ""})
    push = await bob.next("message")
    assert push["metadata"] == {"colour": "rot", "ü": ""}
    [record] = await history(vendor)
    assert record.has_metadata is True
    assert [(item.key, item.value, item.updated_at) for item in record.metadata] == [
        ("colour", "rot", push["sent_at"]),
        ("ü", "", push["sent_at"]),
    ]
    await send(vendor, "bob", has_metadata=True)
    await send(vendor, "bob", has_metadata=False, metadata={"a": "b"})
    assert (await bob.next("message"))["metadata"] == {}
    assert "metadata" not in await bob.next("message")
    plain, empty, _ = await history(vendor)
    assert (plain.has_metadata, plain.metadata, empty.has_metadata, empty.metadata) == (False, None, True, None)


async def test_every_other_field_is_taken_and_changes_nothing(bob: Client, vendor: Vendor) -> None:
    await send(
        vendor,
        "bob",
        push_content="you have a message",
        push_data="{}",
        push_ext="{}",
        count=-1,
        content_available=1,
        disable_push=True,
        disable_update_last_msg=True,
        need_read_receipt=1,
    )
    push = await bob.next("message")
    assert push.keys() == {"type", "cursor", "sent_at", "mid", "from", "to", "kind", "body"}


@pytest.mark.operation(SEND)
async def test_a_thousand_recipients_get_one_each_and_relaying_goes_on(
    nodes: tuple[Node, Node], alice: Client, bob: Client, vendor: Vendor
) -> None:
    users = [f"user{number}" for number in range(1000)]
    store = nodes[0].store
    await store.execute_all([accounts.register(store.keys, user) for user in users])
    sending = asyncio.ensure_future(send(vendor, *users, content="x" * 2048, kind="own"))
    relayed = 0
    while not sending.done():
        sent = await alice.send("bob", ephemeral=True)
        assert (await bob.next("message"))["mid"] == sent["mid"]
        relayed += 1
    mids = await sending
    assert mids.keys() == set(users)
    assert len(set(mids.values())) == 1000
    # One at a time from socket to socket, while a thousand are stored: it was never kept waiting for the whole.
    assert relayed > 10
    for user in users[::97]:
        [entry] = messages.parse_read(await store.execute(messages.read(store.keys, user, (0, 0))))
        assert orjson.loads(b"{" + entry.tail)["mid"] == mids[user]


@pytest.mark.operation(SEND)
async def test_the_largest_content_arrives_whole(bob: Client, vendor: Vendor) -> None:
    for content in ("ü" * 65_536, '"' * 131_072, '{"a":"' + "x" * 131_064 + '"}'):
        assert len(content.encode()) == 131_072
        await send(vendor, "bob", content=content, kind="own")
        push = await bob.next("message")
        assert push["body"] == (orjson.loads(content) if content[0] == "{" else content)
        [record, *_] = await history(vendor)
        assert record.content == content
    for content in ("ü" * 65_536 + "x", "x" * 131_073, "\u0001" * 65_536):
        assert await refused(lambda content=content: send(vendor, "bob", content=content, kind="own")) == (400, 1005)
    await quiet(bob)


@pytest.mark.operation(SYSTEM)
async def test_a_system_message_says_so_and_shows_in_no_direct_history(bob: Client, vendor: Vendor) -> None:
    result = await vendor.call(
        vendor.system.send_system_channel_message,
        "SystemChannelMessageSendRequest",
        from_user_id="alice",
        to_user_ids=["bob", "nobody"],
        message_type=TEXT,
        content=HELLO,
        push_content="p",
        should_persist=1,
    )
    [(user, mid)] = [(each.user_id, each.message_id) for each in result.message_ids]
    push = await bob.next("message")
    assert (user, push["mid"], push["system"], push["from"]) == ("bob", mid, True, "alice")
    assert await history(vendor) == []
    assert await refused(lambda: recall(vendor, mid)) == (400, 1015)
    await recall(vendor, mid, channel_type=6)
    assert (await bob.next("recalled"))["mid"] == mid
    await quiet(bob)
