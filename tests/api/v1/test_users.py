"""v1 calls about users, and what they do to live sockets."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from gateway.node import Node
from tests.api.admin import Admin
from tests.api.conftest import Serve
from tests.nodes import login, running_node
from tests.servers import Server
from tests.waiting import eventually

from .libraries import Old

OPERATION_ID = re.compile(r"[0-9A-Z]{4}(-[0-9A-Z]{4}){3}").fullmatch


async def token(old: Old, user: str) -> str:
    issued = (await old.form("/user/getToken.json", userId=user, name=user.title())).fields
    assert issued["userId"] == user
    return str(issued["token"])


async def status(old: Old, user: str) -> str:
    return str((await old.form("/user/checkOnline.json", userId=user)).fields["status"])


async def refused_with(node: Node, user: str, token: str) -> int:
    with pytest.raises(InvalidStatus) as refused:
        await login(node, user, token=token)
    return refused.value.response.status_code


@pytest.mark.operation("/user/getToken.json", "/user/checkOnline.json")
async def test_a_token_opens_a_socket_and_online_status_follows_it(node: Node, old: Old) -> None:
    alice = await login(node, "alice", token=await token(old, "alice"))
    assert await status(old, "alice") == "1"
    await alice.close()

    async def offline() -> bool:
        return await status(old, "alice") == "0"

    await eventually(offline)


@pytest.mark.operation("/user/refresh.json", "/user/info.json")
async def test_a_users_record(admin: Admin, old: Old) -> None:
    await old.form("/user/getToken.json", userId="alice", name="Alice", portraitUri="https://example.com/1")
    registered = datetime.now(UTC)
    assert (await old.form("/user/refresh.json", userId="alice", name="Alicia")).fields == {}
    info = (await old.form("/user/info.json", userId="alice")).fields
    assert (info["userName"], info["userPortrait"]) == ("Alicia", "https://example.com/1")
    created = datetime.strptime(info["createTime"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert abs(registered - created) < timedelta(seconds=60)


async def test_an_unknown_user_has_an_empty_name(old: Old) -> None:
    info = (await old.form("/user/info.json", userId="nobody")).fields
    assert info == {"userName": "", "userPortrait": "", "createTime": ""}
    assert (await old.form("/user/refresh.json", userId="nobody", name="N")).refusal == (400, 400)


@pytest.mark.operation("/user/token/expire.json")
async def test_expiring_closes_what_older_tokens_opened(node: Node, old: Old) -> None:
    first = await token(old, "alice")
    alice = await login(node, "alice", token=first)
    answer = await old.form("/user/token/expire.json", userId=["alice", "bob"], time=int(time.time() * 1000) + 1)
    assert answer.fields == {}
    code, reason = await alice.closed()
    assert (code, reason["code"]) == (4501, 31020)
    assert await refused_with(node, "alice", first) == 401


@pytest.mark.operation("/user/block.json", "/user/unblock.json", "/user/block/query.json")
async def test_a_ban_closes_the_socket_and_the_door(node: Node, old: Old) -> None:
    own = await token(old, "alice")
    alice = await login(node, "alice", token=own)
    assert (await old.form("/user/block.json", userId="alice", minute=1)).fields == {}
    code, reason = await alice.closed()
    assert (code, reason["code"]) == (4502, 31011)
    assert await refused_with(node, "alice", own) == 403
    (banned,) = (await old.form("/user/block/query.json")).fields["users"]
    ends = datetime.strptime(banned["blockEndTime"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert banned["userId"] == "alice"
    assert timedelta(0) < ends - datetime.now(UTC) + timedelta(seconds=1) < timedelta(minutes=2)
    assert (await old.form("/user/unblock.json", userId="alice")).fields == {}
    again = await login(node, "alice", token=own)
    await again.close()


async def test_bans_by_pages(old: Old) -> None:
    for minute, user in enumerate(("a", "b", "c"), start=1):
        await old.form("/user/block.json", userId=user, minute=minute * 10)

    async def page(**fields: int) -> list[str]:
        users = (await old.form("/user/block/query.json", **fields)).fields["users"]
        return [each["userId"] for each in users]

    assert [await page(page=each, size=2) for each in (1, 2, 3)] == [["c", "b"], ["a"], []]
    # Page 0 is no page.
    assert await page(page=0, size=2) == ["c", "b", "a"]


@pytest.mark.operation("/user/deactivate.json", "/user/reactivate.json", "/user/activate.json")
async def test_deactivation_closes_the_socket_until_reactivated(node: Node, old: Old) -> None:
    own = await token(old, "alice")
    alice = await login(node, "alice", token=own)
    gone = (await old.form("/user/deactivate.json", userId="alice,bob")).fields
    assert set(gone) == {"operateId"}
    assert OPERATION_ID(gone["operateId"])
    code, reason = await alice.closed()
    assert (code, reason["code"]) == (4503, 31029)
    assert (await old.form("/user/getToken.json", userId="alice", name="Alice")).refusal == (403, 31029)
    for path, user in (("/user/reactivate.json", "alice"), ("/user/activate.json", "bob")):
        assert OPERATION_ID((await old.form(path, userId=user)).fields["operateId"])
        again = await login(node, user, token=await token(old, user))
        await again.close()


@pytest.mark.operation("/user/deactivate/query.json")
async def test_deactivated_users_are_listed(lone: Old) -> None:
    for user in ("alice", "bob"):
        await token(lone, user)
        await lone.form("/user/deactivate.json", userId=user)
    assert (await lone.form("/user/deactivate/query.json")).fields == {"users": ["alice", "bob"]}
    assert (await lone.form("/user/deactivate/query.json", pageNo=2, pageSize=1)).fields == {"users": ["bob"]}
    for body, field in (("pageNo=0", "pageNo: "), ("pageSize=51", "pageSize: ")):
        answer = await lone.raw("/user/deactivate/query.json", body.encode())
        assert answer.refusal == (400, 1002)
        assert answer.content["errorMessage"].startswith(field)


@pytest.mark.operation("/user/query.json", "/user/delusers.json")
async def test_users_of_a_development_environment_are_listed_and_deleted(valkey: Server) -> None:
    async with running_node(valkey.url, v1_enabled=True, partitions=8, environment="development") as node:
        old = Old(f"http://127.0.0.1:{node.admin.port}")
        for user in ("alice", "bob", "carol"):
            await old.form("/user/getToken.json", userId=user, name=user.title(), portraitUri=f"https://x/{user}")
        page = (await old.form("/user/query.json", page=1, pageSize=2, order=1)).fields
        assert page["total"] == 3
        assert [each["userId"] for each in page["users"]] == ["carol", "bob"]
        assert (page["users"][0]["userName"], page["users"][0]["userPortrait"]) == ("Carol", "https://x/carol")
        assert datetime.strptime(page["users"][0]["regTime"], "%Y-%m-%d %H:%M:%S")
        bob = await login(node, "bob")
        assert (await old.form("/user/delusers.json", userId=["alice", "bob"])).fields == {}
        await bob.closed()
        left = (await old.form("/user/query.json")).fields
        assert (left["total"], [each["userId"] for each in left["users"]]) == (1, ["carol"])


async def test_users_in_production_are_not_deleted(lone: Old) -> None:
    await token(lone, "alice")
    assert (await lone.form("/user/delusers.json", userId="alice")).refusal == (403, 1007)
    assert (await lone.form("/user/info.json", userId="alice")).fields["userName"] == "Alice"


@pytest.mark.operation("/user/tag/set.json", "/user/tag/batch/set.json", "/user/tags/get.json")
async def test_tags(lone: Old) -> None:
    async def tags(*users: str) -> Any:
        return (await lone.form("/user/tags/get.json", userIds=list(users))).fields["result"]

    assert (await lone.json("/user/tag/set.json", {"userId": "alice", "tags": ["vip", "bêta"]})).fields == {}
    batch = {"userIds": ["bob", "carol"], "tags": ["new"]}
    assert (await lone.json("/user/tag/batch/set.json", batch)).fields == {}
    assert await tags("alice", "bob", "carol", "dave") == {
        "alice": ["vip", "bêta"],
        "bob": ["new"],
        "carol": ["new"],
        "dave": [],
    }
    assert (await lone.json("/user/tag/set.json", {"userId": "alice", "tags": []})).fields == {}
    assert await tags("alice") == {"alice": []}
    for wrong, code, field in (
        ({"userId": "alice", "tags": ["t" * 41]}, 1005, "tags[0]: "),
        ({"userId": "alice", "tags": ["a b"]}, 1002, "tags[0]: "),
        ({"userId": "alice", "tags": [str(n) for n in range(21)]}, 1002, "tags: "),
        ({"userId": "alice"}, 1002, "tags: "),
        ({"tags": ["vip"]}, 1002, "userId: "),
        ({"userId": ["alice", "bob"], "tags": ["vip"]}, 1002, "userId: "),
    ):
        answer = await lone.json("/user/tag/set.json", wrong)
        assert answer.refusal == (400, code), answer.content
        assert answer.content["errorMessage"].startswith(field)


async def test_one_users_tags_are_not_held_to_the_rate_of_batches(serve: Serve) -> None:
    async with serve(v1_enabled=True) as admin:
        old = Old(admin.base_url)
        batch = {"userIds": ["bob"], "tags": ["new"]}
        answers = [await old.json("/user/tag/batch/set.json", batch) for _ in range(10)]
        assert {answer.status for answer in answers} == {200}
        assert (await admin.call("/v4/user/tag/batch/set", batch)).status_code == 429
        assert (await old.json("/user/tag/set.json", {"userId": "alice", "tags": ["vip"]})).fields == {}


@pytest.mark.operation("/user/chat/fb/set.json", "/user/chat/fb/querylist.json")
async def test_a_muted_sender_is_refused(node: Node, old: Old) -> None:
    alice, bob = await login(node, "alice"), await login(node, "bob")
    many = ",".join(["alice", *(f"u{number}" for number in range(999))])
    assert (await old.form("/user/chat/fb/set.json", userId=many, state=1, type="PERSON")).fields == {}

    async def muted() -> bool:
        return (await alice.send("bob")).get("code") == 20106

    await eventually(muted)
    listed = (await old.form("/user/chat/fb/querylist.json", type="PERSON", num=200, offset=900)).fields
    assert (listed["total"], len(listed["users"])) == (1000, 100)
    assert (await old.form("/user/chat/fb/set.json", userId="alice", state=0, type="PERSON")).fields == {}

    async def heard() -> bool:
        return (await alice.send("bob"))["type"] == "sent"

    await eventually(heard)
    for path, body, status, code, field in (
        ("set", "userId=a&state=2&type=PERSON", 400, 1002, "state: "),
        ("set", "userId=a&state=1&type=GROUP", 430, 1009, "type[0]: "),
        ("set", "userId=a&state=1", 400, 1002, "type: "),
        ("querylist", "type=PERSON&num=201", 400, 1002, "num: "),
        ("querylist", "type=PERSON&offset=-1", 400, 1002, "offset: "),
    ):
        answer = await old.raw(f"/user/chat/fb/{path}.json", body.encode())
        assert answer.refusal == (status, code), answer.content
        assert answer.content["errorMessage"].startswith(field)
    await alice.close()
    await bob.close()
