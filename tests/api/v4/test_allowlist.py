from __future__ import annotations

import pytest

from tests.api.admin import Admin, refusal


@pytest.mark.operation("/v4/user/allowlist/add", "/v4/user/allowlist/remove", "/v4/user/allowlist/get")
async def test_add_get_remove(admin: Admin) -> None:
    for targets in (["bob"], ["carol", "bob"]):
        assert await admin.result("/v4/user/allowlist/add", {"userId": "alice", "targetUserIds": targets}) is None
    assert await admin.result("/v4/user/allowlist/get", {"userId": "alice"}) == {"targetUserIds": ["carol", "bob"]}
    await admin.result("/v4/user/allowlist/remove", {"userId": "alice", "targetUserIds": ["carol", "nobody"]})
    assert await admin.result("/v4/user/allowlist/get", {"userId": "alice"}) == {"targetUserIds": ["bob"]}


async def test_pages(admin: Admin) -> None:
    for user in ("a", "b", "c"):
        await admin.result("/v4/user/allowlist/add", {"userId": "alice", "targetUserIds": [user]})
    asked = {"userId": "alice", "pageSize": 2, "order": 1}
    first = await admin.result("/v4/user/allowlist/get", asked)
    assert first["targetUserIds"] == ["a", "b"]
    rest = await admin.result("/v4/user/allowlist/get", asked | {"pageToken": first["pageToken"]})
    assert rest == {"targetUserIds": ["c"]}


async def test_the_list_may_be_filled_while_it_is_off(admin: Admin) -> None:
    await admin.result("/v4/user/allowlist/add", {"userId": "alice", "targetUserIds": ["bob"]})
    settings = await admin.result("/v4/user/allowlist-setting/get", {"userIds": ["alice"]})
    assert settings == {"settings": [{"userId": "alice", "enabled": False}]}


@pytest.mark.operation("/v4/user/allowlist-setting/set", "/v4/user/allowlist-setting/get")
async def test_switching(admin: Admin) -> None:
    await admin.result("/v4/user/allowlist-setting/set", {"userIds": ["alice", "bob", "alice"], "enabled": True})
    await admin.result("/v4/user/allowlist-setting/set", {"userIds": ["bob"], "enabled": False})
    settings = await admin.result("/v4/user/allowlist-setting/get", {"userIds": ["bob", "alice", "nobody"]})
    assert settings == {
        "settings": [
            {"userId": "bob", "enabled": False},
            {"userId": "alice", "enabled": True},
            {"userId": "nobody", "enabled": False},
        ]
    }


async def test_strict_mode_manages_only_the_list_that_binds(admin: Admin) -> None:
    await admin.services.settings.set({"strictListMode": True})
    one = {"userId": "alice", "targetUserIds": ["bob"]}
    unblock = {"userId": "alice", "blockedUserIds": ["bob"]}
    for path, body in (("add", one), ("remove", one), ("get", {"userId": "alice"})):
        answer = await admin.call(f"/v4/user/allowlist/{path}", body)
        assert refusal(answer) == (400, 1010)
        assert answer.json()["errorMessage"].startswith("userId: ")
    await admin.result("/v4/user/blocklist/add", one)
    await admin.result("/v4/user/allowlist-setting/set", {"userIds": ["alice"], "enabled": True})
    for path, body in (("add", one), ("remove", unblock)):
        assert refusal(await admin.call(f"/v4/user/blocklist/{path}", body)) == (400, 1011)
    await admin.result("/v4/user/allowlist/add", one)
    assert await admin.result("/v4/user/allowlist/get", {"userId": "alice"}) == {"targetUserIds": ["bob"]}
    assert (await admin.result("/v4/user/blocklist/get", {"userId": "alice"}))["blockedUserIds"] == ["bob"]
