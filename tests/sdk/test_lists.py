"""Presence, the user's own lists and other users' names through the JavaScript SDK."""

from __future__ import annotations

import pytest

from gateway.node import Node
from tests.nodes import login
from tests.sdk.apps import connected, in_front_of, told, url
from tests.sdk.stage import Stage, until
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def token(node: Node, user: str) -> str:
    return await node.services.tokens.issue(user, user.title())


async def all_of(stage: Stage, listing: str) -> object:
    """Everything that an async iterator gives."""
    return await stage.run(f"const all = []; for await (const each of {listing}) all.push(each); return all;")


async def test_a_watched_user_comes_and_goes(node: Node, stage: Stage) -> None:
    await token(node, "bob")
    await connected(stage, url(node), await token(node, "alice"))
    await stage.run("app.seen = []; app.client.onPresence(({ user, online }) => app.seen.push([user, online]))")
    present = await stage.run("return [...await app.client.watch(['bob', 'carol'])]")
    assert [(user, state["online"]) for user, state in present] == [("bob", False), ("carol", False)]
    bob = await login(node, "bob")
    await until(stage, "app.seen.length === 1")
    assert await stage.run("return app.client.presence('bob').platforms") == ["web"]
    await bob.close()
    await until(stage, "app.seen.length === 2")
    assert await stage.run("return app.seen") == [["bob", True], ["bob", False]]
    assert await stage.run("return app.client.presence('bob').lastSeen") > 0
    await stage.run("await app.client.unwatch('bob')")
    assert await stage.run("return app.client.presence('bob')") is None


async def test_what_changed_during_a_break_is_told_after_it(node: Node, stage: Stage) -> None:
    async with in_front_of(node) as proxy:
        await connected(stage, url(node, proxy), await token(node, "alice"))
        await stage.run("app.seen = []; app.client.onPresence(({ user, online }) => app.seen.push([user, online]))")
        # More than one command takes.
        await stage.run("await app.client.watch(['bob', ...Array.from({ length: 249 }, (_, n) => `u${n}`)])")
        proxy.refuse()
        await until(stage, "app.client.state !== 'live'")
        bob = await login(node, "bob")
        proxy.accept()
        await until(stage, "app.seen.length === 1")
        assert await stage.run("return app.seen") == [["bob", True]]
        [session] = node.hub.of("alice")
        await eventually(lambda: len(session.watching or ()) == 250)
        await bob.close()
        await until(stage, "app.seen.length === 2")
    assert await told(stage, "faults") == []


async def test_watching_again_is_tried_again(node: Node, stage: Stage) -> None:
    async with in_front_of(node) as proxy:
        await connected(stage, url(node, proxy), await token(node, "alice"))
        await stage.run("await app.client.watch(['bob'])")
        await stage.run("""
            const ask = app.client.ask;
            app.client.ask = async () => {
                app.client.ask = ask;
                throw new sdk.Unavailable(503, 'the store is away');
            };
        """)
        proxy.cut()
        await until(stage, "app.of.client.faults.length > 0 && app.client.state === 'live'")
        await eventually(lambda: [session.watching for session in node.hub.of("alice")] == [{"bob"}])
    assert await told(stage, "faults") == ["Unavailable: the store is away (503)"]


async def test_a_session_of_another_device_is_told(node: Node, stage: Stage) -> None:
    alice = await token(node, "alice")
    await connected(stage, url(node), alice, device="desk", platform="desktop")
    await stage.run("app.seen = []; app.client.onSession((change) => app.seen.push(change))")
    phone = await login(node, "alice", "?platform=ios&device=phone", alice)
    await until(stage, "app.seen.length === 1")
    listed = await all_of(stage, "app.client.sessions.list()")
    assert isinstance(listed, list)
    assert sorted((each["device"], each["this"]) for each in listed) == [("desk", True), ("phone", False)]
    await stage.run("await app.client.sessions.drop(app.seen[0].session)")
    assert (await phone.closed())[0] == 4505
    await until(stage, "app.seen.length === 2")
    assert await stage.run("return app.seen.map(({ event, device }) => [event, device])") == [
        ["opened", "phone"],
        ["closed", "phone"],
    ]


