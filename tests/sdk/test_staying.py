"""Staying connected through the JavaScript SDK: tokens, closes, broken links, and what waits meanwhile."""

from __future__ import annotations

import time

import pytest

from gateway.core.close import Closing
from gateway.node import Node
from gateway.protocol import codes
from tests.integration.fleet import BRISK
from tests.nodes import Client, login, running_node
from tests.sdk.apps import connected, in_front_of, prepare, told, url
from tests.sdk.stage import Stage, until
from tests.servers import Server
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def token(node: Node, user: str, seconds: int | None = None) -> str:
    return await node.services.tokens.issue(user, user.title(), lifetime_s=seconds)


async def texts(bob: Client, count: int) -> list[object]:
    """The bodies of the next so many messages."""
    return [(await bob.next("message"))["body"] for _ in range(count)]


# Tokens.


async def test_a_token_that_ends_soon_is_swapped_for_a_fresh_one(node: Node, stage: Stage) -> None:
    short, long = await token(node, "alice", 30), await token(node, "alice", 3600)
    await connected(stage, url(node), [short, long])
    await until(stage, "app.of.client.asked === 2")
    [session] = node.hub.of("alice")
    await eventually(lambda: (session.expires_at or 0) > (time.time() + 1800) * 1000)
    assert await told(stage, "states") == ["connecting", "live"]


async def test_tokens_that_are_all_short_are_not_swapped_without_end(node: Node, stage: Stage) -> None:
    await connected(stage, url(node), [await token(node, "alice", 50)])
    await until(stage, "app.of.client.asked > 1")
    for _ in range(20):
        await stage.run("await app.client.ping()")
    assert await told(stage, "asked") == 2
    assert await told(stage, "faults") == []


async def test_a_refresh_that_fails_is_told_and_tried_again(node: Node, stage: Stage) -> None:
    short, long = await token(node, "alice", 30), await token(node, "alice", 3600)
    await connected(stage, url(node), [short, "nonsense", long])
    [session] = node.hub.of("alice")
    await eventually(lambda: (session.expires_at or 0) > (time.time() + 1800) * 1000, 10)
    assert len(await told(stage, "faults")) == 1
    assert await told(stage, "states") == ["connecting", "live"]


async def test_every_attempt_asks_for_a_token_afresh(node: Node, stage: Stage) -> None:
    async with in_front_of(node) as proxy:
        await connected(stage, url(node, proxy), [await token(node, "alice")])
        for times in (2, 3):
            proxy.cut()
            await until(stage, f"app.of.client.resumed.length === {times}")
        assert await told(stage, "asked") == 3


async def test_a_token_function_that_fails_is_asked_again(node: Node, stage: Stage) -> None:
    await stage.run(f"""
        let asked = 0;
        const token = () => {{
            asked += 1;
            if (asked === 1) throw new Error('the app is away');
            return '{await token(node, "alice")}';
        }};
        const client = app.client = new sdk.Client('{url(node)}', {{ token }});
        app.faults = [];
        client.onError(({{ message }}) => app.faults.push(message));
        await client.connect();
    """)
    assert await stage.run("return app.faults") == ["the app is away"]


async def test_a_voided_token_is_replaced_once_and_then_it_is_over(node: Node, stage: Stage) -> None:
    old = await token(node, "alice")
    await connected(stage, url(node), [old, await token(node, "alice")])
    # Voided by its own id: the second is good.
    [session] = node.hub.of("alice")
    await node.services.tokens.revoke("alice", session.jti)
    await until(stage, "app.of.client.resumed.length === 2")
    await node.services.tokens.revoke("alice", next(iter(node.hub.of("alice"))).jti)
    await until(stage, "app.of.client.why?.name === 'TokenExpired'")
    # The same token once more, which is all that the app had.
    assert await told(stage, "asked") == 3
    why = await stage.run("const { closeCode, code } = app.of.client.why; return [closeCode, code]")
    assert why == [4501, 31020]


async def test_a_token_given_as_text_is_tried_once(node: Node, stage: Stage) -> None:
    await prepare(stage, url(node), "nonsense")
    assert await stage.run("return await app.client.connect().catch(({ name }) => name)") == "TokenInvalid"
    assert await told(stage, "states") == ["connecting", "stopped"]
    # Not a subprotocol's name: it goes as a command.
    await prepare(stage, url(node), "no/subprotocol's name", "other")
    assert await stage.run("return await app.other.connect().catch(({ name }) => name)") == "TokenInvalid"


# Closes that say stop.


