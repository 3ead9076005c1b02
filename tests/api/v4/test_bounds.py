"""Bad input of every operation: the vendor's client checks next to nothing, so the server must.

The table says what the contract says, not what the code does: a bound that is missing there fails here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from gateway.api import v4
from gateway.services.settings import FIELDS
from tests.api.admin import Admin, refusal
from tests.api.conftest import module_admin
from tests.api.v4.bad_values import (
    INVALID,
    MILLISECONDS,
    MINUTES,
    OBJECT,
    PAGE_TOKEN,
    SWITCH,
    TOO_LONG,
    TRUTH,
    USER,
    Kind,
    needed,
    octets,
    one_of,
    refusals,
    some_of,
    text,
    texts,
    users,
    whole,
)
from tests.servers import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOW_MS = 1_790_000_000_000
MESSAGE = text(64, least=1)
PUSH = text(10_240)
SENDING: dict[str, Kind] = {
    "fromUserId": needed(USER),
    "messageType": needed(text(32, least=1)),
    "content": needed(octets(131_072)),
}
PUSHED: dict[str, Kind] = {
    "pushContent": PUSH,
    "pushData": PUSH,
    "pushExt": PUSH,
    "contentAvailable": SWITCH,
    "disablePush": TRUTH,
    "disableUpdateLastMsg": TRUTH,
}
SENT = {"fromUserId": "alice", "messageType": "own", "content": "hello"}
PAGED: dict[str, Kind] = {"userId": needed(USER), "pageToken": PAGE_TOKEN, "order": SWITCH}
TARGETS: dict[str, Kind] = {"userId": needed(USER), "targetUserIds": needed(users(20))}
BOTH = {"userId": "alice", "targetUserIds": ["bob"]}

Row = tuple[dict[str, Any], dict[str, Kind]]

TABLE: dict[str, Row] = {
    "/v4/auth/access-token/issue": (
        {"userId": "alice", "name": "Alice"},
        {"userId": needed(USER), "name": needed(text(64, least=1)), "avatarUrl": octets(1024)},
    ),
    "/v4/auth/access-token/expire": (
        {"userIds": ["alice"], "expiresAt": 1},
        {"userIds": needed(users(20)), "expiresAt": needed(MILLISECONDS)},
    ),
    "/v4/user/token/revoke": (
        {"userId": "alice", "tokenId": "t"},
        {"userId": needed(USER), "tokenId": needed(text(128, least=1))},
    ),
    "/v4/user/get": ({"userId": "alice"}, {"userId": needed(USER)}),
    "/v4/user/update": (
        {"userId": "alice", "name": "Alice"},
        {"userId": needed(USER), "name": text(64, least=1), "avatarUrl": octets(1024)},
    ),
    "/v4/user/connection-status/get": ({"userId": "alice"}, {"userId": needed(USER)}),
    "/v4/user/online-status/get": ({"userId": "alice"}, {"userId": needed(USER)}),
    "/v4/user/soft-delete": ({"userIds": ["gone"]}, {"userIds": needed(users(100))}),
    "/v4/user/restore": ({"userIds": ["gone"]}, {"userIds": needed(users(100))}),
    "/v4/user/soft-deleted/list": ({}, {"page": whole(1, 10_000_000), "pageSize": whole(1, 50)}),
    "/v4/user/list": (
        {},
        {"page": whole(1, 10_000_000), "pageToken": PAGE_TOKEN, "pageSize": whole(1, 100), "order": SWITCH},
    ),
    "/v4/user/delete": ({"userIds": ["gone"]}, {"userIds": needed(users(100))}),
    "/v4/user/tag/batch/set": (
        {"userIds": ["alice"], "tags": ["vip"]},
        {"userIds": needed(users(1000)), "tags": needed(texts(20, 40, least=0))},
    ),
    "/v4/user/tag/batch/get": ({"userIds": ["alice"]}, {"userIds": needed(users(50))}),
    "/v4/channel-type/mute/set": (
        {"userIds": ["alice"], "muteState": 0, "channelTypes": ["PERSON"]},
        {
            "userIds": needed(users(1000)),
            "muteState": needed(SWITCH),
            "channelTypes": needed(some_of("PERSON", "GROUP", "CHATROOM")),
        },
    ),
    "/v4/channel-type/mute/list": (
        {"channelType": "PERSON"},
        {
            "channelType": needed(one_of("PERSON", "GROUP", "CHATROOM")),
            "pageSize": whole(1, 200),
            "offset": whole(0, 1_000_000_000),
        },
    ),
    "/v4/user/profile/set": (
        {"userId": "alice", "userProfile": {"name": "Alice"}},
        {"userId": needed(USER), "userProfile": OBJECT, "userExtProfile": OBJECT},
    ),
    "/v4/user/profile/batch/get": ({"userIds": ["alice"]}, {"userIds": needed(users(20))}),
    "/v4/user/profile/list": (
        {},
        {"page": whole(1, 10_000_000), "pageSize": whole(1, 100), "order": SWITCH},
    ),
    "/v4/user/profile/delete": ({"userIds": ["alice"]}, {"userIds": needed(users(20))}),
    "/v4/user/ban": (
        {"userIds": ["banned"], "durationMinutes": 1},
        {"userIds": needed(users(20)), "durationMinutes": needed(MINUTES)},
    ),
    "/v4/user/unban": ({"userIds": ["banned"]}, {"userIds": needed(users(20))}),
    # A page size over the most there is counts as the most.
    "/v4/user/ban/list": ({}, {"page": whole(1, 1_000_000), "pageSize": whole(1, None)}),
    "/v4/user/blocklist/add": (BOTH, TARGETS),
    "/v4/user/blocklist/remove": (
        {"userId": "alice", "blockedUserIds": ["bob"]},
        {"userId": needed(USER), "blockedUserIds": needed(users(20))},
    ),
    "/v4/user/blocklist/get": ({"userId": "alice"}, PAGED | {"pageSize": whole(1, 1000)}),
    "/v4/user/blocklist/check": (BOTH, TARGETS),
    "/v4/user/allowlist/add": (BOTH, TARGETS),
    "/v4/user/allowlist/remove": (BOTH, TARGETS),
    "/v4/user/allowlist/get": ({"userId": "alice"}, PAGED | {"pageSize": whole(1, 1000)}),
    "/v4/user/allowlist-setting/set": (
        {"userIds": ["alice"], "enabled": False},
        {"userIds": needed(users(20)), "enabled": needed(TRUTH)},
    ),
    "/v4/user/allowlist-setting/get": ({"userIds": ["alice"]}, {"userIds": needed(users(20))}),
    "/v4/friend/add": (
        {"userId": "alice", "targetId": "bob"},
        {"userId": needed(USER), "targetId": needed(USER), "action": whole(1, 2), "extra": text(128)},
    ),
    "/v4/friend/remove": (
        {"userId": "alice", "targetIds": ["bob"]},
        {"userId": needed(USER), "targetIds": needed(users(100))},
    ),
    "/v4/friend/remove-all": ({"userId": "alice"}, {"userId": needed(USER)}),
    "/v4/friend/list": (
        {"userId": "alice"},
        PAGED | {"pageSize": whole(1, 100, as_text=True), "order": whole(0, 1, as_text=True)},
    ),
    "/v4/friend/relationship/get": (
        {"userId": "alice", "targetIds": ["bob"]},
        {"userId": needed(USER), "targetIds": needed(users(100))},
    ),
    "/v4/friend/permission/set": (
        {"userIds": ["alice"], "permissionType": 1},
        {"userIds": needed(users(100)), "permissionType": needed(whole(1, 3))},
    ),
    "/v4/friend/permission/get": ({"userIds": ["alice"]}, {"userIds": needed(users(100))}),
    "/v4/friend/profile/set": (
        {"userId": "alice", "targetId": "bob"},
        {
            "userId": needed(USER),
            "targetId": needed(USER),
            "alias": text(64),
            "friendExtProfile": Kind((*OBJECT.bad, ({"ext_a": 7}, INVALID), ({"ext_a": None}, INVALID))),
        },
    ),
    "/v4/direct-channel/message/send": (
        SENT | {"toUserIds": ["nobody"]},
        SENDING
        | PUSHED
        | {
            "toUserIds": needed(users(1000)),
            "shouldPersist": SWITCH,
            "isEchoToSender": SWITCH,
            "count": whole(-1, 2**31 - 1),
            "verifyBlocklist": SWITCH,
            "hasMetadata": TRUTH,
            "metadata": Kind(
                (
                    *OBJECT.bad,
                    ({"k" * 33: "v"}, TOO_LONG),
                    ({"": "v"}, INVALID),
                    ({"k": "v" * 4097}, TOO_LONG),
                    ({"k": 7}, INVALID),
                    ({f"k{index}": "v" for index in range(101)}, INVALID),
                )
            ),
            "needReadReceipt": SWITCH,
        },
    ),
    "/v4/system-channel/message/send": (
        SENT | {"toUserIds": ["nobody"]},
        SENDING | PUSHED | {"toUserIds": needed(users(100)), "shouldPersist": SWITCH},
    ),
    "/v4/direct-channel/history-message/list": (
        {"userId": "alice", "channelId": "bob", "startAt": NOW_MS, "endAt": NOW_MS - 1000, "includeStart": True},
        {
            "userId": needed(USER),
            "channelId": needed(USER),
            # What is right for one of the two instants depends on the other one.
            "startAt": needed(MILLISECONDS._replace(good=())),
            "endAt": needed(MILLISECONDS._replace(good=())),
            "includeStart": needed(TRUTH),
            "pageSize": whole(1, 100),
        },
    ),
    "/v4/message/delete": (
        {"fromUserId": "alice", "channelType": 1, "channelId": "bob", "messageId": "m"},
        {
            "fromUserId": needed(USER),
            "channelType": needed(whole(1, 10)._replace(good=(1,))),
            "channelId": needed(USER),
            "messageId": needed(MESSAGE._replace(good=())),
            "subchannelId": text(64),
            "sentAt": MILLISECONDS,
            "isAdmin": SWITCH,
            "disablePush": TRUTH,
            "extra": text(4096),
            "disableUpdateLastMsg": TRUTH,
        },
    ),
    "/v4/direct-channel/message/update": (
        {"fromUserId": "alice", "targetId": "bob", "messageId": "m", "content": "hello"},
        {
            "fromUserId": needed(USER),
            "targetId": needed(USER),
            "messageId": MESSAGE._replace(good=()),
            "messageUID": MESSAGE._replace(good=()),
            "content": needed(octets(131_072)),
        },
    ),
    "/v4/system-channel/message/broadcast-online": (SENT, SENDING | {"disableUpdateLastMsg": TRUTH}),
    "/v4/system-channel/message/broadcast-all": (SENT, SENDING | PUSHED),
    "/v4/system-channel/message/broadcast/delete": (
        {"fromUserId": "alice", "messageId": "m"},
        {
            "fromUserId": needed(USER),
            "messageId": needed(MESSAGE._replace(good=())),
            "sentAt": MILLISECONDS,
            "isAdmin": SWITCH,
            "extra": text(4096),
            "disableUpdateLastMsg": TRUTH,
        },
    ),
    "/v4/user/kick": (
        {"userIds": ["alice"]},
        {
            "userIds": users(20),
            "userId": USER,
            "sessionId": text(64, least=1)._replace(good=()),
            "deviceId": text(64, least=1)._replace(good=()),
            "reason": text(64),
        },
    ),
    "/v4/user/session/list": ({"userId": "alice"}, {"userId": needed(USER)}),
    "/v4/app/setting/get": ({}, {}),
    "/v4/app/setting/set": (
        {},
        {
            "friendsOnly": TRUTH,
            "devicePolicy": one_of("platform", "single", "unlimited", "refuse"),
            "expireKeepsConnections": TRUTH,
            "sendRatePerSecond": whole(0, 1_000_000),
            "offlineRetentionDays": whole(1, 3650),
            "friendPermissionDefault": whole(1, 3),
            "strictListMode": Kind(TRUTH.bad),
            "strictExtKeys": TRUTH,
            "wordsBindServerSends": TRUTH,
            "trimAcked": TRUTH,
            "webhookEvents": Kind(
                (("message:send", INVALID), (["message:sent"], INVALID), ([7], INVALID)),
                ([], ["message:send"], ["direct_channel:pre_messaging", "user:friendship"]),
            ),
            "webhookServerMessages": TRUTH,
            "noSuchSetting": Kind(((1, INVALID), (True, INVALID))),
        },
    ),
    "/v4/app/stats": ({}, {}),
    "/v4/profanity-word/batch/add": (
        {"words": [{"word": "damn"}]},
        {
            "words": needed(
                Kind(
                    (
                        ([], INVALID),
                        ([{"word": f"w{index}"} for index in range(51)], INVALID),
                        ([{}], INVALID),
                        ([{"word": ""}], INVALID),
                        ([{"word": "w" * 33}], TOO_LONG),
                        ([{"word": "damn", "replacement": "r" * 33}], TOO_LONG),
                        ([{"word": 7}], INVALID),
                        ([{"word": "damn", "replacement": 7}], INVALID),
                        (["damn"], INVALID),
                        ("damn", INVALID),
                    ),
                    ([{"word": f"w{index}"} for index in range(50)], [{"word": "w" * 32, "replacement": "r" * 32}]),
                )
            )
        },
    ),
    "/v4/profanity-word/list": ({}, {"filterType": one_of("0", "1", "2")}),
    "/v4/profanity-word/remove": ({"word": "damn"}, {"word": needed(text(32, least=1))}),
    "/v4/profanity-word/batch/remove": ({"words": ["damn"]}, {"words": needed(texts(50, 32))}),
}
"""For each path, a request that the bounds let through, and the kind of each of its fields."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(valkey_process: Server) -> AsyncIterator[Admin]:
    """One server for the whole file, which may be asked as often as a test likes."""
    async with module_admin(valkey_process, rate_limits=False) as admin:
        yield admin


