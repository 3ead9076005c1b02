"""Well-formed requests about users who are unknown, deleted, oneself or named twice, and page tokens made up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.api.admin import Admin, refusal
from tests.api.conftest import module_admin
from tests.api.v4.test_bounds import TABLE
from tests.servers import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(valkey_process: Server) -> AsyncIterator[Admin]:
    """One server for the whole file, in which alice and bob are registered and dora is deleted."""
    async with module_admin(valkey_process, rate_limits=False) as admin:
        for user in ("alice", "bob", "dora"):
            await admin.services.tokens.issue(user, user.title(), None)
        await admin.services.deletion.deactivate(["dora"])
        yield admin


async def outcome(admin: Admin, path: str, body: dict[str, Any]) -> int:
    """The business code: 0 on success."""
    answer = await admin.call(path, body)
    return 0 if answer.status_code == 200 else refusal(answer)[1]


USER_FIELDS = ("userId", "targetId", "channelId", "fromUserId")
LIST_FIELDS = ("userIds", "targetUserIds", "blockedUserIds", "targetIds", "toUserIds")


def about(path: str, user: str) -> dict[str, Any]:
    """The table's request with this user in every field that takes one; two fields get the user and ``bob``."""
    request, _ = TABLE[path]
    single = [field for field in USER_FIELDS if field in request]
    changes: dict[str, Any] = {field: [user] for field in LIST_FIELDS if field in request}
    changes |= {single[0]: user} if single else {}
    changes |= dict.fromkeys(single[1:], "bob")
    return request | changes


NAMES_USERS = sorted(path for path, (_, fields) in TABLE.items() if {*USER_FIELDS, *LIST_FIELDS} & fields.keys())

UNKNOWN = {
    "/v4/user/get": 400,
    "/v4/user/update": 400,
    "/v4/user/profile/set": 24366,
    # There is nothing yet to be noted, recalled or changed.
    "/v4/friend/profile/set": 25472,
    "/v4/message/delete": 1015,
    "/v4/direct-channel/message/update": 1015,
    "/v4/system-channel/message/broadcast/delete": 1015,
    # In production nobody is deleted for good.
    "/v4/user/delete": 1007,
}
"""What is refused for ids that were never registered; the rest takes any well-formed id."""


@pytest.mark.parametrize("path", NAMES_USERS)
async def test_ids_that_were_never_registered(admin: Admin, path: str) -> None:
    nobody = f"nobody-{NAMES_USERS.index(path)}"
    assert await outcome(admin, path, about(path, nobody)) == UNKNOWN.get(path, 0)
    if path in ("/v4/user/connection-status/get", "/v4/user/online-status/get"):
        assert await admin.result(path, {"userId": nobody}) == {"status": "0"}


DELETED = UNKNOWN | {"/v4/auth/access-token/issue": 31029, "/v4/friend/add": 400}
"""The same for somebody who is softly deleted."""


@pytest.mark.parametrize("path", sorted(DELETED))
async def test_deleted_users(admin: Admin, path: str) -> None:
    assert await outcome(admin, path, about(path, "dora")) == DELETED[path]


TARGETS = ("targetUserIds", "blockedUserIds", "targetIds", "targetId", "channelId", "toUserIds")
ONESELF = {
    "/v4/friend/add": 25473,
    "/v4/friend/profile/set": 25472,
    "/v4/message/delete": 1015,
    "/v4/direct-channel/message/update": 1015,
}
"""Elsewhere oneself is accepted, and that without effect on lists."""


@pytest.mark.parametrize(
    "path", sorted(path for path, (request, _) in TABLE.items() if {*TARGETS} & request.keys() - {"userIds"})
)
async def test_oneself_as_target(admin: Admin, path: str) -> None:
    request, _ = TABLE[path]
    changes = {field: ["alice"] if field.endswith("s") else "alice" for field in TARGETS if field in request}
    who = "fromUserId" if "fromUserId" in request else "userId"
    assert await outcome(admin, path, request | changes | {who: "alice"}) == ONESELF.get(path, 0)
    assert (await admin.result("/v4/user/blocklist/get", {"userId": "alice"}))["blockedUserIds"] == []
    assert (await admin.result("/v4/user/allowlist/get", {"userId": "alice"}))["targetUserIds"] == []
    assert (await admin.result("/v4/friend/list", {"userId": "alice"}))["totalCount"] == 0


@pytest.mark.parametrize(
    "path",
    sorted(path for path, (_, fields) in TABLE.items() if {*LIST_FIELDS} & fields.keys() and path not in UNKNOWN),
)
async def test_who_is_named_twice_is_named_once(admin: Admin, path: str) -> None:
    request, _ = TABLE[path]
    (field,) = (field for field in LIST_FIELDS if field in request)
    once = await admin.result(path, request | {field: ["alice", "bob"]})
    twice = await admin.result(path, request | {field: ["alice", "bob", "alice", "bob", "bob"]})
    if once is not None:
        assert {key: len(value) for key, value in once.items() if isinstance(value, list | dict)} == {
            key: len(value) for key, value in twice.items() if isinstance(value, list | dict)
        }


FALSE_TOKENS = ["", "0", "-1", "+1", " 1", "1 ", "0x1f", "1_0", "1F", "01", "zzz", "../x", "\u0661", "f" * 60, "null"]


@pytest.mark.parametrize("path", sorted(path for path, (_, fields) in TABLE.items() if "pageToken" in fields))
@pytest.mark.parametrize("token", FALSE_TOKENS)
async def test_page_tokens_that_were_never_issued(admin: Admin, path: str, token: str) -> None:
    answer = await admin.call(path, TABLE[path][0] | {"pageToken": token})
    assert refusal(answer) == (400, 25432 if path == "/v4/friend/list" else 1002)
    assert answer.json()["errorMessage"].startswith("pageToken: ")


KICK = "/v4/user/kick"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "userIds"),
        ({"sessionId": "s", "deviceId": "d"}, "sessionId"),
        ({"userIds": ["a", "b"], "sessionId": "s"}, "sessionId"),
        ({"userId": "a", "sessionId": "s", "deviceId": "d"}, "sessionId"),
    ],
)
async def test_a_kick_of_nobody_in_particular(admin: Admin, body: dict[str, Any], field: str) -> None:
    answer = await admin.call(KICK, body)
    assert refusal(answer) == (400, 1002)
    assert answer.json()["errorMessage"].startswith(field)


async def test_one_bad_id_spoils_the_call(admin: Admin) -> None:
    asked = {"userId": "alice", "targetUserIds": ["bob", "not an id"]}
    assert refusal(await admin.call("/v4/user/blocklist/add", asked)) == (400, 1002)
    assert (await admin.result("/v4/user/blocklist/get", {"userId": "alice"}))["blockedUserIds"] == []
