"""v1 calls about blocklists, allowlists and friends: a change binds the very next message."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.node import Node
from tests.nodes import Client, login

from .libraries import Old


async def verdict(client: Client, to: str) -> Any:
    reply = await client.send(to)
    return reply.get("code", reply["type"])


@pytest.mark.operation("/user/blacklist/add.json", "/user/blacklist/remove.json", "/user/blacklist/query.json")
async def test_blocking_binds_the_next_message(node: Node, old: Old) -> None:
    alice, bob = await login(node, "alice"), await login(node, "bob")
    assert (await old.form("/user/blacklist/add.json", userId="bob", blackUserId=["alice", "carol"])).fields == {}
    assert await verdict(alice, "bob") == 405
    assert sorted((await old.form("/user/blacklist/query.json", userId="bob")).fields["users"]) == ["alice", "carol"]
    assert (await old.form("/user/blacklist/remove.json", userId="bob", blackUserId="alice,carol")).fields == {}
    assert await verdict(alice, "bob") == "sent"
    assert (await old.form("/user/blacklist/query.json", userId="bob")).fields == {"users": []}
    await alice.close()
    await bob.close()


@pytest.mark.operation(
    "/user/whitelist/add.json",
    "/user/whitelist/remove.json",
    "/user/whitelist/query.json",
    "/user/whitesetting/set.json",
    "/user/whitesetting/query.json",
)
async def test_allowing_binds_the_next_message(node: Node, old: Old) -> None:
    alice, bob = await login(node, "alice"), await login(node, "bob")
    assert (await old.form("/user/whitesetting/set.json", userId="bob", whiteSetting=1)).fields == {}
    settings = (await old.form("/user/whitesetting/query.json", userId=["bob", "alice"])).fields["users"]
    assert settings == [{"userId": "bob", "whiteSetting": "1"}, {"userId": "alice", "whiteSetting": "0"}]
    assert await verdict(alice, "bob") == 407
    assert (await old.form("/user/whitelist/add.json", userId="bob", whiteUserId="alice")).fields == {}
    assert await verdict(alice, "bob") == "sent"
    assert (await old.form("/user/whitelist/query.json", userId="bob")).fields == {"users": ["alice"]}
    assert (await old.form("/user/whitelist/remove.json", userId="bob", whiteUserId="alice")).fields == {}
    assert await verdict(alice, "bob") == 407
    assert (await old.form("/user/whitesetting/set.json", userId="bob", whiteSetting=0)).fields == {}
    assert await verdict(alice, "bob") == "sent"
    await alice.close()
    await bob.close()


@pytest.mark.parametrize(("path", "name"), [("blacklist", "blackUserId"), ("whitelist", "whiteUserId")])
async def test_lists_come_in_pages(lone: Old, path: str, name: str) -> None:
    for user in ("u1", "u2", "u3"):
        await lone.form(f"/user/{path}/add.json", ("userId", "bob"), (name, user))
    first = (await lone.form(f"/user/{path}/query.json", userId="bob", size=2)).fields
    assert first["users"] == ["u3", "u2"]
    second = (await lone.form(f"/user/{path}/query.json", userId="bob", size=2, pageToken=first["next"])).fields
    assert second == {"users": ["u1"]}
