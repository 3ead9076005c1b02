from __future__ import annotations

from typing import Any

import pytest

from tests.api.admin import Admin, refusal
from tests.api.vendor import Vendor


async def block(vendor: Vendor, *targets: str) -> None:
    await vendor.call(
        vendor.blocklist.add_user_blocklist, "UserBlocklistAddRequest", user_id="alice", target_user_ids=list(targets)
    )


async def blocklist(vendor: Vendor, **paging: Any) -> Any:
    return await vendor.call(vendor.blocklist.get_user_blocklist, "UserBlocklistGetRequest", user_id="alice", **paging)


@pytest.mark.operation("/v4/user/blocklist/add", "/v4/user/blocklist/remove", "/v4/user/blocklist/get")
async def test_add_get_remove(admin: Admin, vendor: Vendor) -> None:
    await block(vendor, "bob", "carol", "bob")
    await block(vendor, "bob")
    result = await blocklist(vendor)
    assert sorted(result.blocked_user_ids) == ["bob", "carol"]
    assert result.page_token is None
    await vendor.call(
        vendor.blocklist.remove_user_blocklist,
        "UserBlocklistRemoveRequest",
        user_id="alice",
        blocked_user_ids=["bob", "nobody"],
    )
    assert (await blocklist(vendor)).blocked_user_ids == ["carol"]


async def test_pages_newest_and_oldest_first(admin: Admin, vendor: Vendor) -> None:
    users = [f"u{index}" for index in range(5)]
    for user in users:
        await block(vendor, user)
    for order, expected in ((0, users[::-1]), (1, users)):
        seen: list[str] = []
        token = None
        for _ in range(3):
            page = await blocklist(vendor, page_size=2, order=order, page_token=token)
            seen += page.blocked_user_ids
            token = page.page_token
        assert token is None
        assert seen == expected


async def test_the_page_token_has_both_names(admin: Admin, vendor: Vendor) -> None:
    await block(vendor, "bob", "carol")
    result = await admin.result("/v4/user/blocklist/get", {"userId": "alice", "pageSize": 1})
    assert result["pageToken"] == result["next"]
    last = await admin.result("/v4/user/blocklist/get", {"userId": "alice"})
    assert set(last) == {"blockedUserIds"}


async def test_an_empty_list_is_a_list(admin: Admin, vendor: Vendor) -> None:
    assert (await blocklist(vendor)).blocked_user_ids == []


@pytest.mark.parametrize("token", ["", "zzz", "-1", "0", "../x", "f" * 60])
async def test_a_page_token_that_was_never_issued(admin: Admin, token: str) -> None:
    for path in ("blocklist", "allowlist"):
        answer = await admin.call(f"/v4/user/{path}/get", {"userId": "alice", "pageToken": token})
        assert refusal(answer) == (400, 1002)
        assert answer.json()["errorMessage"].startswith("pageToken: ")


@pytest.mark.operation("/v4/user/blocklist/check")
async def test_who_is_blocked(admin: Admin, vendor: Vendor) -> None:
    await block(vendor, "bob")
    asked = {"userId": "alice", "targetUserIds": ["bob", "carol"]}
    assert await admin.result("/v4/user/blocklist/check", asked) == {"blocked": {"bob": True, "carol": False}}


async def test_oneself_is_accepted_without_effect(admin: Admin, vendor: Vendor) -> None:
    await block(vendor, "alice")
    assert (await blocklist(vendor)).blocked_user_ids == []


async def test_a_full_list_takes_no_more(small_admin: Admin) -> None:
    most = small_admin.config.list_max
    for start in range(0, most, 20):
        targets = [f"u{index}" for index in range(start, min(start + 20, most))]
        await small_admin.result("/v4/user/blocklist/add", {"userId": "alice", "targetUserIds": targets})
    answer = await small_admin.call("/v4/user/blocklist/add", {"userId": "alice", "targetUserIds": ["more"]})
    assert refusal(answer) == (400, 1002)
    await small_admin.result("/v4/user/blocklist/add", {"userId": "alice", "targetUserIds": ["u0"]})
