"""Broadcasts, through the vendor's client and on live sockets of two nodes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.metrics import METRICS
from gateway.node import Node
from gateway.services.announcing import TAKE_MAX
from gateway.store import messages
from gateway.store.store import Store
from tests.api.admin import Admin, refusal
from tests.api.vendor import Vendor
from tests.integration.fleet import BRISK, everything, node_process, online
from tests.nodes import CREDENTIALS, Client, config, login, running_node
from tests.servers import Cluster, Server
from tests.waiting import eventually

ONLINE = "/v4/system-channel/message/broadcast-online"
ALL = "/v4/system-channel/message/broadcast-all"
RECALL = "/v4/system-channel/message/broadcast/delete"
DRAFT = {"from_user_id": "news", "message_type": "RC:TxtMsg"}


@pytest.fixture
async def nodes(valkey: Server) -> AsyncIterator[tuple[Node, Node]]:
    changes = BRISK | {"rate_limits": False, "send_burst": 10_000}
    async with (
        running_node(valkey.url, node_id="a", **changes) as a,
        running_node(valkey.url, node_id="b", **changes) as b,
    ):
        yield a, b


@pytest.fixture
async def admin(nodes: tuple[Node, Node]) -> AsyncIterator[Admin]:
    """The first node's own admin port."""
    node, _ = nodes
    async with httpx.AsyncClient() as http:
        yield Admin(f"http://127.0.0.1:{node.admin.port}", node.services, node.config, http)


async def to_online(vendor: Vendor, text: str) -> str:
    result = await vendor.call(
        vendor.system.broadcast_message_online,
        "SystemChannelBroadcastOnlineRequest",
        content=json.dumps({"content": text}),
        **DRAFT,
    )
    return str(result.message_id)


async def to_all(vendor: Vendor, text: str) -> str:
    result = await vendor.call(
        vendor.system.broadcast_system_channel_message,
        "SystemChannelBroadcastAllRequest",
        content=json.dumps({"content": text}),
        push_content="not used",
        **DRAFT,
    )
    return str(result.message_id)


async def recall(vendor: Vendor, mid: str, sender: str = "news") -> None:
    await vendor.call(
        vendor.system.delete_broadcast_message,
        "SystemChannelBroadcastDeleteRequest",
        from_user_id=sender,
        message_id=mid,
        is_admin=1,
        extra="why",
    )


def mids(received: list[dict[str, Any]], kind: str = "message") -> list[str]:
    return [each["mid"] for each in received if each["type"] == kind]


async def settled(*nodes: Node) -> None:
    """Nothing is due on these nodes any more."""
    for node in nodes:
        announcing = node.announcing
        await eventually(lambda announcing=announcing: announcing.due == 0)


async def heard_by(node: Node, mid: str) -> None:
    """The node has learnt of a broadcast."""
    await eventually(lambda: any(mid.encode() in each.head for each in node.announcing.active))


async def recall_heard_by(*nodes: Node) -> None:
    """The nodes have learnt of the one recall there is."""
    for node in nodes:
        await eventually(lambda node=node: any(each.target for each in node.announcing.active))


@pytest.mark.operation(ONLINE)
async def test_a_broadcast_to_users_online_reaches_every_device_once(nodes: tuple[Node, Node], vendor: Vendor) -> None:
    phone = await login(nodes[0], "alice", "?platform=ios&device=phone")
    laptop = await login(nodes[1], "alice", "?platform=desktop&device=laptop")
    bob = await login(nodes[1], "bob")
    mid = await to_online(vendor, "hello")
    for client, user in ((phone, "alice"), (laptop, "alice"), (bob, "bob")):
        push = await client.next("message")
        assert "cursor" not in push
        assert {name: push[name] for name in ("mid", "from", "to", "kind", "body", "system")} == {
            "mid": mid,
            "from": "news",
            "to": user,
            "kind": "RC:TxtMsg",
            "body": {"content": "hello"},
            "system": True,
        }
    # Who comes online within ten minutes gets it then, once, even when registered only now; nobody else again.
    carol = await login(nodes[0], "carol")
    assert (await carol.next("message"))["mid"] == mid
    await carol.close()
    await online(nodes[0], "carol", False)
    for node in nodes:
        again = await login(node, "carol")
        await settled(*nodes)
        assert mids(await everything(again)) == []
        await again.close()
        await online(nodes[0], "carol", False)
    await settled(*nodes)
    for client in (phone, laptop, bob):
        assert mids(await everything(client)) == []
        await client.close()


