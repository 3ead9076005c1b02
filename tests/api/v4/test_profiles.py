from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest
from ncsdk import exceptions

from tests.api.admin import Admin, refusal
from tests.api.conftest import Serve
from tests.api.vendor import Vendor
from tests.nodes import login, running_node
from tests.servers import Server

FULL = {
    "uniqueId": "u" * 32,
    "name": "Ä" * 64,
    "portraitUri": "p" * 1024,
    "email": "e" * 128,
    "birthday": "1" * 32,
    "gender": 2,
    "location": "l" * 32,
    "role": 100,
    "level": 0,
}
OWN = {f"ext_{index:028}": "v" * 256 for index in range(20)}


async def put(
    vendor: Vendor, user: str, basic: dict[str, Any] | None = None, own: dict[str, str] | None = None
) -> None:
    await vendor.call(
        vendor.profiles.set_user_profile,
        "UserProfileSetRequest",
        user_id=user,
        user_profile=basic,
        user_ext_profile=own,
    )


async def read(vendor: Vendor, *users: str) -> list[Any]:
    result = await vendor.call(vendor.profiles.batch_get_user_profiles, "UserIdsMax20Request", user_ids=list(users))
    return list(result.users)


async def registered(admin: Admin, *users: str) -> None:
    for user in users:
        await admin.services.tokens.issue(user, user.title(), None)


@pytest.mark.operation("/v4/user/profile/set", "/v4/user/profile/batch/get")
async def test_keys_are_set_one_by_one_and_raise_the_version(admin: Admin, vendor: Vendor) -> None:
    await registered(admin, "alice", "bob")
    assert await read(vendor, "alice", "bob") == []
    await put(vendor, "alice", FULL, OWN)
    (first,) = await read(vendor, "bob", "alice")
    assert (first.user_id, first.user_profile, first.user_ext_profile) == ("alice", FULL, OWN)
    assert abs(first.version - time.time() * 1000) < 60_000
    await put(vendor, "alice", {"name": 'Al "quoted" \\ / \u2028 \U0001f600', "level": 7})
    await put(vendor, "alice", own={f"ext_{0:028}": ""})
    (second,) = await read(vendor, "alice")
    assert second.version >= first.version + 2
    assert second.user_profile == FULL | {"name": 'Al "quoted" \\ / \u2028 \U0001f600', "level": 7}
    assert second.user_ext_profile == OWN | {f"ext_{0:028}": ""}
    # The account's own name is another matter.
    assert (await admin.result("/v4/user/get", {"userId": "alice"}))["name"] == "Alice"


async def test_a_profile_of_own_keys_alone(admin: Admin, vendor: Vendor) -> None:
    await registered(admin, "alice")
    await put(vendor, "alice", own={"ext_city": "Oslo"})
    (profile,) = await read(vendor, "alice")
    assert (profile.user_profile, profile.user_ext_profile) == ({}, {"ext_city": "Oslo"})


async def test_the_vendors_client_shows_which_key_was_wrong(admin: Admin, vendor: Vendor) -> None:
    await registered(admin, "alice")
    await put(vendor, "alice", {"name": "Alice"}, OWN)
    for part, wrong, code, key in (
        ("basic", {"name": "Al", "level": 101}, 24368, "level"),
        ("own", {"ext_one": "more"}, 24363, "ext_one"),
    ):
        with pytest.raises(exceptions.BadRequestException) as refused:
            await put(vendor, "alice", **{part: wrong})
        assert (refused.value.status, refused.value.error_code) == (400, code)
        assert orjson.loads(refused.value.body)["profileKey"] == key
    (profile,) = await read(vendor, "alice")
    assert (profile.user_profile, profile.user_ext_profile) == ({"name": "Alice"}, OWN)


async def test_own_keys_without_the_prefix_by_setting(serve: Serve) -> None:
    async with serve() as admin:
        await registered(admin, "alice")
        change = {"userId": "alice", "userExtProfile": {"shoe_size": "43"}}
        assert (await admin.call("/v4/user/profile/set", change)).json()["code"] == 24362
        await admin.result("/v4/app/setting/set", {"strictExtKeys": False})
        await admin.result("/v4/user/profile/set", change)
        (profile,) = (await admin.result("/v4/user/profile/batch/get", {"userIds": ["alice"]}))["users"]
        assert profile["userExtProfile"] == {"shoe_size": "43"}
        for key in ("shoe-size", "k" * 33):
            change["userExtProfile"] = {key: "43"}
            answer = await admin.call("/v4/user/profile/set", change)
            assert (answer.status_code, answer.json()["profileKey"]) == (400, key)