async def test_a_kicked_client_does_not_come_again(node: Node, stage: Stage) -> None:
    await connected(stage, url(node), [await token(node, "alice")])
    await node.services.control.kick(users=["alice"], reason="that will do")
    await until(stage, "app.of.client.why")
    why = await stage.run("const { name, closeCode, reason } = app.of.client.why; return [name, closeCode, reason]")
    assert why == ["Kicked", 4505, "that will do"]
    assert await stage.run("return app.of.client.why instanceof sdk.Stopped") is True
    assert await stage.run("return await app.client.send('bob', 1).catch(({ name }) => name)") == "Kicked"
    assert await stage.run("return await app.client.ping().catch(({ name }) => name)") == "Kicked"
    assert await told(stage, "states") == ["connecting", "live", "stopped"]
    assert await told(stage, "asked") == 1
    # Unless the app says so.
    await stage.run("await app.client.connect()")
    assert await stage.run("return app.client.state") == "live"
    bob = await login(node, "bob")
    await bob.send("alice", "welcome back")
    await until(stage, "app.of.client.messages.length === 1")
    await bob.close()


async def test_a_ban_says_until_when(node: Node, stage: Stage) -> None:
    alice = await token(node, "alice")
    await connected(stage, url(node), alice)
    await node.services.bans.ban(["alice"], minutes=5)
    await until(stage, "app.of.client.why")
    name, until_ms = await stage.run("const { name, until } = app.of.client.why; return [name, until]")
    assert name == "Banned"
    assert abs(until_ms - (time.time() + 300) * 1000) < 60_000
    await prepare(stage, url(node), alice, "again")
    assert await stage.run("return await app.again.connect().catch(({ name }) => name)") == "Banned"


async def test_a_newer_login_replaces_the_older(node: Node, stage: Stage) -> None:
    alice = await token(node, "alice")
    await connected(stage, url(node), alice, "old", device="one", platform="web")
    await connected(stage, url(node), alice, "new", device="two", platform="web")
    await until(stage, "app.of.old.why?.name === 'Replaced'")
    assert await stage.run("return app.new.state") == "live"


