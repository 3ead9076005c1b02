"""What friendships do to live sockets: a real node where only friends may write to each other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.node import Node
from tests.api.admin import Admin
from tests.api.vendor import Vendor
from tests.nodes import Client, login, running_node
from tests.servers import Server
from tests.waiting import eventually


@pytest.fixture
async def node(valkey: Server) -> AsyncIterator[Node]:
    async with running_node(valkey.url) as node:
        await node.services.settings.set({"friendsOnly": True})
        await eventually(lambda: node.services.settings.live.friends_only)
        yield node


@pytest.fixture
async def admin(node: Node) -> AsyncIterator[Admin]:
    """The node's own admin port."""
    async with httpx.AsyncClient() as http:
        yield Admin(f"http://127.0.0.1:{node.admin.port}", node.services, node.config, http)


@pytest.fixture
async def sockets(node: Node) -> AsyncIterator[tuple[Client, Client]]:
    """alice and bob."""
    alice, bob = await login(node, "alice"), await login(node, "bob")
    yield alice, bob
    await alice.close()
    await bob.close()


async def verdicts(alice: Client, bob: Client) -> set[Any]:
    """What each hears who writes to the other."""
    replies = (await alice.send("bob"), await bob.send("alice"))
    return {reply.get("code", reply["type"]) for reply in replies}


async def add(vendor: Vendor, user: str, target: str) -> None:
    await vendor.call(vendor.friends.add_friend, "FriendAddRequest", user_id=user, target_id=target)


async def test_friendship_binds_the_very_next_message(vendor: Vendor, sockets: tuple[Client, Client]) -> None:
    assert await verdicts(*sockets) == {25469}
    await add(vendor, "alice", "bob")
    assert await verdicts(*sockets) == {"sent"}
    await vendor.call(vendor.friends.remove_friends, "FriendDeleteRequest", user_id="bob", target_ids=["alice"])
    assert await verdicts(*sockets) == {25469}


async def test_without_any_friend_nobody_writes(vendor: Vendor, sockets: tuple[Client, Client]) -> None:
    for other in ("aaron", "bob", "zoe"):
        await add(vendor, "alice", other)
    assert await verdicts(*sockets) == {"sent"}
    await vendor.call(vendor.friends.remove_all_friends, "FriendCleanRequest", user_id="bob")
    assert await verdicts(*sockets) == {25469}
    listed = await sockets[0].ask("friends.list")
    assert [each["user"] for each in listed["users"]] == ["zoe", "aaron"]


async def test_a_request_that_waits_lets_nobody_write(vendor: Vendor, sockets: tuple[Client, Client]) -> None:
    await vendor.call(
        vendor.friends.set_friend_permission, "FriendPermissionSetRequest", user_ids=["bob"], permission_type=2
    )
    await add(vendor, "alice", "bob")
    assert await verdicts(*sockets) == {25469}
    await add(vendor, "bob", "alice")
    assert await verdicts(*sockets) == {"sent"}


async def test_what_is_noted_of_a_friend_shows_in_the_users_own_list(
    vendor: Vendor, sockets: tuple[Client, Client]
) -> None:
    alice, bob = sockets
    await add(vendor, "alice", "bob")
    await vendor.call(
        vendor.friends.set_friend_profile,
        "FriendProfileSetRequest",
        user_id="alice",
        target_id="bob",
        alias="Bobby",
        friend_ext_profile={"ext_met": "school"},
    )
    (friend,) = (await alice.ask("friends.list"))["users"]
    assert (friend["user"], friend["name"], friend["alias"]) == ("bob", "Bob", "Bobby")
    (friend,) = (await bob.ask("friends.list"))["users"]
    assert (friend["user"], friend["alias"]) == ("alice", "")


async def test_a_list_of_hundreds_comes_whole(node: Node, sockets: tuple[Client, Client]) -> None:
    alice, _ = sockets
    for number in range(120):
        assert await node.services.friends.befriend("alice", f"u{number}")
    listed = await alice.ask("friends.list", limit=1000)
    assert [each["user"] for each in listed["users"]] == [f"u{number}" for number in reversed(range(120))]