@pytest.mark.operation("/v4/user/profile/list")
async def test_all_registered_users_are_listed(admin: Admin, vendor: Vendor) -> None:
    users = [f"u{index}" for index in range(5)]
    await registered(admin, *users)
    await put(vendor, "u1", {"name": "One"})

    async def page(**paging: Any) -> list[Any]:
        result = await vendor.call(vendor.profiles.list_user_profiles, "UserProfileListRequest", **paging)
        return list(result.users)

    everybody = await page()
    assert [each.user_id for each in everybody] == users
    assert [each.user_profile for each in everybody] == [None, {"name": "One"}, None, None, None]
    assert [each.user_id for each in await page(page=2, page_size=2)] == users[2:4]
    assert [each.user_id for each in await page(page=2, page_size=2, order=1)] == ["u2", "u1"]
    assert await page(page=4, page_size=2) == []
    await admin.services.deletion.deactivate(["u0"])
    assert [each.user_id for each in await page()] == users[1:]


@pytest.mark.operation("/v4/user/profile/delete")
async def test_deletion_removes_all_keys(admin: Admin, vendor: Vendor) -> None:
    await registered(admin, "alice", "bob")
    await put(vendor, "alice", {"name": "Alice"}, {"ext_city": "Oslo"})
    (before,) = await read(vendor, "alice")
    for _ in range(2):
        await vendor.call(
            vendor.profiles.delete_user_profiles, "UserIdsMax20Request", user_ids=["alice", "bob", "nobody"]
        )
        assert await read(vendor, "alice") == []
    await put(vendor, "alice", {"level": 1})
    (after,) = await read(vendor, "alice")
    assert (after.user_profile, after.user_ext_profile) == ({"level": 1}, {})
    assert after.version > before.version


async def test_deleted_users_have_no_profile(admin: Admin, vendor: Vendor) -> None:
    await registered(admin, "alice", "bob")
    await put(vendor, "alice", {"name": "Alice"})
    await put(vendor, "bob", {"name": "Bob"})
    await admin.services.deletion.deactivate(["alice"])
    answer = await admin.call("/v4/user/profile/batch/get", {"userIds": ["bob", "alice"]})
    assert refusal(answer) == (400, 400)
    change = {"userId": "alice", "userProfile": {"name": "A"}}
    assert refusal(await admin.call("/v4/user/profile/set", change)) == (400, 24366)
    await admin.services.deletion.reactivate(["alice"])
    assert [each.user_id for each in await read(vendor, "alice", "bob")] == ["bob"]


async def test_a_call_without_a_model_is_told_what_is_missing(vendor: Vendor) -> None:
    with pytest.raises(exceptions.BadRequestException) as refused:
        await asyncio.to_thread(vendor.profiles.set_user_profile, None)
    assert refused.value.error_code == 1002


async def test_clients_see_profiles(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        alice, bob = await login(node, "alice"), await login(node, "bob")
        vendor = Vendor(f"http://127.0.0.1:{node.admin.port}")
        assert "profile" not in (await bob.ask("user.get", users=["alice"]))["users"][0]
        await put(vendor, "alice", {"name": "Al", "gender": 1}, {"ext_city": "Orléans"})
        found, other = (await bob.ask("user.get", users=["alice", "bob", "nobody"]))["users"]
        assert found["profile"]["userProfile"] == {"name": "Al", "gender": 1}
        assert found["profile"]["userExtProfile"] == {"ext_city": "Orléans"}
        assert found["profile"]["version"] == (await read(vendor, "alice"))[0].version
        assert (found["name"], other["user"], "profile" in other) == ("Alice", "bob", False)
        await vendor.call(vendor.users.soft_delete_users, "UserIdsMax100Request", user_ids=["alice"])
        assert (await bob.ask("user.get", users=["alice"]))["users"] == []
        vendor.close()
        await alice.closed()
        await bob.close()
