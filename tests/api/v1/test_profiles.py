"""v1 calls about hosted profiles: JSON inside of forms, and inside of answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.node import Node
from tests.nodes import login

from .libraries import PY, Old
from .test_users import token

BASIC = {"name": "Älice", "gender": 2, "level": 7}
EXTENDED = {"ext_city": "Köln & Bonn"}


async def profiles(old: Old, *users: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await old.form("/user/profile/batch/query.json", userId=",".join(users))).fields[
        "userList"
    ]
    return listed


@pytest.mark.operation(
    "/user/profile/set.json", "/user/profile/batch/query.json", "/user/profile/query.json", "/user/profile/clean.json"
)
async def test_a_profile_as_text(old: Old) -> None:
    for user in ("alice", "bob"):
        await token(old, user)
    sent = {"userProfile": json.dumps(BASIC), "userExtProfile": json.dumps(EXTENDED, ensure_ascii=False)}
    assert (await old.form("/user/profile/set.json", userId="alice", **sent)).fields == {}
    (alice,) = await profiles(old, "alice", "bob")
    assert (json.loads(alice["userProfile"]), json.loads(alice["userExtProfile"])) == (BASIC, EXTENDED)
    assert (alice["userId"], type(alice["version"])) == ("alice", int)
    everybody = (await old.form("/user/profile/query.json", page=1, size=10, order=1)).fields["userList"]
    assert everybody == [{"userId": "bob"}, alice]
    assert (await old.form("/user/profile/query.json", page=2, size=1)).fields["userList"] == [{"userId": "bob"}]
    assert (await old.form("/user/profile/clean.json", userId=["alice", "bob"])).fields == {}
    assert await profiles(old, "alice") == []


async def test_a_hundred_profiles_are_read_in_one_call(lone: Old) -> None:
    await token(lone, "alice")
    assert (await lone.form("/user/profile/set.json", userId="alice", userProfile='{"level":7}')).fields == {}
    others = [f"u{number}" for number in range(100)]
    assert [each["userId"] for each in await profiles(lone, "alice", *others[:99])] == ["alice"]
    answer = await lone.form("/user/profile/batch/query.json", userId=["alice", *others])
    assert answer.refusal == (400, 1002)
    assert answer.content["errorMessage"].startswith("userId: ")


async def test_a_profile_shows_on_a_live_socket(node: Node, old: Old) -> None:
    bob = await login(node, "bob")
    await token(old, "alice")
    # Nothing of this needs to be escaped, and Python escapes nothing.
    python = Old(old.base_url, PY)
    text = '{"name":"Älice = A?"}'
    assert (await python.form("/user/profile/set.json", userId="alice", userProfile=text)).fields == {}
    shown = await bob.ask("user.get", users=["alice"])
    assert shown["users"][0]["profile"]["userProfile"] == {"name": "Älice = A?"}
    await bob.close()


@pytest.mark.parametrize(
    ("sent", "code", "key"),
    [
        ({"userProfile": '{"shoeSize":44}'}, 24361, "shoeSize"),
        ({"userProfile": '{"level":"high"}'}, 24367, "level"),
        ({"userProfile": '{"level":101}'}, 24368, "level"),
        ({"userExtProfile": '{"city":"Oslo"}'}, 24362, "city"),
        ({"userProfile": "[]"}, 1002, None),
        ({"userProfile": ""}, 1002, None),
        ({}, 1002, None),
    ],
)
async def test_a_bad_key_is_named(lone: Old, sent: dict[str, str], code: int, key: str | None) -> None:
    await token(lone, "alice")
    answer = await lone.form("/user/profile/set.json", userId="alice", **sent)
    assert answer.refusal == (400, code), answer.content
    assert answer.content.get("profileKey") == key
