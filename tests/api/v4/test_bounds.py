"""Bad input of every operation: the vendor's client checks next to nothing, so the server must."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.api import v4
from tests.api.admin import Admin, refusal
from tests.api.signing import signed
from tests.api.v4 import test_bounds_broadcasts, test_bounds_messages, test_bounds_users, test_bounds_words

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def admin(shared_admin: Admin) -> Admin:
    """One server for the whole file: nothing here leaves a trace in it."""
    return shared_admin


ISSUE = "/v4/auth/access-token/issue"
EXPIRE = "/v4/auth/access-token/expire"
BLOCK = "/v4/user/blocklist/add"
BLOCKED = "/v4/user/blocklist/get"
BANS = "/v4/user/ban/list"
FRIENDS = "/v4/friend/list"
KICK = "/v4/user/kick"

USER_LISTS: dict[str, tuple[str, dict[str, Any], int]] = {
    "/v4/user/ban": ("userIds", {"durationMinutes": 1}, 20),
    "/v4/user/unban": ("userIds", {}, 20),
    EXPIRE: ("userIds", {"expiresAt": 1}, 20),
    BLOCK: ("targetUserIds", {"userId": "a"}, 20),
    "/v4/user/blocklist/remove": ("blockedUserIds", {"userId": "a"}, 20),
    "/v4/user/blocklist/check": ("targetUserIds", {"userId": "a"}, 20),
    "/v4/user/allowlist/add": ("targetUserIds", {"userId": "a"}, 20),
    "/v4/user/allowlist/remove": ("targetUserIds", {"userId": "a"}, 20),
    "/v4/user/allowlist-setting/set": ("userIds", {"enabled": True}, 20),
    "/v4/user/allowlist-setting/get": ("userIds", {}, 20),
    "/v4/friend/remove": ("targetIds", {"userId": "a"}, 20),
    "/v4/friend/relationship/get": ("targetIds", {"userId": "a"}, 20),
    KICK: ("userIds", {}, 20),
    "/v4/user/soft-delete": ("userIds", {}, 100),
    "/v4/user/restore": ("userIds", {}, 100),
    "/v4/user/delete": ("userIds", {}, 100),
    "/v4/user/tag/batch/set": ("userIds", {"tags": []}, 1000),
    "/v4/user/tag/batch/get": ("userIds", {}, 50),
    "/v4/channel-type/mute/set": ("userIds", {"muteState": 1, "channelTypes": ["PERSON"]}, 1000),
    "/v4/user/profile/batch/get": ("userIds", {}, 20),
    "/v4/user/profile/delete": ("userIds", {}, 20),
}
ONE_USER: dict[str, dict[str, Any]] = {
    ISSUE: {"name": "A"},
    "/v4/user/get": {},
    "/v4/user/update": {"name": "A"},
    "/v4/user/connection-status/get": {},
    "/v4/user/online-status/get": {},
    BLOCK: {"targetUserIds": ["b"]},
    "/v4/user/blocklist/remove": {"blockedUserIds": ["b"]},
    BLOCKED: {},
    "/v4/user/blocklist/check": {"targetUserIds": ["b"]},
    "/v4/user/allowlist/add": {"targetUserIds": ["b"]},
    "/v4/user/allowlist/remove": {"targetUserIds": ["b"]},
    "/v4/user/allowlist/get": {},
    "/v4/friend/add": {"targetId": "b"},
    "/v4/friend/remove": {"targetIds": ["b"]},
    "/v4/friend/relationship/get": {"targetIds": ["b"]},
    FRIENDS: {},
    "/v4/user/session/list": {},
    "/v4/user/token/revoke": {"tokenId": "t"},
    "/v4/user/profile/set": {"userProfile": {"name": "A"}},
}


@pytest.mark.parametrize("path", USER_LISTS)
async def test_lists_of_users(admin: Admin, path: str) -> None:
    field, rest, most = USER_LISTS[path]
    bad: list[tuple[Any, int]] = [
        ([], 1002),
        ([f"u{index}" for index in range(most + 1)], 1002),
        (["good", ""], 1002),
        (["good", "white space"], 1002),
        (["good", "ä"], 1002),
        (["good", "x" * 65], 1005),
        (["good", 7], 1002),
        (["good", None], 1002),
        ("good", 1002),
        ({"good": 1}, 1002),
    ]
    for value, code in bad:
        answer = await admin.call(path, rest | {field: value})
        assert refusal(answer) == (400, code), (value, answer.text)
        assert answer.json()["errorMessage"].startswith(field)
    if path != KICK:
        answer = await admin.call(path, rest)
        assert refusal(answer) == (400, 1002)
        assert answer.json()["errorMessage"] == f"{field}: is required"


@pytest.mark.parametrize("path", ONE_USER)
async def test_one_user(admin: Admin, path: str) -> None:
    rest = ONE_USER[path]
    bad: list[tuple[dict[str, Any], int]] = [
        ({}, 1002),
        ({"userId": None}, 1002),
        ({"userId": ""}, 1002),
        ({"userId": "a b"}, 1002),
        ({"userId": "a\u0000"}, 1002),
        ({"userId": "x" * 65}, 1005),
        ({"userId": 7}, 1002),
        ({"userId": ["a"]}, 1002),
    ]
    for value, code in bad:
        answer = await admin.call(path, rest | value)
        assert refusal(answer) == (400, code), (value, answer.text)
        assert answer.json()["errorMessage"].startswith("userId")


@pytest.mark.parametrize(
    ("path", "body", "code", "field"),
    [
        (ISSUE, {"userId": "a"}, 1002, "name"),
        (ISSUE, {"userId": "a", "name": ""}, 1002, "name"),
        (ISSUE, {"userId": "a", "name": "n" * 65}, 1005, "name"),
        (ISSUE, {"userId": "a", "name": 1}, 1002, "name"),
        (ISSUE, {"userId": "a", "name": "A", "avatarUrl": "u" * 1025}, 1005, "avatarUrl"),
        ("/v4/user/update", {"userId": "a", "name": ""}, 1002, "name"),
        ("/v4/user/update", {"userId": "a", "name": "n" * 65}, 1005, "name"),
        ("/v4/user/update", {"userId": "a", "avatarUrl": "u" * 1025}, 1005, "avatarUrl"),
        (EXPIRE, {"userIds": ["a"]}, 1002, "expiresAt"),
        (EXPIRE, {"userIds": ["a"], "expiresAt": "1790000000000"}, 1002, "expiresAt"),
        (EXPIRE, {"userIds": ["a"], "expiresAt": -1}, 1002, "expiresAt"),
        (EXPIRE, {"userIds": ["a"], "expiresAt": 2**63}, 1002, "expiresAt"),
        (EXPIRE, {"userIds": ["a"], "expiresAt": 1.5}, 1002, "expiresAt"),
        ("/v4/user/ban", {"userIds": ["a"]}, 1003, "durationMinutes"),
        ("/v4/user/ban", {"userIds": ["a"], "durationMinutes": 0}, 1003, "durationMinutes"),
        ("/v4/user/ban", {"userIds": ["a"], "durationMinutes": 43_201}, 1003, "durationMinutes"),
        ("/v4/user/ban", {"userIds": ["a"], "durationMinutes": "10"}, 1003, "durationMinutes"),
        ("/v4/user/ban", {"userIds": ["a"], "durationMinutes": 1.5}, 1003, "durationMinutes"),
        ("/v4/user/ban", {"userIds": ["a"], "durationMinutes": True}, 1003, "durationMinutes"),
        (BANS, {"page": 0}, 1002, "page"),
        (BANS, {"page": "1"}, 1002, "page"),
        (BANS, {"page": 1, "pageSize": 0}, 1002, "pageSize"),
        (BLOCKED, {"userId": "a", "pageSize": 0}, 1002, "pageSize"),
        (BLOCKED, {"userId": "a", "pageSize": 1001}, 1002, "pageSize"),
        (BLOCKED, {"userId": "a", "pageSize": "10"}, 1002, "pageSize"),
        (BLOCKED, {"userId": "a", "order": 2}, 1002, "order"),
        (BLOCKED, {"userId": "a", "pageToken": 1}, 1002, "pageToken"),
        (BLOCKED, {"userId": "a", "pageToken": "t" * 257}, 1005, "pageToken"),
        ("/v4/user/allowlist-setting/set", {"userIds": ["a"]}, 1002, "enabled"),
        ("/v4/user/allowlist-setting/set", {"userIds": ["a"], "enabled": 1}, 1002, "enabled"),
        ("/v4/friend/add", {"userId": "a"}, 1002, "targetId"),
        ("/v4/friend/add", {"userId": "a", "targetId": "b c"}, 1002, "targetId"),
        ("/v4/friend/add", {"userId": "a", "targetId": "b", "action": 3}, 1002, "action"),
        ("/v4/friend/add", {"userId": "a", "targetId": "b", "extra": "x" * 129}, 1005, "extra"),
        (FRIENDS, {"userId": "a", "pageSize": 101}, 1002, "pageSize"),
        (FRIENDS, {"userId": "a", "pageSize": "many"}, 1002, "pageSize"),
        (FRIENDS, {"userId": "a", "order": "2"}, 1002, "order"),
        (KICK, {}, 1002, "userIds"),
        (KICK, {"sessionId": "s"}, 1002, "sessionId"),
        (KICK, {"userIds": ["a", "b"], "sessionId": "s"}, 1002, "sessionId"),
        (KICK, {"userId": "a", "sessionId": "s", "deviceId": "d"}, 1002, "sessionId"),
        (KICK, {"userId": "a", "sessionId": ""}, 1002, "sessionId"),
        (KICK, {"userId": "a", "deviceId": "d" * 65}, 1005, "deviceId"),
        (KICK, {"userIds": ["a"], "reason": "r" * 65}, 1005, "reason"),
        ("/v4/user/token/revoke", {"userId": "a"}, 1002, "tokenId"),
        ("/v4/user/token/revoke", {"userId": "a", "tokenId": ""}, 1002, "tokenId"),
        ("/v4/user/token/revoke", {"userId": "a", "tokenId": "t" * 129}, 1005, "tokenId"),
        ("/v4/app/setting/set", {"friendsOnly": "yes"}, 1002, "friendsOnly"),
        ("/v4/app/setting/set", {"devicePolicy": "anarchy"}, 1002, "devicePolicy"),
        ("/v4/app/setting/set", {"noSuchSetting": 1}, 1002, "noSuchSetting"),
    ],
)
async def test_other_fields(admin: Admin, path: str, body: dict[str, Any], code: int, field: str) -> None:
    answer = await admin.call(path, body)
    assert refusal(answer) == (400, code), answer.text
    assert answer.json()["errorMessage"].startswith(field)


async def test_every_operation_is_in_a_table() -> None:
    takes_nothing = {"/v4/app/setting/get", "/v4/app/stats"}
    served = {path for row in v4.OPERATIONS for path in row.paths}
    elsewhere = (
        test_bounds_users.PATHS | test_bounds_broadcasts.PATHS | test_bounds_messages.PATHS | test_bounds_words.PATHS
    )
    assert served - takes_nothing - elsewhere == {*USER_LISTS, *ONE_USER, BANS, "/v4/app/setting/set"}


@pytest.mark.parametrize("path", [*USER_LISTS, *ONE_USER, BANS, "/v4/app/setting/set"])
@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"{", "application/json"),
        (b"null", "application/json"),
        (b"[]", "application/json"),
        (b'"text"', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"userId=a", "application/x-www-form-urlencoded"),
        (b"{}", "text/plain"),
    ],
)
async def test_bodies_that_are_no_json_object(admin: Admin, path: str, content: bytes, content_type: str) -> None:
    answer = await admin.call(path, headers=signed() | {"Content-Type": content_type}, content=content)
    assert refusal(answer) == (400, 1002)


async def test_no_body_is_an_empty_object(admin: Admin) -> None:
    assert (await admin.call(BANS)).status_code == 200
    assert refusal(await admin.call("/v4/user/get")) == (400, 1002)
