from __future__ import annotations

import json
import time
from typing import Any

import pytest
from ncsdk import exceptions

from tests.api.admin import Admin, refusal
from tests.api.vendor import Vendor


async def befriend(vendor: Vendor, user: str, target: str, **more: Any) -> None:
    await vendor.call(vendor.friends.add_friend, "FriendAddRequest", user_id=user, target_id=target, **more)


async def refused(vendor: Vendor, user: str, target: str, **more: Any) -> int:
    """The business code of an add that is refused."""
    with pytest.raises(exceptions.BadRequestException) as caught:
        await befriend(vendor, user, target, **more)
    assert caught.value.status == 400
    return int(caught.value.error_code)


async def friends(vendor: Vendor, user: str, **paging: Any) -> Any:
    return await vendor.call(vendor.friends.list_friends, "FriendListRequest", user_id=user, **paging)


async def names(vendor: Vendor, user: str) -> list[str]:
    return [each.user_id for each in (await friends(vendor, user)).friends]


async def permit(vendor: Vendor, permission: int, *users: str) -> None:
    await vendor.call(
        vendor.friends.set_friend_permission,
        "FriendPermissionSetRequest",
        user_ids=list(users),
        permission_type=permission,
    )


async def note(vendor: Vendor, user: str, target: str, **notes: Any) -> None:
    await vendor.call(
        vendor.friends.set_friend_profile, "FriendProfileSetRequest", user_id=user, target_id=target, **notes
    )


@pytest.mark.operation("/v4/friend/add", "/v4/friend/list")
async def test_friendship_is_mutual(admin: Admin, vendor: Vendor) -> None:
    await admin.services.tokens.issue("bob", "Bob", None)
    await befriend(vendor, "alice", "bob", action=2, extra="we met")
    mine, theirs = await friends(vendor, "alice"), await friends(vendor, "bob")
    assert (mine.total_count, theirs.total_count) == (1, 1)
    (friend,) = mine.friends
    assert (friend.user_id, friend.name, friend.alias, friend.friend_ext_profile) == ("bob", "Bob", "", {})
    assert abs(friend.added_at - time.time() * 1000) < 60_000
    assert [each.user_id for each in theirs.friends] == ["alice"]


@pytest.mark.operation("/v4/friend/remove")
async def test_removal_is_mutual_and_idempotent(admin: Admin, vendor: Vendor) -> None:
    await befriend(vendor, "alice", "bob")
    for _ in range(2):
        await vendor.call(
            vendor.friends.remove_friends, "FriendDeleteRequest", user_id="bob", target_ids=["alice", "nobody", "bob"]
        )
    for user in ("alice", "bob"):
        assert await names(vendor, user) == []


@pytest.mark.operation("/v4/friend/remove-all")
async def test_all_friendships_end_in_both_directions(admin: Admin, vendor: Vendor) -> None:
    others = ["alice", "bob", "zoe"]
    for other in others:
        await befriend(vendor, "mike", other)
    await befriend(vendor, "alice", "bob")
    for _ in range(2):
        await vendor.call(vendor.friends.remove_all_friends, "FriendCleanRequest", user_id="mike")
    assert [await names(vendor, user) for user in ("mike", *others)] == [[], ["bob"], ["alice"], []]
    await befriend(vendor, "mike", "zoe")
    assert await names(vendor, "zoe") == ["mike"]


@pytest.mark.operation("/v4/friend/relationship/get")
async def test_relationships(admin: Admin, vendor: Vendor) -> None:
    await befriend(vendor, "alice", "bob")
    result = await vendor.call(
        vendor.friends.get_friend_relationships,
        "FriendRelationshipGetRequest",
        user_id="alice",
        target_ids=["carol", "bob", "alice"],
    )
    assert [(each.user_id, each.result) for each in result.friendships] == [("carol", 1), ("bob", 4), ("alice", 1)]


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


