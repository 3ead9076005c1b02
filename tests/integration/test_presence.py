"""Presence over sockets: who watches whom, in which order, and what survives a break."""

import asyncio
import random
import time
from typing import Any

from gateway.node import Node
from tests.integration.fleet import BRISK, everything, node_process, online, two_nodes
from tests.integration.raw import RawClient
from tests.nodes import Client, login, running_node
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually


async def watch(client: Client, *users: str) -> list[dict[str, Any]]:
    """Watches; returns the present state of each."""
    answer = await client.ask("watch", users=list(users))
    assert answer["type"] == "ok", answer
    states: list[dict[str, Any]] = answer["users"]
    return states


async def presence_until(client: Client, online_: bool, deadline_s: float = 5.0) -> list[dict[str, Any]]:
    """Presence pushes up to the first that says so."""
    seen = []
    while True:
        seen.append(await client.next("presence", deadline_s))
        if seen[-1]["online"] is online_:
            return seen


async def test_a_watcher_on_another_node_sees_a_user_come_and_go_until_it_unwatches(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        watcher = await login(a, "walter")
        (state,) = await watch(watcher, "alice")
        assert state == {"user": "alice", "online": False, "last_seen": None, "platforms": [], "version": 0}
        alice = await login(b, "alice", "?platform=ios")
        came = await watcher.next("presence")
        assert (came["user"], came["online"], came["platforms"]) == ("alice", True, ["ios"])
        await alice.close()
        went = await watcher.next("presence")
        assert (went["online"], went["platforms"]) == (False, [])
        assert abs(went["last_seen"] - time.time() * 1000) < 5000
        assert went["version"] > came["version"]
        (state,) = (await watcher.ask("unwatch", users=["alice"]))["users"]
        assert (state["online"], state["last_seen"]) == (False, went["last_seen"])
        assert a.watching.watched == 0
        alice = await login(b, "alice", "?platform=ios")
        assert await everything(watcher) == []
        (state,) = await watch(watcher, "alice")
        assert (state["online"], state["platforms"]) == (True, ["ios"])
        for client in (alice, watcher):
            await client.close()


async def test_a_user_with_three_sessions_goes_offline_only_with_the_last(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        watcher = await login(a, "walter")
        await watch(watcher, "alice")
        sessions = [
            await login(node, "alice", f"?platform={platform}")
            for node, platform in ((a, "ios"), (b, "web"), (a, "desktop"))
        ]
        for platforms in (["ios"], ["ios", "web"], ["desktop", "ios", "web"]):
            push = await watcher.next("presence")
            assert (push["online"], push["platforms"]) == (True, platforms)
        for session, left in zip(sessions, (["desktop", "web"], ["desktop"]), strict=False):
            await session.close()
            push = await watcher.next("presence")
            assert (push["online"], push["platforms"]) == (True, left)
        assert await a.services.presence.online("alice")
        await sessions[2].close()
        assert not (await watcher.next("presence"))["online"]
        assert not await a.services.presence.online("alice")
        await watcher.close()


async def _churn(nodes: tuple[Node, Node], token: str, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(rounds):
        platform = chance.choice(("ios", "web", "desktop"))
        client = await RawClient.begin(nodes[chance.randrange(2)], token, query=f"?platform={platform}")
        await client.until(b'"type":"welcome"', or_end=True)
        client.abort()


async def test_churn_never_shows_an_online_and_an_offline_in_the_wrong_order(valkey: Server) -> None:
    async with two_nodes(valkey.url) as nodes:
        a, b = nodes
        watchers = [await login(a, "walter"), await login(b, "wanda")]
        for watcher in watchers:
            await watch(watcher, "alice")
        token = await a.services.tokens.issue("alice", "Alice")
        await asyncio.gather(*(_churn(nodes, token, 60, seed) for seed in range(3)))
        await online(a, "alice", False)
        last = await a.services.presence.sessions("alice")
        assert last == []
        for watcher in watchers:
            (state,) = await watch(watcher, "alice")
            pushes = [each for each in await everything(watcher) if each["type"] == "presence"]
            versions = [each["version"] for each in pushes]
            assert len(versions) > 60
            assert versions == sorted(set(versions))
            assert not pushes[-1]["online"]
            assert pushes[-1]["version"] == state["version"]
            # Online is what has platforms: no push mixes two moments.
            assert all(each["online"] == bool(each["platforms"]) for each in pushes)
            await watcher.close()


async def test_whom_a_user_has_blocked_sees_the_user_offline_and_again_after_the_unblock(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        alice = await login(b, "alice", "?platform=ios")
        mallory, friend = await login(a, "mallory"), await login(a, "fred")
        # Two watchers of the same user on the same node: the block concerns one of them.
        for watcher in (mallory, friend):
            (state,) = await watch(watcher, "alice")
            assert state["online"]
        known = state["version"]
        assert (await alice.ask("blocklist.add", users=["mallory"]))["type"] == "ok"
        push = await mallory.next("presence")
        assert (push["online"], push["last_seen"], push["platforms"]) == (False, None, [])
        # A client drops what is older than what it knows: the push must not be.
        assert push["version"] >= known
        second = await login(a, "alice", "?platform=web")
        assert (await friend.next("presence"))["platforms"] == ["ios", "web"]
        assert await everything(mallory) == []
        (state,) = await watch(mallory, "alice")
        assert not state["online"]
        assert (await alice.ask("blocklist.remove", users=["mallory"]))["type"] == "ok"
        push = await mallory.next("presence")
        assert (push["online"], push["platforms"]) == (True, ["ios", "web"])
        await second.close()
        for watcher in (mallory, friend):
            assert (await watcher.next("presence"))["platforms"] == ["ios"]
        # Blocked before it watches at all.
        await alice.ask("blocklist.add", users=["late"])
        late = await login(a, "late")
        (state,) = await watch(late, "alice")
        assert not state["online"]
        await alice.close()
        assert not (await friend.next("presence"))["online"]
        assert await everything(late) == []
        for client in (mallory, friend, late):
            await client.close()


async def test_watches_survive_a_break_and_what_changed_meanwhile_is_pushed(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, node_id="a") as a:
            watcher = await login(a, "walter")
            carol = await login(b, "carol", "?platform=ios")
            await watch(watcher, "alice", "carol")
            proxy.refuse()
            await eventually(lambda: not a.bus.up)
            alice = await login(b, "alice", "?platform=ios")
            await carol.close()
            await online(b, "carol", False)
            proxy.accept()
            seen: dict[str, bool] = {}
            while seen != {"alice": True, "carol": False}:
                push = await watcher.next("presence")
                seen[push["user"]] = push["online"]
            # And live ones after it.
            await alice.close()
            await presence_until(watcher, False)
            await watcher.close()


async def test_a_block_made_during_a_break_hides_the_user_afterwards(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, node_id="a") as a:
            mallory = await login(a, "mallory")
            alice = await login(b, "alice", "?platform=ios")
            (state,) = await watch(mallory, "alice")
            assert state["online"]
            proxy.refuse()
            await eventually(lambda: not a.bus.up)
            await alice.ask("blocklist.add", users=["mallory"])
            proxy.accept()
            assert not (await mallory.next("presence"))["online"]
            second = await login(b, "alice", "?platform=web")
            assert await everything(mallory) == []
            for client in (second, alice, mallory):
                await client.close()


async def test_watching_has_limits(valkey: Server) -> None:
    async with running_node(valkey.url, watch_max=250, watch_call_max=200, watchers_max=2) as node:
        client = await login(node, "walter")
        assert (await client.ask("watch", users=[f"u{i}" for i in range(201)]))["code"] == 400
        assert (await client.ask("watch", users=[]))["code"] == 400
        await watch(client, *(f"u{i}" for i in range(200)))
        refused = await client.ask("watch", users=[f"v{i}" for i in range(51)])
        assert refused["code"] == 25467
        assert node.watching.watched == 200
        await watch(client, *(f"v{i}" for i in range(50)))
        # Whom one watches already is no further one.
        await watch(client, *(f"u{i}" for i in range(200)))
        others = [await login(node, user) for user in ("w1", "w2")]
        await watch(others[0], "u1")
        assert (await others[1].ask("watch", users=["u1"]))["code"] == 25467
        await others[0].close()
        await eventually(lambda: len(node.hub.sessions) == 2)
        await watch(others[1], "u1")
        await client.close()
        await others[1].close()
        await eventually(lambda: node.watching.watched == 0)


async def test_a_killed_nodes_users_are_offline_and_their_watchers_told_within_ten_seconds(valkey: Server) -> None:
    """With the deadlines of the default configuration."""
    async with running_node(valkey.url, node_id="a") as a:
        watcher = await login(a, "walter")
        survivor = await login(a, "sally")
        await watch(watcher, "alice", "sally")
        async with node_process(valkey.url, "b") as b:
            alice = await login(b, "alice", token=await a.services.tokens.issue("alice", "Alice"))
            sally = await login(b, "sally", "?platform=ios", await a.services.tokens.issue("sally", None))
            while (await watcher.next("presence"))["user"] != "sally":
                pass
            b.kill()
            killed_at = time.monotonic()
            *_, push = await presence_until(watcher, False, 15)
            assert push["user"] == "alice"
            assert time.monotonic() - killed_at < 10
            assert not await a.services.presence.online("alice")
            sessions = await eventually(lambda: _one(a, "sally"))
            assert sessions[0].platform == "web"
            assert (await survivor.ask("ping"))["type"] == "pong"
            assert all(each["online"] for each in await everything(watcher))
            await alice.closed()
            await sally.closed()
            for client in (watcher, survivor):
                await client.close()


async def _one(node: Node, user: str) -> Any:
    sessions = await node.services.presence.sessions(user)
    return sessions if len(sessions) == 1 else None


async def test_a_reaper_takes_only_the_dead_incarnation(valkey: Server) -> None:
    """The node is back under its old name before the reaper is through: its new sessions stay."""
    async with running_node(valkey.url, node_id="a", **BRISK) as a:
        token = await a.services.tokens.issue("alice", "Alice")
        async with node_process(valkey.url, "b", **BRISK) as first:
            lost = await login(first, "alice", "?platform=ios", token)
            first.kill()
            await lost.closed()
        async with node_process(valkey.url, "b", **BRISK) as second:
            alice = await login(second, "alice", "?platform=web", token)
            await eventually(lambda: _one(a, "alice"))
            assert (await a.services.presence.sessions("alice"))[0].platform == "web"
            assert (await alice.ask("ping"))["type"] == "pong"
            names = [record.incarnation for record in await a.services.control.nodes()]
            assert len(names) == 2
            await alice.close()


async def test_two_survivors_reap_a_dead_node_once(valkey: Server) -> None:
    async with two_nodes(valkey.url, **BRISK) as (a, b), node_process(valkey.url, "c", **BRISK) as c:
        users = [f"u{number}" for number in range(40)]
        watchers = [await login(a, "walter"), await login(b, "wanda")]
        clients = [await RawClient.open(c, await a.services.tokens.issue(user, None)) for user in users]
        for watcher in watchers:
            assert all(state["online"] for state in await watch(watcher, *users))
        c.kill()
        for watcher in watchers:
            pushes = [await watcher.next("presence", 8.0) for _ in users]
            assert sorted(each["user"] for each in pushes) == sorted(users)
            assert not any(each["online"] for each in pushes)
        for client in clients:
            await client.until_end()
        with valkey.client() as admin:
            await eventually(lambda: not [key for key in admin.keys("*at:*") if ":c." in key])
            # All that is left is the note that it is to be looked at once more.
            await eventually(
                lambda: [each[:8] for each in admin.zrange("gw:nodes", 0, -1) if "c." in each] == ["again c."]
            )
        for watcher in watchers:
            assert await everything(watcher) == []
            await watcher.close()
