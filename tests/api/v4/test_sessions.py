from __future__ import annotations

import time
from typing import Any

import pytest

from tests.api.admin import Admin


@pytest.mark.operation("/v4/user/session/list")
async def test_sessions_of_a_user(admin: Admin, connected: str) -> None:
    result = await admin.result("/v4/user/session/list", {"userId": connected})
    (session,) = result["sessions"]
    assert abs(session.pop("connectedAt") - time.time() * 1000) < 60_000
    assert session == {
        "sessionId": "s1",
        "deviceId": "phone",
        "platform": "ios",
        "nodeId": "gone.1",
        "address": "192.0.2.7",
    }
    assert await admin.result("/v4/user/session/list", {"userId": "nobody"}) == {"sessions": []}


@pytest.mark.parametrize(
    ("asked", "silent"),
    [
        ({"userIds": ["alice", "bob"]}, ["gone.1"]),
        ({"userId": "alice"}, ["gone.1"]),
        ({"userIds": ["alice"], "sessionId": "s1"}, ["gone.1"]),
        ({"userId": "alice", "sessionId": "s1", "reason": "maintenance"}, ["gone.1"]),
        ({"userId": "alice", "deviceId": "phone"}, ["gone.1"]),
        ({"userId": "alice", "sessionId": "s2"}, []),
        ({"userId": "alice", "deviceId": "tablet"}, []),
        ({"userIds": ["bob"]}, []),
    ],
)
async def test_kicking_asks_the_nodes_concerned(
    admin: Admin, connected: str, asked: dict[str, Any], silent: list[str]
) -> None:
    result = await admin.result("/v4/user/kick", asked)
    assert (result["sessionsClosed"], result["nodesAnswered"], result["nodesSilent"]) == (0, [], silent)
