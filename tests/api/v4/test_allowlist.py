from __future__ import annotations

from tests.api.admin import Admin


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
