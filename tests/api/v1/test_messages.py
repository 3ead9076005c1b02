"""v1 calls about messages: what is sent arrives on live sockets, once, and is found in the history."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import pytest

from gateway.node import Node
from tests.api.admin import Admin
from tests.nodes import login

from .libraries import PY, Old
from .test_users import token

TEXT = '{"content":"héllo & 100% = 爱"}'


def sent_to(fields: dict[str, Any]) -> list[str]:
    return [each["userId"] for each in fields["messageUIDs"]]


async def publish(old: Old, *to: str, content: str = TEXT, **more: Any) -> dict[str, Any]:
    answer = await old.form(
        "/message/private/publish.json",
        fromUserId="alice",
        toUserId=list(to),
        objectName="RC:TxtMsg",
        content=content,
        **more,
    )
    return answer.fields


async def history(old: Old, user: str, other: str, **more: str) -> list[dict[str, Any]]:
    now = int(time.time() * 1000)
    asked = {"userId": user, "targetId": other, "startTime": str(now + 1000), "endTime": str(now - 60_000)}
    messages: list[dict[str, Any]] = (await old.json("/v3/message/private/query.json", asked | more)).fields["data"]
    return messages


@pytest.mark.operation("/message/private/publish.json")
async def test_a_message_arrives_once_on_each_socket(node: Node, old: Old) -> None:
    bob, carol = await login(node, "bob"), await login(node, "carol")
    fields = await publish(old, "bob", "carol", "nobody", pushContent="x", isPersisted=1, expansion="true")
    assert sent_to(fields) == ["bob", "carol"]
    for client, sent in zip((bob, carol), fields["messageUIDs"], strict=True):
        push = await client.next("message")
        assert (push["mid"], push["from"], push["kind"]) == (sent["messageUID"], "alice", "RC:TxtMsg")
        assert push["body"] == json.loads(TEXT)
        await client.say({"type": "ping", "id": "p"})
        assert (await client.next("pong"))["id"] == "p"
        assert client.received == []
        await client.close()


async def test_pythons_content_is_escaped_by_the_caller(node: Node, old: Old) -> None:
    bob = await login(node, "bob")
    python = Old(old.base_url, PY)
    await publish(python, "bob", content=quote(json.dumps(json.loads(TEXT))))
    assert (await bob.next("message"))["body"] == json.loads(TEXT)
    await bob.close()


async def test_the_blocklist_binds_where_the_caller_says_so(node: Node, old: Old) -> None:
    alice, bob = await login(node, "alice"), await login(node, "bob")
    await old.form("/user/blacklist/add.json", userId="bob", blackUserId="alice")
    assert sent_to(await publish(old, "bob", verifyBlacklist=1)) == []
    assert sent_to(await publish(old, "bob", verifyBlacklist=0, isIncludeSender=1)) == ["bob"]
    echo, push = await alice.next("message"), await bob.next("message")
    assert (echo["to"], echo["mid"]) == ("bob", push["mid"])
    await alice.close()
    await bob.close()


@pytest.mark.operation("/v3/message/private/query.json")
async def test_history_asked_for_in_strings(node: Node, old: Old) -> None:
    bob = await login(node, "bob")
    first = (await publish(old, "bob", expansion="true", extraContent='{"k":"v"}'))["messageUIDs"][0]["messageUID"]
    second = (await publish(old, "bob", content='{"content":"2"}'))["messageUIDs"][0]["messageUID"]
    await publish(old, "bob", content='{"content":"unkept"}', isPersisted=0)
    newest, oldest = await history(old, "bob", "alice", pageSize="10", includeStart="true")
    assert (newest["messageUID"], oldest["messageUID"]) == (second, first)
    assert type(oldest["msgTime"]) is int
    assert {name: oldest[name] for name in oldest if name != "msgTime"} == {
        "targetId": "alice",
        "fromUserId": "alice",
        "messageUID": first,
        "objectName": "RC:TxtMsg",
        "content": TEXT,
        "expansion": True,
        "extraContent": '{"k":"v"}',
    }
    assert (newest["expansion"], newest["extraContent"]) == (False, "")
    assert [each["messageUID"] for each in await history(old, "bob", "alice", pageSize="1")] == [second]
    await bob.close()


@pytest.mark.operation("/message/recall.json")
async def test_a_recalled_message_is_gone_and_devices_are_told(node: Node, old: Old) -> None:
    bob = await login(node, "bob")
    mid = (await publish(old, "bob"))["messageUIDs"][0]["messageUID"]
    push = await bob.next("message")
    recall = {
        "fromUserId": "alice",
        "conversationType": "1",
        "targetId": "bob",
        "messageUID": mid,
        "sentTime": push["sent_at"],
        "isAdmin": 1,
        "isDelete": 0,
    }
    assert (await old.form("/message/recall.json", **recall)).fields == {}
    recalled = await bob.next("recalled")
    assert (recalled["mid"], recalled["admin"]) == (mid, True)
    assert await history(old, "bob", "alice") == []
    unknown = await old.form("/message/recall.json", **recall | {"messageUID": "5FGT-7VA9-G4DD-4V5P"})
    assert unknown.refusal == (400, 1015)
    assert unknown.content["errorMessage"].startswith("messageUID: ")
    await bob.close()


@pytest.mark.operation("/message/system/publish.json")
async def test_a_system_message_arrives(node: Node, old: Old) -> None:
    bob = await login(node, "bob")
    fields = (
        await old.form(
            "/message/system/publish.json", fromUserId="news", toUserId="bob", objectName="app:note", content="at noon"
        )
    ).fields
    push = await bob.next("message")
    assert (push["mid"], push["system"], push["body"]) == (fields["messageUIDs"][0]["messageUID"], True, "at noon")
    await bob.close()


@pytest.mark.parametrize(
    ("path", "body", "code", "field"),
    [
        ("private/publish", "fromUserId=a&toUserId=b&objectName=RC:TxtMsg&content=text", 1002, "content: "),
        ("private/publish", "fromUserId=a&toUserId=b&objectName=x", 1002, "content: "),
        ("private/publish", "fromUserId=a&toUserId=b&content=x", 1002, "objectName: "),
        ("private/publish", f"fromUserId=a&toUserId=b&content=x&objectName={'o' * 33}", 1005, "objectName: "),
        ("private/publish", "fromUserId=a&objectName=x&content=x", 1002, "toUserId: "),
        ("private/publish", "fromUserId=a&toUserId=b&objectName=x&content=x&isPersisted=2", 1002, "isPersisted: "),
        ("private/publish", "fromUserId=a&toUserId=b&objectName=x&content=x&extraContent=[]", 1002, "extraContent: "),
        ("private/publish", "fromUserId=a&toUserId=b&objectName=x&content=x&expansion=maybe", 1002, "expansion: "),
        ("private/publish", f"fromUserId=a&toUserId=b&objectName=x&content={'x' * 131_073}", 1005, "content: "),
        ("system/publish", "fromUserId=a&objectName=x&content=x&toUserId=" + "b," * 100, None, ""),
        ("system/publish", "fromUserId=a&objectName=x&content=x&toUserId=" + ",".join(map(str, range(101))), 1002, "t"),
        ("recall", "fromUserId=a&targetId=b&messageUID=m", 1002, "conversationType: "),
        ("recall", "fromUserId=a&targetId=b&messageUID=m&conversationType=3", 1009, "conversationType: "),
        ("recall", "fromUserId=a&targetId=b&conversationType=1", 1002, "messageUID: "),
    ],
)
async def test_bounds(lone: Old, path: str, body: str, code: int | None, field: str) -> None:
    answer = await lone.raw(f"/message/{path}.json", body.encode())
    if code is None:
        assert answer.fields == {"messageUIDs": []}
        return
    assert answer.content["code"] == code, answer.content
    assert answer.content["errorMessage"].startswith(field)


async def test_bounds_of_history(lone: Old) -> None:
    now = int(time.time() * 1000)
    good = {"userId": "a", "targetId": "b", "startTime": str(now), "endTime": str(now - 1000)}
    for wrong, field in (
        ({"startTime": "now"}, "startTime"),
        ({"endTime": str(now + 1)}, "startTime"),
        ({"endTime": str(now - 15 * 86_400_000)}, "endTime"),
        ({"pageSize": "101"}, "pageSize"),
        ({"includeStart": "perhaps"}, "includeStart"),
        ({"targetId": "b c"}, "targetId"),
    ):
        answer = await lone.json("/v3/message/private/query.json", good | wrong)
        assert answer.refusal == (400, 1002), answer.content
        message = answer.content["errorMessage"]
        assert message.startswith(f"{field}: ")
        assert "At" not in message, "no v4 name of a time"


BROADCAST = {"fromUserId": "news", "objectName": "RC:TxtMsg", "content": '{"content":"at noon"}'}


@pytest.mark.operation("/message/broadcast.json", "/message/broadcast/recall.json")
async def test_a_broadcast_reaches_all_and_is_taken_back(node: Node, old: Old) -> None:
    await token(old, "carol")
    bob = await login(node, "bob")
    mid = (await old.form("/message/broadcast.json", **BROADCAST, pushContent="x")).fields["messageUID"]
    push = await bob.next("message")
    assert (push["mid"], push["from"], push["system"]) == (mid, "news", True)
    assert push["body"] == {"content": "at noon"}
    carol = await login(node, "carol")
    assert (await carol.next("message"))["mid"] == mid
    recall = {"fromUserId": "news", "messageUID": mid, "sentTime": push["sent_at"], "isAdmin": 1}
    assert (await old.form("/message/broadcast/recall.json", **recall)).fields == {}
    assert [(await client.next("recalled"))["mid"] for client in (bob, carol)] == [mid, mid]
    for client in (bob, carol):
        await client.close()
    unknown = await old.form("/message/broadcast/recall.json", **recall | {"messageUID": "5FGT-7VA9-G4DD-4V5P"})
    assert unknown.refusal == (400, 1015)


@pytest.mark.operation("/message/online/broadcast.json")
async def test_an_online_broadcast_reaches_who_is_online(node: Node, old: Old) -> None:
    bob = await login(node, "bob")
    mid = (await old.form("/message/online/broadcast.json", **BROADCAST)).fields["messageUID"]
    push = await bob.next("message")
    assert (push["mid"], push["body"]) == (mid, {"content": "at noon"})
    assert push.get("cursor") is None
    await bob.close()


async def test_a_third_broadcast_in_an_hour_is_too_many_in_either_dialect(admin: Admin, old: Old) -> None:
    assert (await old.form("/message/broadcast.json", **BROADCAST)).status == 200
    v4 = {"fromUserId": "news", "messageType": "RC:TxtMsg", "content": "{}"}
    assert (await admin.call("/v4/system-channel/message/broadcast-all", v4)).status_code == 200
    third = await old.form("/message/broadcast.json", **BROADCAST)
    assert third.refusal == (429, 1008)
    assert 3000 < int(third.headers["retry-after"]) < 4000