async def test_what_stands_against_a_friendship(admin: Admin, vendor: Vendor) -> None:
    await befriend(vendor, "alice", "bob")
    assert await refused(vendor, "bob", "alice") == 25460
    assert await refused(vendor, "alice", "alice") == 25473
    await admin.services.relationships.block("carol", ["alice"])
    assert await refused(vendor, "alice", "carol") == 25462
    assert await refused(vendor, "carol", "alice", action=2) == 25464
    await admin.services.relationships.enable_allowlist(["dave"], True)
    assert await refused(vendor, "alice", "dave") == 25463
    assert await refused(vendor, "dave", "alice") == 25465
    await admin.services.relationships.allow("dave", ["alice"])
    await befriend(vendor, "alice", "dave")
    await admin.services.tokens.issue("erin", "Erin", None)
    await admin.services.deletion.deactivate(["erin"])
    assert await refused(vendor, "alice", "erin", action=2) == 400
    assert await refused(vendor, "erin", "alice") == 400
    assert await names(vendor, "alice") == ["bob", "dave"]


@pytest.mark.operation("/v4/friend/permission/set", "/v4/friend/permission/get")
async def test_permissions(admin: Admin, vendor: Vendor) -> None:
    await permit(vendor, 3, "bob", "carol")
    await permit(vendor, 2, "carol")

    async def of(*users: str) -> list[tuple[str, int]]:
        result = await vendor.call(
            vendor.friends.get_friend_permission, "FriendPermissionGetRequest", user_ids=list(users)
        )
        return [(each.user_id, each.permission_type) for each in result.permissions]

    assert await of("carol", "alice", "bob") == [("carol", 2), ("alice", 1), ("bob", 3)]
    await admin.services.settings.set({"friendPermissionDefault": 2})
    assert await of("alice", "bob") == [("alice", 2), ("bob", 3)]


async def test_who_wants_no_friends_has_none_unless_added_directly(admin: Admin, vendor: Vendor) -> None:
    await permit(vendor, 3, "bob")
    assert await refused(vendor, "alice", "bob") == 25471
    await befriend(vendor, "alice", "bob", action=2)
    assert await names(vendor, "bob") == ["alice"]


async def test_a_request_waits_until_the_other_one_adds_too(admin: Admin, vendor: Vendor) -> None:
    await permit(vendor, 2, "alice", "bob")
    for _ in range(2):
        await befriend(vendor, "alice", "bob")
        assert (await names(vendor, "alice"), await names(vendor, "bob")) == ([], [])
    await befriend(vendor, "bob", "alice")
    assert (await names(vendor, "alice"), await names(vendor, "bob")) == (["bob"], ["alice"])
    # The request is used up.
    await admin.services.friends.unfriend("alice", ["bob"])
    await befriend(vendor, "bob", "alice")
    assert await names(vendor, "bob") == []


async def test_a_request_is_gone_with_the_account_that_it_waits_for(admin: Admin, vendor: Vendor) -> None:
    for user in ("alice", "bob"):
        await admin.services.tokens.issue(user, user.title(), None)
    await permit(vendor, 2, "alice", "bob")
    await befriend(vendor, "alice", "bob")
    await admin.services.deletion.deactivate(["bob"])
    await admin.services.deletion.reactivate(["bob"])
    await permit(vendor, 2, "bob")
    await befriend(vendor, "bob", "alice")
    assert await names(vendor, "bob") == []


async def test_deletion_ends_friendships_and_what_was_noted(admin: Admin, vendor: Vendor) -> None:
    for user in ("alice", "bob"):
        await admin.services.tokens.issue(user, user.title(), None)
    await befriend(vendor, "alice", "bob")
    await permit(vendor, 3, "alice")
    await note(vendor, "bob", "alice", alias="Al")
    await admin.services.deletion.deactivate(["alice"])
    assert (await names(vendor, "alice"), await names(vendor, "bob")) == ([], [])
    await admin.services.deletion.reactivate(["alice"])
    await befriend(vendor, "bob", "alice")
    (friend,) = (await friends(vendor, "bob")).friends
    assert friend.alias == ""


