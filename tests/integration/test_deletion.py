"""Soft deletion: what it removes wherever it is kept, and what becomes of it when a process dies midway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.node import Node
from gateway.services.services import Services
from gateway.store import drops
from gateway.store.call import Call, text
from gateway.store.store import Store
from tests.nodes import CREDENTIALS, config, login, running_node
from tests.servers import Cluster, Server
from tests.waiting import eventually

LATER_MS = 10_000
"""More than an intent must be old before somebody else takes it over."""


@pytest.fixture
async def node(valkey: Server) -> AsyncIterator[Node]:
    async with running_node(valkey.url) as node:
        yield node


@pytest.fixture
async def store(any_store: Server | Cluster) -> AsyncIterator[Store]:
    store = await Store.open(any_store.url)
    yield store
    await store.close()


@pytest.fixture
async def services(store: Store) -> Services:
    return Services.over(store, config(), CREDENTIALS)


async def contents(store: Store, key: bytes) -> dict[str, bytes]:
    """What a key holds: field or member → value."""
    kind = text(await store.execute(Call(0, ("TYPE", key))))
    read: dict[str, tuple[Any, ...]] = {
        "hash": ("HGETALL", key),
        "zset": ("ZRANGE", key, 0, -1),
        "set": ("SMEMBERS", key),
        "list": ("LRANGE", key, 0, -1),
        "stream": ("XRANGE", key, "-", "+"),
        "string": ("GET", key),
    }
    reply = await store.execute(Call(0, read[kind]))
    if kind == "hash":
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        return {text(name): value for name, value in pairs}
    return {repr(member): b"" for member in (reply if kind != "string" else [reply])}


async def traces(store: Store, user: str) -> dict[str, list[str]]:
    """Every key that names a user or holds something that does: key without its tag → the parts concerned."""
    found: dict[str, list[str]] = {}
    cursor: Any = b"0"
    while True:
        cursor, keys = await store.execute(Call(0, ("SCAN", cursor, "COUNT", 1000)))
        for key in keys:
            held = await contents(store, key)
            mine = text(key).endswith(f":{user}")
            parts = [name for name, value in held.items() if mine or user in name or user.encode() in value]
            if parts:
                found[text(key).partition("}:")[2] or text(key)] = sorted(parts)
        if cursor in (b"0", "0", 0):
            return found


async def own_everything(node: Node, user: str) -> None:
    """A user with all that a user can have, and friends on either side of the alphabet."""
    act = node.services
    await act.tokens.issue(user, "Mona", "https://example.com/m.png")
    await act.tags.set([user], ["vip"])
    await act.settings.set({"friendPermissionDefault": 2})
    await act.profiles.set(user, {"name": "Mona"}, {"ext_city": "Oslo"})
    await act.friends.befriend(user, "anna")
    await act.friends.befriend(user, "zoe")
    await act.friends.note(user, "anna", alias="Annie", attributes={"ext_since": "school"})
    await act.friends.note("zoe", user, alias="Mo", attributes={"ext_since": "work"})
    await act.friends.add("peter", user)
    await act.friends.set_permission([user], 2)
    await act.relationships.block(user, ["quentin"])
    await act.relationships.allow(user, ["anna", "zoe", "rose"])
    await act.relationships.enable_allowlist([user], True)


async def test_nothing_of_what_the_user_owned_is_left(node: Node) -> None:
    for other in ("anna", "rose", "zoe"):
        await node.services.tokens.issue(other, other.title(), None)
    rose = await login(node, "rose")
    await own_everything(node, "mona")
    phone = await login(node, "mona", "?platform=ios&device=phone")
    await rose.send("mona", "first")
    message = await phone.next("message")
    await phone.say({"type": "ack", "cursor": message["cursor"]})
    assert (await phone.send("rose", "an answer"))["type"] == "sent"
    await rose.send("mona", "second")
    # What others own and the user is in: their lists, their requests, what was sent to them.
    await node.services.relationships.block("rose", ["mona"])
    await node.services.relationships.allow("zoe", ["mona"])
    before = await traces(node.store, "mona")
    owned = {"u", "s", "friends", "notes", "requests", "block", "allow", "in", "ack"}
    assert owned <= {key.partition(":")[0] for key in before if key.endswith(":mona")}, before

    await node.services.deletion.deactivate(["mona"])
    await phone.closed()

    async def gone() -> bool:
        return not any(key.startswith(("at:", "online")) for key in await traces(node.store, "mona"))

    await eventually(gone)
    after = await traces(node.store, "mona")
    record = after.pop("u:mona")
    assert set(record) <= {
        "policy",
        "registered_at",
        "deactivated_at",
        "epoch",
        "last_seen",
        "version",
        "dropped_order",
        "last_login:mobile",
        "broadcast_seen",
    }, "facts of the account, nothing that it was given"
    assert after.keys() == {
        "deactivated",
        # Versions of friendships that have ended, so that a half that comes late is known to be old.
        "pairs:mona",
        "pairs:anna",
        "pairs:zoe",
        # Others' own.
        "block:rose",
        "allow:zoe",
        "in:rose",
    }, after
    assert await node.services.friends.permissions(["mona"]) == {"mona": 2}
    await rose.close()


async def test_friends_lose_the_user_and_keep_each_other(node: Node) -> None:
    friends = node.services.friends
    await own_everything(node, "mona")
    await friends.befriend("anna", "zoe")
    zoe = await login(node, "zoe")
    await node.services.deletion.deactivate(["mona"])
    assert [each["user"] for each in (await zoe.ask("friends.list"))["users"]] == ["anna"]
    assert (await friends.page("mona", page=None, limit=10)).total == 0
    assert await friends.are_friends("anna", ["mona", "zoe"]) == {"mona": False, "zoe": True}
    await zoe.close()


async def friends_of(services: Services, *users: str) -> dict[str, list[str]]:
    """Both halves as they are, once nobody is at work."""
    return {
        user: [each.user for each in (await services.friends.page(user, page=None, limit=100)).friends]
        for user in users
    }


async def deactivate_and_die(store: Store, user: str) -> None:
    """What is left of a deletion whose process ended right after its first write."""
    await store.execute(drops.deactivate(store.keys, user, ""))


async def test_a_sweep_finishes_what_a_process_that_died_has_left(services: Services, store: Store) -> None:
    others = ["anna", "bert", "zoe"]
    for other in others:
        await services.friends.befriend("mona", other)
    await services.friends.befriend("anna", "zoe")
    await deactivate_and_die(store, "mona")
    now = await store.now_ms()
    assert await services.friends.sweep(now) == 0, "somebody may still be at it"
    assert await services.friends.sweep(now + LATER_MS) == 1
    assert await friends_of(services, "mona", *others) == {"mona": [], "anna": ["zoe"], "bert": [], "zoe": ["anna"]}
    assert await services.friends.sweep(now + LATER_MS) == 0


async def test_who_comes_back_has_no_friend_of_before_and_keeps_the_new_ones(services: Services, store: Store) -> None:
    await services.tokens.issue("mona", "Mona", None)
    for other in ("anna", "zoe"):
        await services.friends.befriend("mona", other)
    await deactivate_and_die(store, "mona")
    restored = await services.deletion.reactivate(["mona"])
    assert restored.users == ["mona"]
    assert await friends_of(services, "mona", "anna", "zoe") == {"mona": [], "anna": [], "zoe": []}
    await services.friends.befriend("zoe", "mona")
    await services.friends.sweep(await store.now_ms() + LATER_MS)
    assert await friends_of(services, "mona", "anna", "zoe") == {"mona": ["zoe"], "anna": [], "zoe": ["mona"]}


async def test_wherever_it_is_interrupted_both_halves_end(valkey: Server) -> None:
    store = await Store.open(valkey.url)
    services = Services.over(store, config(), CREDENTIALS)
    others = [f"{letter}{index}" for letter in "az" for index in range(15)]
    for other in others:
        await services.friends.befriend("mona", other)
    started = time.monotonic()
    await services.deletion.deactivate(["mona"])
    took = time.monotonic() - started
    await services.deletion.reactivate(["mona"])
    finished = 0
    for wait in [*(took * step / 20 for step in range(29)), None]:
        for other in others:
            await services.friends.befriend("mona", other)
        task = asyncio.create_task(services.deletion.deactivate(["mona"]))
        done, _ = await asyncio.wait({task}, timeout=wait)
        finished += len(done)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        now = await store.now_ms()
        await services.friends.sweep(now + LATER_MS)
        lists = await friends_of(services, "mona", *others)
        begun = (await services.deletion.reactivate(["mona"])).users == ["mona"]
        assert all(len(lists[other]) == (not begun) for other in others), wait
        assert len(lists["mona"]) == (0 if begun else len(others)), wait
    assert 0 < finished < 30, "some of them were interrupted and some were not"
    await store.close()


async def test_friends_are_not_made_with_who_is_deleted(services: Services, store: Store) -> None:
    """An add that decided just before a deletion is undone, whichever half was missing."""
    for user in ("mona", "anna", "zoe"):
        await services.tokens.issue(user, user, None)

    async def race(other: str) -> None:
        adding = asyncio.create_task(services.friends.add("mona", other))
        await services.deletion.deactivate(["mona"])
        await asyncio.gather(adding, return_exceptions=True)

    for _ in range(10):
        for other in ("anna", "zoe"):
            await race(other)
            await services.friends.sweep(await store.now_ms() + LATER_MS)
            assert await friends_of(services, "mona", other) == {"mona": [], other: []}
            await services.deletion.reactivate(["mona"])


async def test_what_is_not_the_users_outlasts_the_deletion(node: Node) -> None:
    await node.services.tokens.issue("mona", "Mona", None)
    await node.services.accounts.mute(["mona"], True)
    await node.services.bans.ban(["mona"], minutes=5)
    await node.services.deletion.deactivate(["mona"])
    await node.services.deletion.reactivate(["mona"])
    account = await node.services.accounts.get("mona")
    assert account is not None
    assert account.muted
    assert account.banned_until is not None
    assert (account.name, account.allowlist_enabled) == ("", False)
