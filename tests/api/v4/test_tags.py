from __future__ import annotations

import pytest

from tests.api.admin import Admin
from tests.api.vendor import Vendor


async def tags(vendor: Vendor, *users: str) -> list[tuple[str, list[str]]]:
    result = await vendor.call(vendor.users.batch_get_user_tags, "UserTagBatchGetRequest", user_ids=list(users))
    return [(each.user_id, each.tags) for each in result.users]


async def tag(vendor: Vendor, users: list[str], *given: str) -> None:
    await vendor.call(vendor.users.batch_set_user_tags, "UserTagBatchSetRequest", user_ids=users, tags=list(given))


@pytest.mark.operation("/v4/user/tag/batch/set", "/v4/user/tag/batch/get")
async def test_tags_are_replaced_as_a_whole(vendor: Vendor) -> None:
    assert await tags(vendor, "alice") == [("alice", [])]
    await tag(vendor, ["alice", "bob"], "vip", "東京", "vip")
    await tag(vendor, ["bob"], "beta")
    assert await tags(vendor, "bob", "carol", "alice") == [("bob", ["beta"]), ("carol", []), ("alice", ["vip", "東京"])]
    await tag(vendor, ["alice"])
    assert await tags(vendor, "alice") == [("alice", [])]


async def test_as_much_as_is_allowed(vendor: Vendor) -> None:
    users, most = [f"u{index}" for index in range(1000)], [f"{index:02}" + "t" * 38 for index in range(20)]
    await tag(vendor, users, *most)
    assert await tags(vendor, *users[-50:]) == [(user, most) for user in users[-50:]]


async def test_who_is_deleted_has_none_and_gets_none(admin: Admin, vendor: Vendor) -> None:
    await tag(vendor, ["alice"], "vip")
    await admin.services.deletion.deactivate(["alice"])
    assert await tags(vendor, "alice") == [("alice", [])]
    await tag(vendor, ["alice"], "vip")
    await admin.services.deletion.reactivate(["alice"])
    assert await tags(vendor, "alice") == [("alice", [])]