@pytest.mark.operation(ALL)
async def test_a_broadcast_to_all_goes_into_every_inbox_once(nodes: tuple[Node, Node], vendor: Vendor) -> None:
    await nodes[0].services.tokens.issue("away", "Away")
    alice = await login(nodes[0], "alice", "?device=web")
    laptop = await login(nodes[1], "alice", "?platform=desktop&device=laptop")
    mid = await to_all(vendor, "hello")
    for client in (alice, laptop):
        push = await client.next("message")
        assert (push["mid"], push["to"], push["system"]) == (mid, "alice", True)
        assert messages.parse_cursor(push["cursor"])
    away = await login(nodes[1], "away", "?device=phone")
    push = await away.next("message")
    assert (push["mid"], push["to"]) == (mid, "away")
    await away.say({"type": "ack", "cursor": push["cursor"]})
    await everything(away)
    await away.close()
    # Who registers afterwards does not get it.
    newcomer = await login(nodes[0], "newcomer")
    again = await login(nodes[0], "away", "?device=phone")
    await settled(*nodes)
    for client in (alice, laptop, newcomer, again):
        assert mids(await everything(client)) == []
        await client.close()


@pytest.mark.operation(RECALL)
async def test_recalling_takes_it_out_of_the_inboxes_and_tells_devices(
    nodes: tuple[Node, Node], vendor: Vendor, admin: Admin
) -> None:
    for user in ("away", "never"):
        await nodes[0].services.tokens.issue(user, user.title())
    alice = await login(nodes[0], "alice", "?device=web")
    away = await login(nodes[1], "away", "?device=phone")
    mid = await to_all(vendor, "a mistake")
    assert (await alice.next("message"))["mid"] == (await away.next("message"))["mid"] == mid
    await away.close()
    await online(nodes[0], "away", False)
    await recall(vendor, mid)
    push = await alice.next("recalled")
    assert {name: push[name] for name in ("mid", "from", "to", "admin", "extra")} == {
        "mid": mid,
        "from": "news",
        "to": "alice",
        "admin": True,
        "extra": "why",
    }
    await recall_heard_by(*nodes)
    # A device that had it and was away learns of the recall and is not shown the message again.
    again = await login(nodes[1], "away", "?device=phone")
    assert (await again.next("recalled"))["mid"] == mid
    assert mids(await everything(again)) == []
    # Who never had it hears nothing of it.
    never = await login(nodes[0], "never")
    await settled(*nodes)
    assert [each for each in await everything(never) if each["type"] != "session"] == []
    await recall(vendor, mid)
    await settled(*nodes)
    assert mids(await everything(alice), "recalled") == []
    for client in (alice, again, never):
        await client.close()


async def test_only_ones_own_broadcasts_to_all_can_be_recalled(vendor: Vendor, admin: Admin) -> None:
    mid = await to_all(vendor, "hello")
    fleeting = await to_online(vendor, "hello")
    for sender, which in (("other", mid), ("news", fleeting), ("news", "unheard-of")):
        answer = await admin.call(RECALL, {"fromUserId": sender, "messageId": which})
        assert refusal(answer) == (400, 1015), (sender, which)
    await admin.result(RECALL, {"fromUserId": "news", "messageId": mid})


@pytest.mark.operation(ALL, ONLINE)
async def test_what_is_in_the_stream_is_known_before_anybody_is_admitted(
    nodes: tuple[Node, Node], vendor: Vendor, valkey: Server
) -> None:
    await nodes[0].services.tokens.issue("alice", "Alice")
    sent = [await to_all(vendor, "one"), await to_online(vendor, "two"), await to_all(vendor, "three")]
    store = await Store.open(valkey.url)
    node = Node(config(node_id="c", **BRISK), CREDENTIALS, store)
    # From here on it hears of nothing new: what it knows it has learnt while it started.
    node.announcing.reread = lambda: None  # type: ignore[method-assign]
    try:
        await node.start()
        alice = await login(node, "alice")
        received = [await alice.next("message") for _ in sent]
        assert sorted(mids(received)) == sorted(sent)
        assert mids(await everything(alice)) == []
        await alice.close()
    finally:
        await node.abandon()


async def test_a_node_that_missed_the_hint_learns_with_its_lease(nodes: tuple[Node, Node], vendor: Vendor) -> None:
    deaf = nodes[1]
    deaf.bus.on_control = lambda payload: None
    alice = await login(deaf, "alice")
    mid = await to_online(vendor, "hello")
    assert (await alice.next("message"))["mid"] == mid
    await alice.close()


