"""A client's own lists and the users that it looks up, on a real node."""

from __future__ import annotations

import pytest

from gateway.client import Blocked, Client, Kicked, ListFull, NoSuchUser, NotAllowed, Presence, UserInfo
from gateway.client.lists import AT_ONCE, FRIENDS_PAGE
from gateway.client.users import BATCH_MAX
from gateway.node import Node
from tests.client.conftest import Apps
from tests.nodes import running_node
from tests.servers import Server
from tests.waiting import eventually


async def test_the_blocklist_binds_and_is_read_back(apps: Apps) -> None:
    alice, bob = await apps.connected("alice"), await apps.connected("bob")
    await bob.blocklist.add("alice")
    with pytest.raises(Blocked) as refused:
        await alice.send("bob", "hello")
    assert refused.value.code == 405
    await bob.blocklist.add(["carol", "dave", "alice"])
    assert await bob.blocklist.check(["alice", "zed"]) == {"alice": True, "zed": False}
    assert sorted([user async for user in bob.blocklist.list()]) == ["alice", "carol", "dave"]
    await bob.blocklist.remove(["alice", "never-there"])
    assert await bob.blocklist.check("alice") == {"alice": False}
    assert (await alice.send("bob", "hello")).online


async def test_lists_longer_than_a_command_and_a_page_come_whole(apps: Apps) -> None:
    bob = await apps.connected("bob")
    many = [f"user{index}" for index in range(1000 + AT_ONCE // 2)]
    await bob.blocklist.add(many)
    assert sorted([user async for user in bob.blocklist.list()]) == sorted(many)
    assert all((await bob.blocklist.check(many)).values())
    await bob.blocklist.remove(many)
    assert [user async for user in bob.blocklist.list()] == []


async def test_a_full_list_is_an_error_of_its_own(valkey: Server) -> None:
    async with running_node(valkey.url, list_max=3) as node:
        issue = node.services.tokens.issue
        async with Client(f"ws://127.0.0.1:{node.listener.port}", lambda: issue("bob", "Bob")) as bob:
            with pytest.raises(ListFull):
                await bob.blocklist.add(["a", "b", "c", "d"])


async def test_the_allowlist_binds_where_it_is_enabled(apps: Apps) -> None:
    alice, bob = await apps.connected("alice"), await apps.connected("bob")
    assert not await bob.allowlist.status()
    await bob.allowlist.enable()
    assert await bob.allowlist.status()
    with pytest.raises(NotAllowed):
        await alice.send("bob", "hello")
    await bob.allowlist.add(["alice", "carol"])
    assert sorted([user async for user in bob.allowlist.list()]) == ["alice", "carol"]
    await alice.send("bob", "hello")
    await bob.allowlist.remove("alice")
    with pytest.raises(NotAllowed):
        await alice.send("bob", "hello")
    await bob.allowlist.disable()
    await alice.send("bob", "hello")


async def test_friends_come_whole_and_newest_first(apps: Apps, node: Node) -> None:
    alice = await apps.connected("alice")
    others = [f"friend{index}" for index in range(FRIENDS_PAGE + 1)]
    for other in others:
        await node.services.tokens.issue(other, other.title())
        await node.services.friends.add("alice", other)
    friends = [friend async for friend in alice.friends.list()]
    assert [friend.user for friend in friends] == others[::-1]
    assert friends[0].name == others[-1].title()
    assert await alice.friends.check([others[0], "stranger"]) == {others[0]: True, "stranger": False}


async def test_sessions_are_listed_and_dropped(apps: Apps) -> None:
    phone = await apps.connected("alice", device="phone", platform="ios")
    laptop = await apps.connected("alice", device="laptop", platform="desktop")
    listed = {each.device: each async for each in laptop.sessions.list()}
    assert {device: each.this for device, each in listed.items()} == {"phone": False, "laptop": True}
    assert listed["phone"].session == phone.session
    with pytest.raises(NoSuchUser):
        await laptop.sessions.drop("nosuchsession")
    await laptop.sessions.drop(phone.session)
    assert isinstance(await phone.stopped(), Kicked)
    assert [each.device async for each in laptop.sessions.list()] == ["laptop"]


async def test_users_are_looked_up_at_the_gateway(apps: Apps, node: Node) -> None:
    alice = await apps.connected("alice")
    await node.services.tokens.issue("bob", "Bob B.")
    assert await alice.users.get("bob") == alice.users.cached("bob") == UserInfo("bob", "Bob B.")
    assert await alice.users.get("nobody") is None
    await node.services.tokens.issue("bob", "Robert")
    assert await alice.users.get("bob") == UserInfo("bob", "Bob B.")
    assert await alice.users.refresh("bob") == UserInfo("bob", "Robert")
    more = [f"user{index}" for index in range(BATCH_MAX + 1)]
    assert await alice.users.get_many(more) == dict.fromkeys(more)


async def test_more_lookups_than_the_rate_allows_wait(valkey: Server) -> None:
    async with running_node(valkey.url, send_rate_per_s=20, send_burst=20) as node:
        issue = node.services.tokens.issue
        async with Client(f"ws://127.0.0.1:{node.listener.port}", lambda: issue("alice", "Alice")) as alice:
            many = [f"user{index}" for index in range(BATCH_MAX * 5)]
            assert await alice.users.get_many(many) == dict.fromkeys(many)


async def test_closing_a_client_ends_its_lookups(apps: Apps) -> None:
    alice = await apps.connected("alice")
    await alice.close()
    with pytest.raises(Exception, match="closed"):
        await alice.users.get("bob")


async def test_who_blocks_is_seen_to_go_and_to_come_back(apps: Apps) -> None:
    alice, bob = await apps.connected("alice"), await apps.connected("bob")
    told: list[Presence] = []
    alice.on_presence(told.append)
    assert (await alice.watch("bob"))["bob"].online
    # Who asked has it from the answer.
    assert told == []
    await bob.blocklist.add("alice")
    await eventually(lambda: [each.online for each in told] == [False])
    await bob.blocklist.remove("alice")
    await eventually(lambda: [each.online for each in told] == [False, True])
