from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime

import httpx
import pytest
from ncsdk import exceptions

from tests.api.admin import Admin, refusal
from tests.api.conftest import Serve
from tests.api.vendor import Vendor
from tests.nodes import login, running_node
from tests.servers import Server


@pytest.mark.operation("/v4/user/get")
async def test_a_users_record(admin: Admin, vendor: Vendor) -> None:
    await admin.services.tokens.issue("alice", "Alice", None)
    user = await vendor.call(vendor.users.get_user, "UserGetRequest", user_id="alice")
    assert (user.name, user.avatar_url) == ("Alice", "")
    created = datetime.strptime(user.created_at, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert abs(created.timestamp() - time.time()) < 60


@pytest.mark.operation("/v4/user/update")
async def test_an_update_changes_what_it_names(admin: Admin, vendor: Vendor) -> None:
    await admin.services.tokens.issue("alice", "Alice", "https://a/1")
    await vendor.call(vendor.users.update_user, "UserUpdateRequest", user_id="alice", name="Al")
    await vendor.call(vendor.users.update_user, "UserUpdateRequest", user_id="alice", avatar_url="https://a/2")
    user = await vendor.call(vendor.users.get_user, "UserGetRequest", user_id="alice")
    assert (user.name, user.avatar_url) == ("Al", "https://a/2")


async def test_an_update_is_seen_by_clients_at_once(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        bob = await login(node, "bob")
        await node.services.tokens.issue("alice", "Alice", None)
        vendor = Vendor(f"http://127.0.0.1:{node.admin.port}")
        await vendor.call(vendor.users.update_user, "UserUpdateRequest", user_id="alice", name="Al")
        vendor.close()
        assert (await bob.ask("user.get", users=["alice"]))["users"] == [
            {"user": "alice", "name": "Al", "avatar_url": ""}
        ]
        await bob.close()


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


@pytest.mark.operation("/v4/user/connection-status/get", "/v4/user/online-status/get")
async def test_connection_status_follows_the_sessions(admin: Admin, vendor: Vendor, connected: str) -> None:
    for user, expected in ((connected, "1"), ("nobody", "0")):
        result = await vendor.call(vendor.users.get_user_connection_status, "UserConnectionStatusRequest", user_id=user)
        assert result.status == expected
        documented = await admin.result("/v4/user/online-status/get", {"userId": user})
        assert documented == {"status": expected}


@pytest.mark.operation("/v4/user/soft-delete", "/v4/user/restore", "/v4/user/soft-deleted/list")
async def test_soft_deletion_and_restoring(admin: Admin, vendor: Vendor) -> None:
    async def deleted() -> list[str]:
        result = await vendor.call(vendor.users.list_soft_deleted_users, "UserSoftDeletedListRequest")
        return list(result.user_ids)

    for user in ("bob", "alice"):
        await admin.services.tokens.issue(user, user.title(), None)
        await vendor.call(vendor.users.soft_delete_users, "UserIdsMax100Request", user_ids=[user])
    # Not even one who was never registered comes back by a restoration.
    await vendor.call(vendor.users.soft_delete_users, "UserIdsMax100Request", user_ids=["nobody", "nobody"])
    assert await deleted() == ["bob", "alice", "nobody"]
    for _ in range(2):
        result = await vendor.call(
            vendor.users.restore_users, "UserIdsMax100Request", user_ids=["alice", "alice", "nobody", "carol"]
        )
        assert re.fullmatch(r"[A-Z0-9]{4}(-[A-Z0-9]{4}){3}", result.operation_id)
        assert await deleted() == ["bob"]
    user = await vendor.call(vendor.users.get_user, "UserGetRequest", user_id="alice")
    assert user.name == ""
    with pytest.raises(exceptions.BadRequestException):
        await vendor.call(vendor.users.get_user, "UserGetRequest", user_id="nobody")


async def test_pages_of_softly_deleted_users(admin: Admin, vendor: Vendor) -> None:
    users = [f"u{index}" for index in range(7)]
    for user in users:
        await vendor.call(vendor.users.soft_delete_users, "UserIdsMax100Request", user_ids=[user])
    for page, expected in ((1, users[:3]), (3, users[6:]), (4, [])):
        result = await vendor.call(
            vendor.users.list_soft_deleted_users, "UserSoftDeletedListRequest", page=page, page_size=3
        )
        assert result.user_ids == expected


async def test_restoring_may_have_to_wait(serve: Serve, admin: Admin, vendor: Vendor) -> None:
    async with serve(restore_wait_s=3600) as patient:
        await patient.services.tokens.issue("alice", "Alice", None)
        await patient.result("/v4/user/soft-delete", {"userIds": ["alice"]})
        result = await patient.result("/v4/user/restore", {"userIds": ["alice", "bob"]})
        assert result["refusedUserIds"] == ["alice"]
        assert refusal(await patient.call("/v4/user/get", {"userId": "alice"})) == (400, 400)
    result = await admin.result("/v4/user/restore", {"userIds": ["alice"]})
    assert "refusedUserIds" not in result
    assert (await admin.result("/v4/user/get", {"userId": "alice"}))["name"] == ""


@pytest.mark.operation("/v4/user/list")
async def test_registered_users_are_listed_in_the_order_of_their_registration(admin: Admin) -> None:
    users = [f"u{index}" for index in range(7)]
    for user in users:
        await admin.services.tokens.issue(user, user.title(), "https://a/1")
    await admin.services.deletion.deactivate(["u3"])
    listed = [user for user in users if user != "u3"]
    seen: list[str] = []
    token = None
    for _ in range(3):
        page = await admin.result("/v4/user/list", {"pageSize": 2} | ({"pageToken": token} if token else {}))
        seen += [each["userId"] for each in page["users"]]
        assert page["totalCount"] == 6
        token = page.get("pageToken")
    assert (seen, token) == (listed, None)
    # Users of one millisecond are in the order of their ids: so are these.
    newest = await admin.result("/v4/user/list", {"order": 1, "pageSize": 4})
    assert [each["userId"] for each in newest["users"]] == listed[::-1][:4]
    second = await admin.result("/v4/user/list", {"page": 2, "pageSize": 4})
    assert [each["userId"] for each in second["users"]] == listed[4:]
    (first, *_) = page["users"]
    assert (first["name"], first["avatarUrl"]) == ("U5", "https://a/1")
    created = datetime.strptime(first["createdAt"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert abs(created.timestamp() - time.time()) < 60


async def test_who_is_restored_is_listed_where_they_were(admin: Admin) -> None:
    for user in ("u1", "u2", "u3"):
        await admin.services.tokens.issue(user, user, None)
    await admin.services.deletion.deactivate(["u2"])
    await admin.services.deletion.reactivate(["u2"])
    listed = (await admin.result("/v4/user/list"))["users"]
    assert [each["userId"] for each in listed] == ["u1", "u2", "u3"]


async def test_the_development_environment_has_a_limit(small_admin: Admin) -> None:
    for user in ("alice", "bob", "alice"):
        await small_admin.result("/v4/auth/access-token/issue", {"userId": user, "name": user})
    third = await small_admin.call("/v4/auth/access-token/issue", {"userId": "carol", "name": "Carol"})
    assert refusal(third) == (403, 2007)
    assert (await small_admin.result("/v4/user/delete", {"userIds": ["alice"]}))["userIds"] == ["alice"]
    await small_admin.result("/v4/auth/access-token/issue", {"userId": "carol", "name": "Carol"})


async def test_the_limit_holds_for_who_comes_at_once(small_admin: Admin) -> None:
    issue = "/v4/auth/access-token/issue"
    calls = (small_admin.call(issue, {"userId": f"u{index}", "name": "U"}) for index in range(12))
    answers = await asyncio.gather(*calls)
    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [403] * 10
    assert (await small_admin.result("/v4/user/list"))["totalCount"] == 2


async def test_production_deletes_nobody(admin: Admin) -> None:
    await admin.services.tokens.issue("alice", "Alice", None)
    assert refusal(await admin.call("/v4/user/delete", {"userIds": ["alice"]})) == (403, 1007)
    assert (await admin.result("/v4/user/get", {"userId": "alice"}))["name"] == "Alice"


@pytest.mark.operation("/v4/user/delete")
async def test_a_deletion_closes_sockets_and_voids_tokens(valkey: Server) -> None:
    async with running_node(valkey.url, environment="development") as node, httpx.AsyncClient() as http:
        admin = Admin(f"http://127.0.0.1:{node.admin.port}", node.services, node.config, http)
        token = await node.services.tokens.issue("alice", "Alice")
        alice, bob = await login(node, "alice", token=token), await login(node, "bob")
        await node.services.friends.befriend("alice", "bob")
        await bob.ask("watch", users=["alice"])
        await admin.result("/v4/user/ban", {"userIds": ["carol"], "durationMinutes": 5})
        result = await admin.result("/v4/user/delete", {"userIds": ["alice", "carol", "nobody"]})
        assert (result["userIds"], result["sessionsClosed"]) == (["alice", "carol", "nobody"], 1)
        code, _ = await alice.closed()
        assert code == 4503
        assert (await bob.next("presence"))["online"] is False
        for path, body in (
            ("/v4/user/get", {"userId": "alice"}),
            ("/v4/user/update", {"userId": "alice", "name": "A"}),
        ):
            assert refusal(await admin.call(path, body)) == (400, 400)
        listed = await admin.result("/v4/user/list")
        assert [each["userId"] for each in listed["users"]] == ["bob"]
        assert (await admin.result("/v4/user/soft-deleted/list"))["userIds"] == []
        assert (await admin.result("/v4/user/ban/list"))["bannedUsers"] == []
        assert (await bob.ask("friends.list"))["users"] == []
        # The token of before registers nobody again; a new one does, and who watched sees it.
        with pytest.raises(Exception, match="401"):
            await login(node, "alice", token=token)
        again = await login(node, "alice")
        assert (await bob.next("presence"))["online"] is True
        assert (await bob.ask("user.get", users=["alice"]))["users"][0]["name"] == "Alice"
        await again.close()
        await bob.close()
