"""v1 calls about users, and what they do to live sockets."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from websockets.exceptions import InvalidStatus

from gateway.node import Node
from tests.api.admin import Admin
from tests.nodes import login
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
