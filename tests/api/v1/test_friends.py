"""v1 calls about friends."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from gateway.node import Node
from tests.api.admin import Admin
from tests.nodes import login
from tests.waiting import eventually

from .libraries import Old
from .test_users import token


async def friends(old: Old, user: str, **page: Any) -> list[str]:
    listed = (await old.form("/friend/get.json", userId=user, **page)).fields["friendList"]
    return [each["userId"] for each in listed]


async def befriend(old: Old, user: str, *others: str) -> None:
    for other in others:
        answer = await old.form("/friend/add.json", userId=user, targetId=other, optType=2, extra="hi")
        assert answer.fields == {}


@pytest.mark.operation("/friend/add.json", "/friend/delete.json")
async def test_where_only_friends_may_write_friendship_binds_the_next_message(
    node: Node, admin: Admin, old: Old
) -> None:
    alice, bob = await login(node, "alice"), await login(node, "bob")
    await admin.result("/v4/app/setting/set", {"friendsOnly": True})

    async def verdict() -> Any:
        reply = await alice.send("bob")
        return reply.get("code", reply["type"])

    async def strangers() -> bool:
        return await verdict() == 25469

    await eventually(strangers)
    await befriend(old, "alice", "bob")
    assert await verdict() == "sent"
    assert (await old.form("/friend/delete.json", userId="bob", targetIds="carol,alice")).fields == {}
    assert await verdict() == 25469
    await alice.close()
    await bob.close()


@pytest.mark.operation("/friend/get.json", "/friend/profile/set.json", "/friend/clean.json")
async def test_the_list_of_friends(old: Old) -> None:
    for user in ("alice", "bob", "carol"):
        await token(old, user)
    await befriend(old, "alice", "bob", "carol")
    note = {"userId": "alice", "targetId": "bob", "remarkName": "Bobby", "friendExtProfile": '{"ext_met":"school"}'}
    assert (await old.form("/friend/profile/set.json", **note)).fields == {}
    page = (await old.form("/friend/get.json", userId="alice", size=1, order=0)).fields
    (bob,) = page["friendList"]
    assert abs(bob.pop("time") - time.time() * 1000) < 60_000
    assert json.loads(bob.pop("friendExtProfile")) == {"ext_met": "school"}
    assert bob == {"userId": "bob", "name": "Bob", "remarkName": "Bobby"}
    assert page["totalCount"] == 2
    assert await friends(old, "alice", size=1, pageToken=page["pageToken"]) == ["carol"]
    assert await friends(old, "alice", order=1) == ["carol", "bob"]
    assert (await old.form("/friend/clean.json", userId="alice")).fields == {}
    assert [await friends(old, user) for user in ("alice", "bob", "carol")] == [[], [], []]


@pytest.mark.operation("/friend/check.json")
async def test_a_check_of_up_to_a_hundred(lone: Old) -> None:
    for user in ("alice", "u7"):
        await token(lone, user)
    await befriend(lone, "alice", "u7")
    targets = ",".join(f"u{number}" for number in range(100))
    results = (await lone.form("/friend/check.json", userId="alice", targetIds=targets)).fields["results"]
    assert [each["userId"] for each in results if each["result"] == 4] == ["u7"]
    assert {each["result"] for each in results} == {1, 4}
    over = await lone.form("/friend/check.json", userId="alice", targetIds=targets + ",u100")
    assert over.refusal == (400, 1002)


@pytest.mark.operation("/friend/permission/set.json", "/friend/permission/get.json")
async def test_permissions_bind_adding(lone: Old) -> None:
    for user in ("alice", "bob"):
        await token(lone, user)
    assert (await lone.form("/friend/permission/set.json", userIds="bob,carol", permissionType=3)).fields == {}
    settings = (await lone.form("/friend/permission/get.json", userIds="alice,bob")).fields["permissionSettings"]
    assert settings == [{"userId": "alice", "type": 1}, {"userId": "bob", "type": 3}]
    refused = await lone.form("/friend/add.json", userId="alice", targetId="bob", optType=1)
    assert refused.refusal == (400, 25471)
    assert await friends(lone, "alice") == []


async def test_what_cannot_be_added(lone: Old) -> None:
    for user in ("alice", "bob"):
        await token(lone, user)
    await befriend(lone, "alice", "bob")
    again = await lone.form("/friend/add.json", userId="alice", targetId="bob", optType=2)
    assert again.refusal == (400, 25460)
    oneself = await lone.form("/friend/add.json", userId="alice", targetId="alice", optType=2)
    assert oneself.refusal == (400, 25473)
    for body, field in (
        ("userId=alice&targetId=bob&optType=3", "optType: "),
        (f"userId=alice&targetId=bob&extra={'x' * 129}", "extra: "),
        ("userId=alice", "targetId: "),
    ):
        answer = await lone.raw("/friend/add.json", body.encode())
        assert answer.status == 400
        assert answer.content["errorMessage"].startswith(field)
    attributes = await lone.form(
        "/friend/profile/set.json", userId="alice", targetId="bob", friendExtProfile="not an object"
    )
    assert attributes.refusal == (400, 1002)
    assert attributes.content["errorMessage"].startswith("friendExtProfile: ")
