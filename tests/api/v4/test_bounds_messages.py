"""Bad input of the operations on messages, and what just passes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.config import Config
from gateway.services.services import Services
from gateway.store.store import Store
from tests.api.admin import Admin, refusal, serving
from tests.api.conftest import PARTITIONS
from tests.nodes import CREDENTIALS
from tests.servers import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEND, SYSTEM = "/v4/direct-channel/message/send", "/v4/system-channel/message/send"
HISTORY = "/v4/direct-channel/history-message/list"
DELETE, UPDATE = "/v4/message/delete", "/v4/direct-channel/message/update"
PATHS = frozenset({SEND, SYSTEM, HISTORY, DELETE, UPDATE})

DAY_MS = 86_400_000
NOW_MS = 1_790_000_000_000
ASKED: dict[str, dict[str, Any]] = {
    SEND: {"fromUserId": "alice", "toUserIds": ["nobody"], "messageType": "own", "content": "hello"},
    SYSTEM: {"fromUserId": "alice", "toUserIds": ["nobody"], "messageType": "own", "content": "hello"},
    HISTORY: {
        "userId": "alice",
        "channelId": "bob",
        "startAt": NOW_MS,
        "endAt": NOW_MS - DAY_MS,
        "includeStart": True,
    },
    DELETE: {"fromUserId": "alice", "channelType": 1, "channelId": "bob", "messageId": "m"},
    UPDATE: {"fromUserId": "alice", "targetId": "bob", "messageId": "m", "content": "hello"},
}
USER: list[tuple[Any, int]] = [("", 1002), ("a b", 1002), ("ä", 1002), ("x" * 65, 1005), (7, 1002), (["a"], 1002)]
SWITCH: list[tuple[Any, int]] = [(2, 1002), (-1, 1002), ("1", 1002), (True, 1002), (1.5, 1002)]
TRUTH: list[tuple[Any, int]] = [(1, 1002), ("true", 1002)]
TIME: list[tuple[Any, int]] = [(-1, 1002), (2**53 + 1, 1002), ("1790000000000", 1002), (1.5, 1002)]
TYPE: list[tuple[Any, int]] = [("", 1002), ("t" * 33, 1005), (7, 1002)]
CONTENT: list[tuple[Any, int]] = [
    ("c" * 131_073, 1005),
    ("ü" * 65_537, 1005),
    ("\u0001" * 65_536, 1005),
    ({"content": "hello"}, 1002),
    (7, 1002),
]
PUSH: list[tuple[Any, int]] = [("p" * 10_241, 1005), (7, 1002), ({}, 1002)]
MESSAGE: list[tuple[Any, int]] = [("", 1002), ("m" * 65, 1005), (7, 1002)]

SENDING: dict[str, list[tuple[Any, int]]] = {
    "fromUserId": USER,
    "messageType": TYPE,
    "content": CONTENT,
    "pushContent": PUSH,
    "pushData": PUSH,
    "pushExt": PUSH,
    "shouldPersist": SWITCH,
    "contentAvailable": SWITCH,
    "disablePush": TRUTH,
    "disableUpdateLastMsg": TRUTH,
}
LISTS: list[tuple[Any, int]] = [
    ([], 1002),
    (["a", ""], 1002),
    (["a", "x" * 65], 1005),
    (["a", None], 1002),
    ("a", 1002),
]
BAD: dict[str, dict[str, list[tuple[Any, int]]]] = {
    SEND: SENDING
    | {
        "toUserIds": [*LISTS, ([f"u{n}" for n in range(1001)], 1002)],
        "isEchoToSender": SWITCH,
        "count": [(-2, 1002), (2**31, 1002), ("1", 1002)],
        "verifyBlocklist": SWITCH,
        "hasMetadata": TRUTH,
        "metadata": [
            ({"k" * 33: "v"}, 1005),
            ({"": "v"}, 1002),
            ({"k": "v" * 4097}, 1005),
            ({"k": 1}, 1002),
            ({f"k{n}": "v" for n in range(101)}, 1002),
            ({f"k{n}": "ü" * 4096 for n in range(40)}, 1005),
            ([{"key": "k", "value": "v"}], 1002),
            ('{"k": "v"}', 1002),
        ],
        "needReadReceipt": SWITCH,
    },
    SYSTEM: SENDING | {"toUserIds": [*LISTS, ([f"u{n}" for n in range(101)], 1002)]},
    HISTORY: {
        "userId": USER,
        "channelId": USER,
        "startAt": [*TIME, (NOW_MS - DAY_MS - 1, 1002)],
        "endAt": [*TIME, (NOW_MS - 14 * DAY_MS - 1, 1002)],
        "pageSize": [(0, 1002), (101, 1002), ("10", 1002)],
        "includeStart": [*TRUTH, (None, 1002)],
    },
    DELETE: {
        "fromUserId": USER,
        "channelType": [(0, 1002), (11, 1002), ("1", 1002), (None, 1002), (3, 1009), (4, 1009), (10, 1009)],
        "channelId": USER,
        "messageId": MESSAGE,
        "subchannelId": [("s" * 65, 1005), (7, 1002)],
        "sentAt": TIME,
        "isAdmin": SWITCH,
        "disablePush": TRUTH,
        "extra": [("e" * 4097, 1005), ({}, 1002)],
        "disableUpdateLastMsg": TRUTH,
    },
    UPDATE: {
        "fromUserId": USER,
        "targetId": USER,
        "messageId": MESSAGE,
        "messageUID": MESSAGE,
        "content": CONTENT,
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def unlimited(valkey_process: Server) -> AsyncIterator[Admin]:
    """One API for the whole file, to be called as often as a test likes; nothing here leaves a trace in it."""
    valkey_process.empty()
    config = Config(admin_port=0, rate_limits=False)
    store = await Store.open(valkey_process.url, partitions=PARTITIONS)
    async with serving(Services.over(store, config, CREDENTIALS), config) as admin:
        yield admin
    await store.close()


@pytest.mark.parametrize("path", sorted(PATHS))
async def test_each_field(unlimited: Admin, path: str) -> None:
    for field, values in BAD[path].items():
        for value, code in values:
            answer = await unlimited.call(path, ASKED[path] | {field: value})
            status = 430 if code == 1009 else 400
            assert refusal(answer) == (status, code), (field, str(value)[:40], answer.text)
            assert answer.json()["errorMessage"].startswith(field), (field, str(value)[:40], answer.text)


@pytest.mark.parametrize("path", sorted(PATHS))
async def test_what_is_required(unlimited: Admin, path: str) -> None:
    for field in ASKED[path]:
        body = {name: value for name, value in ASKED[path].items() if name != field}
        answer = await unlimited.call(path, body)
        assert refusal(answer) == (400, 1002), (field, answer.text)
        assert answer.json()["errorMessage"] == f"{field}: is required"


@pytest.mark.parametrize("content", ["hello", "[]", '"{}"', "", "{", '{"a": 1} {}', '{"a":' * 100_000])
@pytest.mark.parametrize("path", [SEND, SYSTEM])
async def test_a_built_in_type_needs_an_object(unlimited: Admin, path: str, content: str) -> None:
    wanted = {"messageType": "RC:TxtMsg", "content": content[:131_072]}
    answer = await unlimited.call(path, ASKED[path] | wanted)
    assert refusal(answer) == (400, 1002)
    assert answer.json()["errorMessage"].startswith("content")


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        (SEND, {"toUserIds": [f"u{n}" for n in range(1000)]}),
        (SEND, {"fromUserId": "x" * 64, "messageType": "t" * 32, "content": ""}),
        (SEND, {"count": 2**31 - 1, "pushContent": "p" * 10_240, "isEchoToSender": 1, "verifyBlocklist": 1}),
        (SEND, {"metadata": {"k" * 32: "v" * 4096}, "hasMetadata": True, "needReadReceipt": 0, "shouldPersist": 0}),
        (SEND, {"pushContent": None, "pushData": None, "pushExt": None, "metadata": None, "count": None}),
        (SEND, {"unknown": {"field": 1}}),
        (SYSTEM, {"toUserIds": [f"u{n}" for n in range(100)], "contentAvailable": 0, "disablePush": False}),
        (HISTORY, {"endAt": NOW_MS - 14 * DAY_MS, "pageSize": 100}),
        (HISTORY, {"endAt": NOW_MS, "pageSize": 1, "includeStart": False}),
        (HISTORY, {"startAt": 2**53, "endAt": 2**53}),
        (HISTORY, {"startAt": 0, "endAt": 0, "includeStart": False}),
    ],
)
async def test_what_just_passes(unlimited: Admin, path: str, changes: dict[str, Any]) -> None:
    assert await unlimited.result(path, ASKED[path] | changes) in ({"messageIds": []}, {"messages": []})


@pytest.mark.parametrize("path", [DELETE, UPDATE])
async def test_what_just_passes_and_finds_nothing(unlimited: Admin, path: str) -> None:
    widest = {"messageId": "m" * 64, "sentAt": 2**53, "extra": "e" * 4096, "isAdmin": 1, "subchannelId": "s" * 64}
    for changes in ({}, widest, {"messageId": '"}\\'}, {"messageId": "ffffffff-ffff-7fff-bfff-ffffffffffff"}):
        assert refusal(await unlimited.call(path, ASKED[path] | changes)) == (400, 1015)