async def test_every_operation_and_every_field_is_in_the_table() -> None:
    served = {path: row.asks for row in v4.OPERATIONS for path in row.paths}
    assert served.keys() == TABLE.keys()
    for path, asks in served.items():
        if isinstance(asks, type) and issubclass(asks, msgspec.Struct):
            assert {field.encode_name for field in msgspec.structs.fields(asks)} == TABLE[path][1].keys(), path
    assert {*FIELDS, "noSuchSetting"} == TABLE["/v4/app/setting/set"][1].keys()


@pytest.mark.parametrize("path", TABLE)
async def test_bad_values_are_refused_by_name(admin: Admin, path: str) -> None:
    request, fields = TABLE[path]
    accepted: list[tuple[Any, str]] = []
    for field, kind in fields.items():
        for value, code in kind.bad:
            answer = await admin.call(path, request | {field: value})
            refused = answer.status_code == 400 and refusal(answer) == (400, code)
            if not refused or not answer.json()["errorMessage"].startswith(field):
                accepted.append(((field, value), f"not {code}: {answer.status_code} {answer.text[:200]}"))
        if kind.required:
            answer = await admin.call(path, {name: value for name, value in request.items() if name != field})
            if refusal(answer) != (400, kind.missing) or answer.json()["errorMessage"] != f"{field}: is required":
                accepted.append(((field, "left out"), answer.text))
    assert not accepted, refusals(accepted)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", TABLE)
async def test_values_at_the_bounds_pass_them(admin: Admin, path: str) -> None:
    request, fields = TABLE[path]
    for field, kind in fields.items():
        for value in kind.good:
            answer = await admin.call(path, request | {field: value})
            if answer.status_code != 200:
                status, code = refusal(answer)
                by_bounds = (status, code) in ((400, INVALID), (400, TOO_LONG), (400, kind.missing))
                assert not by_bounds, (field, value, answer.text)
                assert status < 500


@pytest.mark.parametrize("path", sorted(TABLE.keys() - {"/v4/app/setting/set"}))
async def test_more_than_is_asked_for_is_ignored(admin: Admin, path: str) -> None:
    request, _ = TABLE[path]
    answers = [await admin.call(path, request | more) for more in ({}, {"moreThanAsked": {"deep": [None]}})]
    assert answers[0].status_code == answers[1].status_code
    assert answers[0].json()["code"] == answers[1].json()["code"]
