from __future__ import annotations

import time
from typing import Any

import pytest
from ncsdk import exceptions

from tests.api.admin import Admin, refusal
from tests.api.vendor import Vendor


async def befriend(vendor: Vendor, user: str, target: str, **more: Any) -> None:
    await vendor.call(vendor.friends.add_friend, "FriendAddRequest", user_id=user, target_id=target, **more)


async def friends(vendor: Vendor, user: str, **paging: Any) -> Any:
    return await vendor.call(vendor.friends.list_friends, "FriendListRequest", user_id=user, **paging)


async def test_friendship_is_mutual(admin: Admin, vendor: Vendor) -> None:
    await admin.services.tokens.issue("bob", "Bob", None)
    await befriend(vendor, "alice", "bob", action=2, extra="we met")
    mine, theirs = await friends(vendor, "alice"), await friends(vendor, "bob")
    assert (mine.total_count, theirs.total_count) == (1, 1)
    (friend,) = mine.friends
    assert (friend.user_id, friend.name, friend.alias) == ("bob", "Bob", "")
    assert abs(friend.added_at - time.time() * 1000) < 60_000
    assert [each.user_id for each in theirs.friends] == ["alice"]


async def test_removal_is_mutual_and_idempotent(admin: Admin, vendor: Vendor) -> None:
    await befriend(vendor, "alice", "bob")
    for _ in range(2):
        await vendor.call(
            vendor.friends.remove_friends, "FriendDeleteRequest", user_id="bob", target_ids=["alice", "nobody"]
        )
    for user in ("alice", "bob"):
        assert (await friends(vendor, user)).friends == []


async def test_relationships(admin: Admin, vendor: Vendor) -> None:
    await befriend(vendor, "alice", "bob")
    result = await vendor.call(
        vendor.friends.get_friend_relationships,
        "FriendRelationshipGetRequest",
        user_id="alice",
        target_ids=["carol", "bob"],
    )
    assert [(each.user_id, each.result) for each in result.friendships] == [("carol", 1), ("bob", 4)]


async def test_pages_oldest_first_unless_asked(admin: Admin, vendor: Vendor) -> None:
    users = [f"u{index}" for index in range(5)]
    for user in users:
        await befriend(vendor, "alice", user)
    for order, expected in ((None, users), (0, users), (1, users[::-1])):
        seen: list[str] = []
        token = None
        for _ in range(3):
            page = await friends(vendor, "alice", page_size=2, page_token=token, order=order)
            assert page.total_count == 5
            seen += [each.user_id for each in page.friends]
            token = page.page_token
        assert token is None
        assert seen == expected


async def test_numbers_may_come_as_strings(admin: Admin, vendor: Vendor) -> None:
    for user in ("bob", "carol"):
        await befriend(vendor, "alice", user)
    result = await admin.result("/v4/friend/list", {"userId": "alice", "pageSize": "1", "order": "1"})
    assert [each["userId"] for each in result["friends"]] == ["carol"]


async def test_friends_already(admin: Admin, vendor: Vendor) -> None:
    await befriend(vendor, "alice", "bob")
    with pytest.raises(exceptions.BadRequestException) as refused:
        await befriend(vendor, "bob", "alice")
    assert (refused.value.status, refused.value.error_code) == (400, 25460)


async def test_oneself_is_no_friend(admin: Admin, vendor: Vendor) -> None:
    with pytest.raises(exceptions.BadRequestException) as refused:
        await befriend(vendor, "alice", "alice")
    assert (refused.value.status, refused.value.error_code) == (400, 25473)
    assert str(refused.value.error_message).startswith("targetId: ")


async def test_friend_limits_of_both_sides(small_admin: Admin) -> None:
    for index in range(small_admin.config.list_max):
        await small_admin.result("/v4/friend/add", {"userId": "alice", "targetId": f"u{index}"})
    mine = await small_admin.call("/v4/friend/add", {"userId": "alice", "targetId": "more"})
    theirs = await small_admin.call("/v4/friend/add", {"userId": "more", "targetId": "alice"})
    assert (refusal(mine), refusal(theirs)) == ((400, 25467), (400, 25468))