async def test_a_walk_that_a_dying_node_left_is_completed_elsewhere(valkey: Server) -> None:
    slow = BRISK | {"broadcast_users_per_s": 4, "rate_limits": False}
    users = [f"user{n}" for n in range(12)]
    async with (
        running_node(valkey.url, node_id="a", **slow) as survivor,
        node_process(valkey.url, "doomed", **slow) as doomed,
        httpx.AsyncClient() as http,
    ):
        admin = Admin(f"http://127.0.0.1:{survivor.admin.port}", survivor.services, survivor.config, http)
        tokens = {user: await survivor.services.tokens.issue(user, user) for user in users}
        first = {user: await login(doomed, user, "?device=d", token=tokens[user]) for user in users}
        body = {"fromUserId": "news", "messageType": "note", "content": "hello"}
        stored = (await admin.result(ALL, body))["messageId"]
        pushed = (await admin.result(ONLINE, body))["messageId"]

        got: dict[str, list[str]] = {user: [] for user in users}

        async def listen(user: str, client: Client) -> None:
            while True:
                push = await client.next("message", 30.0)
                got[user].append(push["mid"])
                if "cursor" in push:
                    await client.say({"type": "ack", "cursor": push["cursor"]})

        listeners = [asyncio.create_task(listen(user, client)) for user, client in first.items()]
        await eventually(lambda: sum(len(each) == 2 for each in got.values()) >= 3)
        doomed.kill()
        await asyncio.gather(*listeners, return_exceptions=True)
        reached = sum(bool(each) for each in got.values())
        assert 3 <= reached < len(users)
        second = {user: await login(survivor, user, "?device=d", token=tokens[user]) for user in users}
        listeners = [asyncio.create_task(listen(user, client)) for user, client in second.items()]
        await eventually(lambda: all(len(set(each)) == 2 for each in got.values()))
        await settled(survivor)
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*listeners, return_exceptions=True)
        for user, client in second.items():
            got[user] += mids(await everything(client))
            await client.close()
        # What is only pushed comes once; of what is stored a device is shown again what it had not acked.
        assert {user: each.count(pushed) for user, each in got.items()} == dict.fromkeys(users, 1)
        assert {user for user, each in got.items() if stored not in each} == set()
        for user in users:
            keys = survivor.store.keys.user(user)
            with valkey.client() as client:
                assert client.xlen(keys.inbox) == 1


async def test_a_user_on_two_nodes_that_both_walk_gets_each_once(nodes: tuple[Node, Node], vendor: Vendor) -> None:
    here, there = await login(nodes[0], "alice"), await login(nodes[1], "alice", "?platform=ios")
    sent = []
    for number in range(5):
        sent += [await to_all(vendor, f"all {number}"), await to_online(vendor, f"online {number}")]
    await heard_by(nodes[0], sent[-1])
    await heard_by(nodes[1], sent[-1])
    await settled(*nodes)
    for client in (here, there):
        # One socket gets them in the order in which they were sent.
        assert mids(await everything(client)) == sent
        await client.close()


async def test_a_full_inbox_waits_and_loses_nothing(valkey: Server) -> None:
    changes = BRISK | {"inbox_max": 2, "rate_limits": False}
    async with running_node(valkey.url, **changes) as node, httpx.AsyncClient() as http:
        admin = Admin(f"http://127.0.0.1:{node.admin.port}", node.services, node.config, http)
        alice = await login(node, "alice", "?device=d")
        for _ in range(2):
            await alice.send("alice", "filler")
        before = METRICS.broadcasts_put_off
        body = {"fromUserId": "news", "messageType": "note", "content": "hello"}
        first = (await admin.result(ALL, body))["messageId"]
        await eventually(lambda: METRICS.broadcasts_put_off > before)
        pushes = await everything(alice)
        assert first not in mids(pushes)
        await alice.say({"type": "ack", "cursor": pushes[-1]["cursor"]})
        # The next one brings what had no room.
        second = (await admin.result(ONLINE, body))["messageId"]
        assert {(await alice.next("message"))["mid"], (await alice.next("message"))["mid"]} == {first, second}
        await alice.close()


async def test_a_broken_link_loses_no_broadcast(nodes: tuple[Node, Node], vendor: Vendor) -> None:
    alice = await login(nodes[1], "alice")
    for link in nodes[1].bus.links:
        link.rebuild("a test")
    mid = await to_online(vendor, "hello")
    assert (await alice.next("message"))["mid"] == mid
    await settled(*nodes)
    assert mids(await everything(alice)) == []
    await alice.close()


async def test_a_walk_goes_no_faster_than_it_may(valkey: Server) -> None:
    changes = BRISK | {"broadcast_users_per_s": 50, "rate_limits": False}
    async with running_node(valkey.url, **changes) as node, httpx.AsyncClient() as http:
        admin = Admin(f"http://127.0.0.1:{node.admin.port}", node.services, node.config, http)
        clients = [await login(node, f"user{n}") for n in range(30)]
        before, loop = METRICS.broadcasts_taken, asyncio.get_running_loop()
        started = loop.time()
        await admin.result(ONLINE, {"fromUserId": "news", "messageType": "note", "content": "hello"})
        await eventually(lambda: METRICS.broadcasts_taken - before == 30)
        # 30 users at 50 a second, the first of them at once.
        assert loop.time() - started >= 0.5
        for client in clients:
            await client.next("message")
            await client.close()