async def test_the_lists(node: Node, stage: Stage) -> None:
    await connected(stage, url(node), await token(node, "alice"))
    await stage.run("await app.client.blocklist.add(Array.from({ length: 250 }, (_, n) => `u${n}`))")
    listed = await all_of(stage, "app.client.blocklist.list()")
    assert isinstance(listed, list)
    assert sorted(listed) == sorted(f"u{number}" for number in range(250))
    assert await stage.run("return [...await app.client.blocklist.check(['u1', 'bob'])]") == [
        ["u1", True],
        ["bob", False],
    ]
    await stage.run("await app.client.blocklist.remove(Array.from({ length: 250 }, (_, n) => `u${n}`))")
    assert await all_of(stage, "app.client.blocklist.list()") == []
    assert await stage.run("return await app.client.allowlist.status()") is False
    await stage.run("await app.client.allowlist.enable(); await app.client.allowlist.add('bob')")
    assert await stage.run("return await app.client.allowlist.status()") is True
    assert await all_of(stage, "app.client.allowlist.list()") == ["bob"]
    await stage.run("await app.client.allowlist.remove('bob'); await app.client.allowlist.disable()")
    assert await stage.run("return [...await app.client.friends.check('bob')]") == [["bob", False]]
    assert await all_of(stage, "app.client.friends.list()") == []
    assert await stage.run("return await app.client.ping()") > 1_700_000_000_000
    name = "return await app.client.ask('no.such.command').catch(({ name }) => name)"
    assert await stage.run(name) == "Malformed"


async def test_names_come_from_the_gateway_and_are_kept(node: Node, stage: Stage) -> None:
    await node.services.tokens.issue("bob", "Bob", "https://example.com/bob.png")
    await connected(stage, url(node), await token(node, "alice"))
    assert await stage.run("return app.client.users.cached('bob') === undefined")
    bob = await stage.run("return await app.client.users.get('bob')")
    assert (bob["user"], bob["name"], bob["avatarUrl"]) == ("bob", "Bob", "https://example.com/bob.png")
    assert await stage.run("return await app.client.users.get('nobody')") is None
    assert await stage.run("return app.client.users.cached('nobody')") is None
    await node.services.tokens.issue("bob", "Robert")
    assert (await stage.run("return await app.client.users.get('bob')"))["name"] == "Bob"
    await stage.run("app.changes = []; app.client.users.onChange((user, info) => app.changes.push([user, info?.name]))")
    assert (await stage.run("return await app.client.users.refresh('bob')"))["name"] == "Robert"
    await stage.run("await app.client.users.refresh('bob')")
    assert await stage.run("return app.changes") == [["bob", "Robert"]]
    # Who was not known before is something else as well.
    await stage.run("await app.client.users.getMany(['bob', 'alice'])")
    assert await stage.run("return app.changes") == [["bob", "Robert"], ["alice", "Alice"]]


async def test_names_may_come_from_the_app_asked_for_together(node: Node, stage: Stage) -> None:
    await connected(stage, url(node), await token(node, "alice"))
    await stage.run("""
        app.asked = [];
        app.client.users.setProvider(async (users) => {
            app.asked.push(users.length);
            if (users.includes('broken')) throw new Error('the directory is away');
            return users.filter((user) => user !== 'nobody').map((user) => ({ user, name: user.toUpperCase() }));
        });
    """)
    got = await stage.run("""
        const { users } = app.client;
        const people = Array.from({ length: 45 }, (_, number) => `u${number}`);
        const [many, one, none] = await Promise.all([users.getMany(people), users.get('u1'), users.get('nobody')]);
        return [many.size, many.get('u44').name, one.name, none];
    """)
    assert got == [45, "U44", "U1", None]
    # Each once, at most twenty at a time.
    assert await stage.run("return app.asked") == [20, 20, 6]
    assert await stage.run("return (await app.client.users.getMany(['u1', 'u2'])).size") == 2
    assert await stage.run("return app.asked.length") == 3
    assert (
        await stage.run("return await app.client.users.get('broken').catch(String)") == "Error: the directory is away"
    )
    # Nothing is kept of a failure.
    assert await stage.run("return app.client.users.cached('broken') === undefined")
