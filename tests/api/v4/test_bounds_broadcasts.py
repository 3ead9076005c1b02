"""Bad input of the operations on broadcasts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.api.admin import Admin, refusal
from tests.api.conftest import Serve

ONLINE = "/v4/system-channel/message/broadcast-online"
ALL = "/v4/system-channel/message/broadcast-all"
RECALL = "/v4/system-channel/message/broadcast/delete"
GOOD = {"fromUserId": "news", "messageType": "note", "content": "hello"}
OLD = {"fromUserId": "news", "messageId": "m"}


@pytest.fixture
async def unlimited(serve: Serve) -> AsyncIterator[Admin]:
    """The API, to be called as often as a test likes."""
    async with serve(rate_limits=False) as admin:
        yield admin


@pytest.mark.parametrize("path", [ONLINE, ALL])
@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"fromUserId": None}, 1002, "fromUserId"),
        ({"fromUserId": ""}, 1002, "fromUserId"),
        ({"fromUserId": "a b"}, 1002, "fromUserId"),
        ({"fromUserId": "x" * 65}, 1005, "fromUserId"),
        ({"fromUserId": 7}, 1002, "fromUserId"),
        ({"messageType": ""}, 1002, "messageType"),
        ({"messageType": 7}, 1002, "messageType"),
        ({"messageType": "t" * 33}, 1005, "messageType"),
        ({"content": None}, 1002, "content"),
        ({"content": {"content": "hello"}}, 1002, "content"),
        ({"content": "c" * (128 * 1024 + 1)}, 1005, "content"),
        ({"content": "ü" * (64 * 1024 + 1)}, 1005, "content"),
        ({"messageType": "RC:TxtMsg"}, 1002, "content"),
        ({"messageType": "RC:TxtMsg", "content": "[]"}, 1002, "content"),
        ({"disableUpdateLastMsg": 1}, 1002, "disableUpdateLastMsg"),
    ],
)
async def test_sending(unlimited: Admin, path: str, changes: dict[str, Any], code: int, field: str) -> None:
    answer = await unlimited.call(path, GOOD | changes)
    assert refusal(answer) == (400, code), answer.text
    assert answer.json()["errorMessage"].startswith(field)


@pytest.mark.parametrize(
    ("path", "body", "code", "field"),
    [
        (ONLINE, {}, 1002, "fromUserId"),
        (ALL, {"fromUserId": "news", "content": "hello"}, 1002, "messageType"),
        (ALL, {"fromUserId": "news", "messageType": "note"}, 1002, "content"),
        (ALL, GOOD | {"pushContent": "p" * 10_241}, 1005, "pushContent"),
        (ALL, GOOD | {"contentAvailable": 2}, 1002, "contentAvailable"),
        (RECALL, {}, 1002, "fromUserId"),
        (RECALL, {"fromUserId": "news"}, 1002, "messageId"),
        (RECALL, OLD | {"messageId": ""}, 1002, "messageId"),
        (RECALL, OLD | {"messageId": "m" * 65}, 1005, "messageId"),
        (RECALL, OLD | {"messageId": 7}, 1002, "messageId"),
        (RECALL, OLD | {"sentAt": "yesterday"}, 1002, "sentAt"),
        (RECALL, OLD | {"sentAt": -1}, 1002, "sentAt"),
        (RECALL, OLD | {"isAdmin": 2}, 1002, "isAdmin"),
        (RECALL, OLD | {"extra": "x" * 4097}, 1005, "extra"),
        (RECALL, OLD | {"messageId": "white space"}, 1015, "messageId"),
    ],
)
async def test_other_fields(unlimited: Admin, path: str, body: dict[str, Any], code: int, field: str) -> None:
    answer = await unlimited.call(path, body)
    assert refusal(answer) == (400, code), answer.text
    assert answer.json()["errorMessage"].startswith(field)


async def test_the_rates_are_the_vendors(admin: Admin) -> None:
    answers = [await admin.call(RECALL, OLD) for _ in range(3)]
    assert [refusal(answer) for answer in answers] == [(400, 1015), (400, 1015), (429, 1008)]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 86_400
