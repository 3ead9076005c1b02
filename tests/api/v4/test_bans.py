from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from ncsdk import exceptions

from tests.api.admin import Admin
from tests.api.vendor import Vendor


async def ban(vendor: Vendor, *users: str, minutes: int = 5) -> None:
    await vendor.call(vendor.users.ban_users, "UserBanRequest", user_ids=list(users), duration_minutes=minutes)


async def banned(vendor: Vendor, **paging: int) -> list[tuple[str, str]]:
    result = await vendor.call(vendor.users.list_banned_users, "UserBanListRequest", **paging)
    return [(each.user_id, each.ban_expires_at) for each in result.banned_users]


@pytest.mark.operation("/v4/user/ban", "/v4/user/ban/list")
async def test_a_ban_is_listed_with_its_end(admin: Admin, vendor: Vendor) -> None:
    await ban(vendor, "alice", minutes=43_200)
    ((user, ends),) = await banned(vendor)
    assert user == "alice"
    until = datetime.strptime(ends, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert abs(until - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)


async def test_the_ban_that_ends_last_comes_first(admin: Admin, vendor: Vendor) -> None:
    await ban(vendor, "short", minutes=5)
    await ban(vendor, "long", minutes=50)
    await admin.services.bans.ban(["forever"], minutes=None)
    listed = await banned(vendor)
    assert [user for user, _ in listed] == ["forever", "long", "short"]
    assert listed[0][1] == "9999-12-31 23:59:59"


async def test_a_new_ban_replaces_the_end(admin: Admin, vendor: Vendor) -> None:
    await ban(vendor, "alice", minutes=5)
    (first,) = await banned(vendor)
    await ban(vendor, "alice", "alice", minutes=500)
    (second,) = await banned(vendor)
    assert second[1] > first[1]


@pytest.mark.operation("/v4/user/unban")
async def test_unbanning(admin: Admin, vendor: Vendor) -> None:
    await ban(vendor, "alice", "bob")
    await vendor.call(vendor.users.unban_users, "UserIdsMax20Request", user_ids=["alice", ["never", "banned"][0]])
    assert [user for user, _ in await banned(vendor)] == ["bob"]


@pytest.mark.operation("/v4/user/ban/list")
async def test_pages(admin: Admin, vendor: Vendor) -> None:
    for minute in range(1, 8):
        await ban(vendor, f"u{minute}", minutes=minute)
    everybody = [f"u{minute}" for minute in range(7, 0, -1)]
    assert [user for user, _ in await banned(vendor, page_size=2)] == everybody
    pages = [[user for user, _ in await banned(vendor, page=page, page_size=3)] for page in (1, 2, 3, 4)]
    assert pages == [everybody[:3], everybody[3:6], everybody[6:], []]
    assert len(await banned(vendor, page=1, page_size=5000)) == 7


@pytest.mark.parametrize("minutes", [0, 43_201, -1])
async def test_minutes_out_of_bounds(admin: Admin, vendor: Vendor, minutes: int) -> None:
    with pytest.raises(exceptions.BadRequestException) as refused:
        await ban(vendor, "alice", minutes=minutes)
    assert (refused.value.status, refused.value.error_code) == (400, 1003)


async def test_a_ban_names_the_nodes_that_stayed_silent(admin: Admin, connected: str) -> None:
    started = time.monotonic()
    result = await admin.result("/v4/user/ban", {"userIds": [connected, "bob"], "durationMinutes": 1})
    assert (result["sessionsClosed"], result["nodesAnswered"], result["nodesSilent"]) == (0, [], ["gone.1"])
    assert 0 < result["tookMs"] <= (time.monotonic() - started) * 1000