async def test_there_may_be_so_many_broadcasts_and_no_more(valkey: Server) -> None:
    changes = {"broadcasts_max": 2, "rate_limits": False}
    async with running_node(valkey.url, **changes) as node, httpx.AsyncClient() as http:
        admin = Admin(f"http://127.0.0.1:{node.admin.port}", node.services, node.config, http)
        body = {"fromUserId": "news", "messageType": "note", "content": "hello"}
        mid = (await admin.result(ALL, body))["messageId"]
        await admin.result(ONLINE, body)
        assert refusal(await admin.call(ALL, body)) == (429, 1008)
        # A recall takes the place of what it takes back.
        await admin.result(RECALL, {"fromUserId": "news", "messageId": mid})


@pytest.mark.operation("/v4/app/setting/set")
async def test_profanity_words_bind_broadcasts_and_sends_by_setting(
    nodes: tuple[Node, Node], vendor: Vendor, admin: Admin
) -> None:
    alice = await login(nodes[1], "alice")
    words = [{"word": "scam"}, {"word": "damn", "replacement": "****"}]
    await admin.result("/v4/profanity-word/batch/add", {"words": words})
    body = {"fromUserId": "news", "messageType": "note", "content": "damn scam"}
    await admin.result(ONLINE, body)
    assert (await alice.next("message"))["body"] == "damn scam"
    await admin.result("/v4/app/setting/set", {"wordsBindServerSends": True})
    direct = body | {"toUserIds": ["alice"]}
    for path, asked in ((ONLINE, body), (ALL, body), ("/v4/direct-channel/message/send", direct)):
        assert refusal(await admin.call(path, asked)) == (400, 21501), path
    for path, asked in ((ONLINE, body), ("/v4/direct-channel/message/send", direct)):
        await admin.result(path, asked | {"content": "Damn!"})
        assert (await alice.next("message"))["body"] == "****!"
    await alice.close()


async def test_broadcasts_on_every_kind_of_store(any_store: Server | Cluster) -> None:
    async with (
        running_node(any_store.url, rate_limits=False) as node,
        httpx.AsyncClient() as http,
    ):
        admin = Admin(f"http://127.0.0.1:{node.admin.port}", node.services, node.config, http)
        clients = [await login(node, f"user{n}") for n in range(5)]
        body = {"fromUserId": "news", "messageType": "note", "content": "hello"}
        stored = (await admin.result(ALL, body))["messageId"]
        pushed = (await admin.result(ONLINE, body))["messageId"]
        await admin.result(RECALL, {"fromUserId": "news", "messageId": stored})
        await recall_heard_by(node)
        for client in clients:
            await eventually(lambda node=node: node.announcing.due == 0)
            got = await everything(client)
            assert mids(got).count(pushed) == 1
            # The recall may have come before the walk: then the message came to nobody.
            assert mids(got).count(stored) == mids(got, "recalled").count(stored) <= 1
            await client.close()


async def test_who_was_away_takes_more_than_one_call_holds(nodes: tuple[Node, Node], vendor: Vendor) -> None:
    await nodes[0].services.tokens.issue("alice", "Alice")
    sent = [await to_all(vendor, str(number)) for number in range(TAKE_MAX + 2)]
    await heard_by(nodes[1], sent[-1])
    alice = await login(nodes[1], "alice")
    assert [(await alice.next("message"))["mid"] for _ in sent] == sent
    await alice.close()


async def test_a_take_that_an_outage_cut_short_is_made_up_for(valkey: Server) -> None:
    changes = BRISK | {"broadcast_users_per_s": 1, "rate_limits": False}
    async with running_node(valkey.url, **changes) as node, httpx.AsyncClient() as http:
        admin = Admin(f"http://127.0.0.1:{node.admin.port}", node.services, node.config, http)
        clients = [await login(node, "alice"), await login(node, "bob")]
        before = METRICS.broadcasts_taken, METRICS.broadcasts_retried
        await admin.result(ONLINE, {"fromUserId": "news", "messageType": "note", "content": "hello"})
        await eventually(lambda: METRICS.broadcasts_taken > before[0])
        # The walk comes by the second user a second later, and the store is away.
        valkey.pause()
        try:
            await eventually(lambda: METRICS.broadcasts_retried > before[1])
        finally:
            valkey.resume()
        for client in clients:
            await client.next("message", 10.0)
        # Each once, also where the store carried out the take whose answer was waited for in vain.
        for client in clients:
            assert mids(await everything(client)) == []
            await client.close()