@pytest.mark.operation("/v4/friend/profile/set")
async def test_notes_of_a_friend_are_the_users_own(admin: Admin, vendor: Vendor) -> None:
    await befriend(vendor, "alice", "bob")
    await note(vendor, "alice", "bob", alias="Bobby ♥", friend_ext_profile={"ext_met": "school", "ext_2": ""})
    (friend,) = (await friends(vendor, "alice")).friends
    assert (friend.alias, friend.friend_ext_profile) == ("Bobby ♥", {"ext_met": "school", "ext_2": ""})
    raw = await admin.result("/v4/friend/list", {"userId": "alice"})
    assert json.loads(raw["friends"][0]["extraProfile"]) == friend.friend_ext_profile
    (friend,) = (await friends(vendor, "bob")).friends
    assert (friend.alias, friend.friend_ext_profile) == ("", {})
    # An alias that is left out is cleared, attributes that are left out stay.
    await note(vendor, "alice", "bob")
    (friend,) = (await friends(vendor, "alice")).friends
    assert (friend.alias, friend.friend_ext_profile) == ("", {"ext_met": "school", "ext_2": ""})
    await note(vendor, "alice", "bob", friend_ext_profile={})
    (friend,) = (await friends(vendor, "alice")).friends
    assert friend.friend_ext_profile == {}


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({f"ext_{number}": "v" for number in range(11)}, 1002),
        ({"ext_" + "k" * 29: "v"}, 25470),
        ({"ext_k": "v" * 257}, 25470),
        ({"met": "school"}, 1002),
        ({"ext_": "v"}, 1002),
        ({"ext_a b": "v"}, 1002),
        ({"ext_ä": "v"}, 1002),
    ],
)
async def test_bounds_of_notes(admin: Admin, vendor: Vendor, attributes: dict[str, str], code: int) -> None:
    await befriend(vendor, "alice", "bob")
    answer = await admin.call(
        "/v4/friend/profile/set", {"userId": "alice", "targetId": "bob", "friendExtProfile": attributes}
    )
    assert refusal(answer) == (400, code)
    assert answer.json()["errorMessage"].startswith("friendExtProfile: ")


async def test_notes_up_to_the_bounds_and_keys_without_prefix_by_setting(admin: Admin, vendor: Vendor) -> None:
    await befriend(vendor, "alice", "bob")
    most = {f"ext_{number}" + "k" * 27: "v" * 256 for number in range(10)}
    await note(vendor, "alice", "bob", alias="a" * 64, friend_ext_profile=most)
    (friend,) = (await friends(vendor, "alice")).friends
    assert (friend.alias, friend.friend_ext_profile) == ("a" * 64, most)
    await admin.services.settings.set({"strictExtKeys": False})
    await note(vendor, "alice", "bob", friend_ext_profile={"met": "school"})


async def test_strangers_are_not_noted(admin: Admin, vendor: Vendor) -> None:
    for target in ("bob", "alice"):
        with pytest.raises(exceptions.BadRequestException) as caught:
            await note(vendor, "alice", target, alias="Bobby")
        assert caught.value.error_code == 25472
        assert str(caught.value.error_message).startswith("targetId: ")


async def test_friend_limits_of_both_sides(small_admin: Admin) -> None:
    for index in range(small_admin.config.list_max):
        await small_admin.result("/v4/friend/add", {"userId": "mike", "targetId": f"{'az'[index % 2]}{index}"})
    for other in ("bob", "more"):
        mine = await small_admin.call("/v4/friend/add", {"userId": "mike", "targetId": other})
        theirs = await small_admin.call("/v4/friend/add", {"userId": other, "targetId": "mike"})
        assert (refusal(mine), refusal(theirs)) == ((400, 25467), (400, 25468))
        assert mine.json()["errorMessage"].startswith("userId: ")
        assert theirs.json()["errorMessage"].startswith("targetId: ")


@pytest.mark.parametrize("token", ["", "zzz", "-1", "0", "../x", "f" * 60])
async def test_a_page_token_that_was_never_issued(admin: Admin, token: str) -> None:
    answer = await admin.call("/v4/friend/list", {"userId": "alice", "pageToken": token})
    assert refusal(answer) == (400, 25432)
    assert answer.json()["errorMessage"].startswith("pageToken: ")
