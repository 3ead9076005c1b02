from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import pytest
from ncsdk import exceptions

from tests.api.admin import Admin, refusal
from tests.api.vendor import Vendor


async def test_a_users_record(admin: Admin, vendor: Vendor) -> None:
    await admin.services.tokens.issue("alice", "Alice", None)
    user = await vendor.call(vendor.users.get_user, "UserGetRequest", user_id="alice")
    assert (user.name, user.avatar_url) == ("Alice", "")
    created = datetime.strptime(user.created_at, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert abs(created.timestamp() - time.time()) < 60


async def test_an_update_changes_what_it_names(admin: Admin, vendor: Vendor) -> None:
    await admin.services.tokens.issue("alice", "Alice", "https://a/1")
    await vendor.call(vendor.users.update_user, "UserUpdateRequest", user_id="alice", name="Al")
    await vendor.call(vendor.users.update_user, "UserUpdateRequest", user_id="alice", avatar_url="https://a/2")
    user = await vendor.call(vendor.users.get_user, "UserGetRequest", user_id="alice")
    assert (user.name, user.avatar_url) == ("Al", "https://a/2")


@pytest.mark.parametrize("known", ["never registered", "only banned", "deleted"])
async def test_a_user_that_does_not_exist(admin: Admin, vendor: Vendor, known: str) -> None:
    if known == "only banned":
        await admin.services.bans.ban(["ghost"], minutes=1)
    if known == "deleted":
        await admin.services.tokens.issue("ghost", "Ghost", None)
        await admin.services.deletion.deactivate(["ghost"])
    for method, request, more in (
        (vendor.users.get_user, "UserGetRequest", {}),
        (vendor.users.update_user, "UserUpdateRequest", {"name": "G"}),
    ):
        with pytest.raises(exceptions.BadRequestException) as refused:
            await vendor.call(method, request, user_id="ghost", **more)
        assert (refused.value.status, refused.value.error_code) == (400, 400)


async def test_connection_status_follows_the_sessions(admin: Admin, vendor: Vendor, connected: str) -> None:
    for user, expected in ((connected, "1"), ("nobody", "0")):
        result = await vendor.call(vendor.users.get_user_connection_status, "UserConnectionStatusRequest", user_id=user)
        assert result.status == expected
        documented = await admin.result("/v4/user/online-status/get", {"userId": user})
        assert documented == {"status": expected}


async def test_soft_deletion_and_restoring(admin: Admin, vendor: Vendor) -> None:
    await admin.services.tokens.issue("alice", "Alice", None)
    for method in (vendor.users.soft_delete_users, vendor.users.restore_users, vendor.users.restore_users):
        result = await vendor.call(method, "UserIdsMax100Request", user_ids=["alice", "alice"])
        assert re.fullmatch(r"[A-Z0-9]{4}(-[A-Z0-9]{4}){3}", result.operation_id)
    user = await vendor.call(vendor.users.get_user, "UserGetRequest", user_id="alice")
    assert user.name == ""


async def test_the_development_environment_has_a_limit(small_admin: Admin) -> None:
    for user in ("alice", "bob", "alice"):
        await small_admin.result("/v4/auth/access-token/issue", {"userId": user, "name": user})
    third = await small_admin.call("/v4/auth/access-token/issue", {"userId": "carol", "name": "Carol"})
    assert refusal(third) == (403, 2007)