async def test_what_waits_fails_when_the_client_stops(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    async with in_front_of(node) as proxy:
        await connected(stage, url(node, proxy), await token(node, "alice"))
        proxy.pause(to_server=False)
        # The first is written and its answer held back; the second waits behind it.
        await stage.run("""
            const failed = (error) => [error.name, error.cause?.name ?? null];
            app.outcomes = Promise.all([1, 2].map((body) => app.client.send('bob', body).catch(failed)));
        """)
        assert await texts(bob, 1) == [1]
        await stage.run("await app.client.close()")
        outcomes = await stage.run("return await app.outcomes")
    assert outcomes == [["OutcomeUnknown", "Closed"], ["Closed", None]]
    await bob.close()


# Closes and breaks after which it comes again.


async def test_a_drained_client_comes_again_and_misses_nothing(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    await connected(stage, url(node), await token(node, "alice"))
    await node.listener.drain(0)
    node.listener.resume()
    assert (await bob.closed())[0] == 1001
    bob = await login(node, "bob")
    await bob.send("alice", "while away or not")
    await until(stage, "app.of.client.messages.length === 1")
    assert await told(stage, "states") == ["connecting", "live", "waiting", "connecting", "live"]
    assert await told(stage, "resumed") == [True, True]
    await bob.close()


async def test_it_does_not_come_before_the_gateway_said(node: Node, stage: Stage) -> None:
    """The pause is the one that the close names, not the back-off's, which may be none."""
    await connected(stage, url(node), await token(node, "alice"))
    await stage.run("""
        const { client } = app;
        app.times = [];
        client.onState(() => app.times.push(performance.now()));
        // The shortest back-off there is.
        Math.random = () => 0;
    """)
    [session] = node.hub.of("alice")
    session.cut(Closing.of(codes.TRY_LATER, "come later", retry_after_ms=700))
    await until(stage, "app.times.length === 3")
    waiting, connecting = (await stage.run("return app.times"))[:2]
    assert connecting - waiting >= 690


async def test_a_broken_link_is_replaced_and_nothing_is_lost_or_doubled(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    async with in_front_of(node) as proxy:
        await connected(stage, url(node, proxy), await token(node, "alice"))
        for number in range(60):
            await bob.send("alice", number)
            if number % 20 == 10:
                proxy.cut()
        await until(stage, "app.of.client.messages.length >= 60")
        assert await stage.run("return app.of.client.messages.map(({ body }) => body)") == list(range(60))
        assert False not in await told(stage, "resumed")
    await bob.close()


async def test_a_dead_link_is_noticed_and_replaced(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    async with in_front_of(node) as proxy:
        await connected(stage, url(node, proxy), await token(node, "alice"), heartbeatS=0.2)
        proxy.pause()
        await bob.send("alice", "into the void")
        await until(stage, "app.client.state !== 'live'")
        proxy.cut()
        proxy.resume()
        await until(stage, "app.of.client.messages.length === 1")
    await bob.close()


async def test_a_live_link_is_left_alone(node: Node, stage: Stage) -> None:
    # An answer has as long as lies between two pings: no longer than that may this machine stand still.
    await connected(stage, url(node), await token(node, "alice"), heartbeatS=1)
    [session] = node.hub.of("alice")
    # Some pings of an idle client, each answered.
    await until(stage, "performance.now() - (app.begun ??= performance.now()) > 4500", 20)
    assert await told(stage, "states") == ["connecting", "live"]
    assert [*node.hub.of("alice")] == [session]


async def test_what_is_sent_while_away_waits_and_keeps_its_order(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    async with in_front_of(node) as proxy:
        await connected(stage, url(node, proxy), await token(node, "alice"), queueMax=20)
        proxy.refuse()
        await until(stage, "app.client.state !== 'live'")
        await stage.run("""
            app.sending = Promise.all(Array.from({ length: 20 }, (_, number) => app.client.send('bob', number)));
            app.over = await app.client.send('bob', 'one too many').catch(({ name }) => name);
            app.fleeting = await app.client.send('bob', 'x', { ephemeral: true }).catch(({ name }) => name);
        """)
        assert await stage.run("return [app.over, app.fleeting]") == ["QueueFull", "Unavailable"]
        proxy.accept()
        assert await texts(bob, 20) == list(range(20))
        assert await stage.run("return (await app.sending).length") == 20
    await bob.close()


async def test_a_message_whose_answer_was_lost_is_repeated_and_stored_once(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    async with in_front_of(node) as proxy:
        await connected(stage, url(node, proxy), await token(node, "alice"))
        proxy.pause(to_server=False)
        await stage.run("app.sending = Promise.all(['first', 'second'].map((text) => app.client.send('bob', text)))")
        first = await bob.next("message")
        proxy.cut()
        proxy.resume()
        sent = await stage.run("return await app.sending")
    assert sent[0]["mid"] == first["mid"]
    assert await texts(bob, 1) == ["second"]
    await bob.close()


async def test_an_answer_that_does_not_come_in_time_is_asked_for_again(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    async with in_front_of(node) as proxy:
        await connected(stage, url(node, proxy), await token(node, "alice"), answerS=0.3)
        proxy.pause(to_server=False)
        await stage.run("app.sending = app.client.send('bob', 'hello')")
        first = await bob.next("message")
        # The same link all along: a repeat is on its way before the first answer gets through.
        await until(stage, "(app.turns = (app.turns ?? 0) + 1) > 100")
        proxy.resume()
        assert (await stage.run("return await app.sending"))["mid"] == first["mid"]
        await stage.run("await app.client.send('bob', 'next')")
        assert await texts(bob, 1) == ["next"]
        assert await told(stage, "states") == ["connecting", "live"]
    await bob.close()


async def test_time_is_up_for_a_message(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    async with in_front_of(node) as proxy:
        await connected(stage, url(node, proxy), await token(node, "alice"), sendS=0.5)
        proxy.pause(to_server=False)
        await stage.run("app.out = app.client.send('bob', 'out').catch(({ name }) => name)")
        assert await texts(bob, 1) == ["out"]
        assert await stage.run("return await app.out") == "OutcomeUnknown"
        proxy.refuse()
        await until(stage, "app.client.state !== 'live'")
        assert await stage.run("return await app.client.send('bob', 'in').catch(({ name }) => name)") == "Unavailable"
        proxy.resume()
    await bob.close()


async def test_nobody_there(node: Node, stage: Stage) -> None:
    async with in_front_of(node) as proxy:
        proxy.refuse()
        await prepare(stage, url(node, proxy), await token(node, "alice"), connectS=0.5)
        assert await stage.run("return await app.client.connect().catch(({ name }) => name)") == "Unreachable"
        assert await stage.run("return app.client.state") == "stopped"
        proxy.accept()
        await stage.run("await app.client.connect()")
        assert await stage.run("return app.client.state") == "live"


async def test_a_message_is_sent_once_the_store_is_back(stage: Stage, fresh_valkey: Server) -> None:
    async with running_node(fresh_valkey.url, origins=("*",), probe_s=0.2, probe_timeout_s=0.3) as node:
        bob = await login(node, "bob")
        await connected(stage, url(node), await token(node, "alice"))
        fresh_valkey.pause()
        await stage.run("app.sending = app.client.send('bob', 'hello')")
        await stage.run("app.asking = app.client.blocklist.add('carol').then(() => 'done', ({ name }) => name)")
        await eventually(lambda: any(session.gate.away for session in node.hub.of("alice")), 10)
        fresh_valkey.resume()
        assert (await bob.next("message", 15))["body"] == "hello"
        assert (await stage.run("return await app.sending"))["mid"]
        assert await stage.run("return await app.asking") in ("done", "OutcomeUnknown")
        await stage.run("await app.client.close()")
        await bob.close()


async def test_more_than_may_wait_stays_at_the_gateway(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    await prepare(stage, url(node), await token(node, "alice"), incomingMax=10)
    await stage.run("""
        app.seen = [];
        app.gate = new Promise((resolve) => { app.open = resolve; });
        app.client.onMessage(async ({ body }) => {
            await app.gate;
            app.seen.push(body);
        });
        await app.client.connect();
    """)
    for number in range(40):
        await bob.send("alice", number)
    await until(stage, "app.of.client.faults.length === 1")
    assert "wait to be handled" in str(await stage.run("return app.of.client.faults[0]"))
    # Sending goes on; when half of what waits was handled, a new link brings the rest.
    session = await stage.run("return app.client.session")
    await stage.run("await app.client.send('bob', 'still here')")
    assert (await bob.next("message"))["body"] == "still here"
    await stage.run("app.open()")
    await until(stage, "app.seen.length >= 40")
    assert await stage.run("return app.seen") == list(range(40))
    assert await stage.run("return app.client.session") != session
    await bob.close()


async def test_a_flood_goes_at_the_rate_that_the_gateway_allows(stage: Stage, valkey: Server) -> None:
    """More waits than may be sent at once: paced, and no error comes of it."""
    async with running_node(valkey.url, origins=("*",), send_rate_per_s=200, send_burst=200) as node:
        people = [f"user{number}" for number in range(300)]
        for user in people:
            await node.services.tokens.issue(user, user)
        await connected(stage, url(node), await token(node, "alice"))
        sent = await stage.run("""
            const people = Array.from({ length: 300 }, (_, number) => `user${number}`);
            return (await Promise.all(people.map((user) => app.client.send(user, 'hello')))).length;
        """)
        assert sent == len(people)
        assert await told(stage, "states") == ["connecting", "live"]
        await stage.run("await app.client.close()")


async def test_a_restarted_store_replays_and_the_app_sees_each_message_once(stage: Stage, fresh_valkey: Server) -> None:
    """The session lives on in a new epoch: what waits to be handled comes again, and its old cursors mean nothing."""
    async with running_node(fresh_valkey.url, origins=("*",), **BRISK) as node:
        bob = await login(node, "bob")
        await prepare(stage, url(node), await token(node, "alice"))
        await stage.run("""
            app.seen = [];
            app.gate = new Promise((resolve) => { app.open = resolve; });
            app.client.onMessage(async ({ body }) => {
                await app.gate;
                app.seen.push(body);
            });
            await app.client.connect();
        """)
        for number in range(3):
            await bob.send("alice", number)
        [session] = node.hub.of("alice")
        epoch = session.epoch
        fresh_valkey.restart()
        await until(stage, "app.of.client.resumed.length === 2", 15)
        assert await told(stage, "resumed") == [True, False]
        assert session.epoch != epoch
        await stage.run("app.open()")
        await until(stage, "app.seen.length >= 3")
        await stage.run("await app.client.send('bob', 'and I can talk')")
        await bob.next("message", 10)
        await bob.send("alice", "after")
        await until(stage, "app.seen.at(-1) === 'after'")
        assert await stage.run("return app.seen") == [0, 1, 2, "after"]
        assert await stage.run("return app.client.duplicates") == 3
        assert await told(stage, "states") == ["connecting", "live"]
        # All of it was acked, in the new epoch: nothing comes again.
        await stage.run("await app.client.close()")
        await connected(stage, url(node), await token(node, "alice"), "later")
        await bob.send("alice", "last")
        await until(stage, "app.of.later.messages.length > 0")
        assert await stage.run("return app.of.later.messages.map(({ body }) => body)") == ["last"]
        await stage.run("await app.later.close()")
        await bob.close()
