"""Sending and receiving through the JavaScript SDK."""

from __future__ import annotations

import pytest

from gateway.node import Node
from gateway.store.recalls import Target
from tests.nodes import login
from tests.sdk.apps import connected, listen, prepare, told, url
from tests.sdk.stage import Stage, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def token(node: Node, user: str) -> str:
    return await node.services.tokens.issue(user, user.title())


async def test_two_people_talk(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    await connected(stage, url(node), await token(node, "alice"))
    named = await stage.run("const { state, user, device, node } = app.client; return [state, user, device, node]")
    assert named == ["live", "alice", "d1", bob.welcome["node"]]
    sent = await stage.run("return await app.client.send('bob', {text: 'grüße 👋'}, {kind: 'note'})")
    got = await bob.next("message")
    assert (got["mid"], got["kind"], got["body"]) == (sent["mid"], "note", {"text": "grüße 👋"})
    assert sent["online"] is True
    assert sent["sentAt"] == got["sent_at"]
    await bob.send("alice", [1, None, "x"])
    [message] = await until(stage, "app.of.client.messages.length > 0 && app.of.client.messages")
    assert (message["from"], message["to"], message["body"]) == ("bob", "alice", [1, None, "x"])
    await bob.close()
    await stage.run("await app.client.close()")
    assert await told(stage, "states") == ["connecting", "live", "stopped"]
    assert await stage.run("return await app.client.stopped()") is None
    assert await told(stage, "faults") == []


async def test_messages_to_one_recipient_keep_their_order(node: Node, stage: Stage) -> None:
    await connected(stage, url(node), await token(node, "alice"))
    await connected(stage, url(node), await token(node, "bob"), "bob")
    await stage.run("""
        app.texts = Array.from({ length: 100 }, (_, number) => `${number} ${'x'.repeat((number % 7) * 20000)}`);
        await Promise.all(app.texts.map((text) => app.client.send('bob', text)));
    """)
    await until(stage, "app.of.bob.messages.length >= 100")
    assert await stage.run("""
        const got = app.of.bob.messages.map(({ body }) => body);
        return got.length === 100 && got.every((text, number) => text === app.texts[number]);
    """)


async def test_a_message_of_another_life_of_the_app_is_stored_once(node: Node, stage: Stage) -> None:
    await node.services.tokens.issue("bob", "Bob")
    await connected(stage, url(node), await token(node, "alice"))
    sent = await stage.run("""
        const first = await app.client.send('bob', 'once', { key: 'order-7' });
        return [first, await app.client.send('bob', 'once', { key: 'order-7', retry: true })];
    """)
    assert (sent[0]["mid"], sent[0]["sentAt"]) == (sent[1]["mid"], sent[1]["sentAt"])
    refused = await stage.run("return app.client.send('bob', 'once', { retry: true }).catch((error) => error.name)")
    assert refused == "TypeError"


async def test_refusals_are_typed_errors(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    await bob.ask("blocklist.add", users=["alice"])
    await bob.close()
    await node.services.tokens.issue("carol", "Carol")
    await node.services.relationships.enable_allowlist(["carol"], True)
    await connected(stage, url(node), await token(node, "alice"))
    refused = """
        const refused = async (...given) => {
            try { await app.client.send(...given); } catch (error) {
                return [error.constructor === sdk[error.name] && error instanceof sdk.Refused, error.name, error.code];
            }
        };
    """
    for to, kind, code in (("bob", "Blocked", 405), ("carol", "NotAllowed", 407), ("nobody", "NoSuchUser", 404)):
        assert await stage.run(f"{refused} return await refused('{to}', 'hello')") == [True, kind, code]
    # Over the limit of a body, which the gateway says; over that of a frame, at which it would close the connection.
    for size in (140_000, 2_000_000):
        large = await stage.run(f"{refused} return await refused('carol', 'é'.repeat({size} / 2))")
        assert large == [True, "TooLarge", 30016]
    assert await stage.run(f"{refused} return await refused('', 1)") == [True, "Malformed", 400]
    assert await stage.run("return await app.client.send('bob', undefined).catch(({ name }) => name)") == "TypeError"
    assert await told(stage, "states") == ["connecting", "live"]


async def test_an_ephemeral_message_is_stored_nowhere_and_waits_for_nobody(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    await prepare(stage, url(node), await token(node, "alice"))
    early = "return await app.client.send('bob', 'typing', {ephemeral: true}).catch(({ name }) => name)"
    assert await stage.run(early) == "Closed"
    await stage.run("await app.client.connect()")
    await stage.run("await app.client.send('bob', 'typing', {ephemeral: true})")
    got = await bob.next("message")
    assert got["body"] == "typing"
    assert "cursor" not in got
    await bob.send("alice", "typing too", ephemeral=True)
    await listen(stage)
    [message] = await until(stage, "app.of.client.messages.length > 0 && app.of.client.messages")
    assert (message["body"], message["cursor"]) == ("typing too", None)
    await bob.close()


async def test_messages_can_be_iterated_over_and_count_when_the_next_is_asked_for(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    alice = await token(node, "alice")
    await prepare(stage, url(node), alice)
    await stage.run("await app.client.connect()")
    for number in range(3):
        await bob.send("alice", number)
    got = await stage.run("""
        const got = [];
        for await (const { body } of app.client) {
            got.push(body);
            if (got.length === 3) break;
        }
        return got;
    """)
    assert got == [0, 1, 2]
    both = "app.client.onMessage(() => {}); return await app.client[Symbol.asyncIterator]().next().catch(String)"
    assert "one place" in await stage.run(both)
    await stage.run("await app.client.close()")
    # Two were taken over, and that the third was is not known.
    await connected(stage, url(node), alice, "again")
    await until(stage, "app.of.again.messages.length > 0")
    await bob.send("alice", "last")
    await until(stage, "app.of.again.messages.at(-1)?.body === 'last'")
    assert await stage.run("return app.of.again.messages.map(({ body }) => body)") == [2, "last"]
    await bob.close()


async def test_iteration_ends_with_the_client(node: Node, stage: Stage) -> None:
    await prepare(stage, url(node), await token(node, "alice"))
    await stage.run("""
        await app.client.connect();
        app.ending = (async () => { for await (const _ of app.client); return 'over'; })().catch(({ name }) => name);
        await app.client.close();
    """)
    assert await stage.run("return await app.ending") == "over"
    await stage.run("""
        await app.client.connect();
        app.ending = (async () => { for await (const _ of app.client); return 'over'; })().catch(({ name }) => name);
    """)
    await node.services.control.kick(users=["alice"])
    assert await stage.run("return await app.ending") == "Kicked"


async def test_recalls_and_updates_come_in_order_with_messages(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    await prepare(stage, url(node), await token(node, "alice"))
    await stage.run("""
        const { client } = app;
        app.seen = [];
        client.onMessage(async ({ body }) => {
            await new Promise((resolve) => setTimeout(resolve, 20));
            app.seen.push(body);
        });
        client.onUpdated(({ body, from }) => app.seen.push({ body, from }));
        client.onRecalled(({ mid }) => app.seen.push(mid));
        await client.connect();
    """)
    first, second = await bob.send("alice", "first"), await bob.send("alice", "second")
    await node.services.messages.update(Target(first["mid"], "bob", "alice"), "mended")
    await node.services.messages.recall(Target(second["mid"], "bob", "alice"))
    await bob.send("alice", "third")
    await until(stage, "app.seen.at(-1) === 'third'")
    seen = await stage.run("return app.seen")
    assert seen == ["first", "second", {"body": "mended", "from": "bob"}, second["mid"], "third"]
    await bob.close()


async def test_what_the_handler_has_not_returned_from_comes_again_elsewhere(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    alice = await token(node, "alice")
    await prepare(stage, url(node), alice)
    await stage.run("""
        app.seen = [];
        app.client.onMessage(({ body }) => {
            app.seen.push(body);
            return body === 2 ? new Promise(() => {}) : undefined;
        });
        await app.client.connect();
    """)
    for number in range(4):
        await bob.send("alice", number)
    await until(stage, "app.seen.length === 3")
    await stage.run("await app.client.close()")
    await connected(stage, url(node), alice, "later")
    await until(stage, "app.of.later.messages.length === 2")
    assert await stage.run("return app.of.later.messages.map(({ body }) => body)") == [2, 3]
    await bob.close()


async def test_what_was_received_counts_at_once_where_the_app_wants_it_so(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    alice = await token(node, "alice")
    await prepare(stage, url(node), alice, ack="received")
    await stage.run("""
        app.seen = [];
        app.client.onMessage(({ body }) => {
            app.seen.push(body);
            return new Promise(() => {});
        });
        await app.client.connect();
    """)
    for number in range(3):
        await bob.send("alice", number)
    await until(stage, "app.seen.length === 1")
    # The others have come too: a reply follows what was pushed before it.
    await stage.run("await app.client.ping(); await app.client.close()")
    await connected(stage, url(node), alice, "later")
    await bob.send("alice", "new")
    await until(stage, "app.of.later.messages.length > 0")
    assert await stage.run("return app.of.later.messages.map(({ body }) => body)") == ["new"]
    await bob.close()


async def test_a_handler_that_fails_is_told_and_the_next_message_comes(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    await prepare(stage, url(node), await token(node, "alice"))
    await stage.run("""
        app.seen = [];
        app.client.onMessage(async ({ body }) => {
            if (body === 0) throw new Error('no good');
            app.seen.push(body);
        });
        await app.client.connect();
    """)
    await bob.send("alice", 0)
    await bob.send("alice", 1)
    await until(stage, "app.seen.length === 1")
    assert await told(stage, "faults") == ["Error: no good"]
    await bob.close()


async def test_the_place_is_kept_by_the_apps_own_hook(node: Node, stage: Stage) -> None:
    bob = await login(node, "bob")
    alice = await token(node, "alice")
    # Without a device the gateway remembers nothing of what was handled.
    await prepare(stage, url(node), alice, device=None)
    await stage.run("await app.client.close()")
    keeps = """
        app.kept ??= { cursor: null, saves: 0 };
        const cursors = {
            load: async () => app.kept.cursor,
            save: async (cursor) => { app.kept.cursor = cursor; app.kept.saves += 1; },
        };
        app.seen = [];
    """
    start = f"""
        {keeps}
        const client = app.keeping = new sdk.Client('{url(node)}', {{ token: '{alice}', cursors }});
        client.onMessage(({{ body }}) => {{ app.seen.push(body); }});
        await client.connect();
    """
    await stage.run(start)
    for number in range(200):
        await bob.send("alice", number)
    await until(stage, "app.seen.length === 200")
    await stage.run("await app.keeping.close()")
    # In batches, not one by one.
    assert await stage.run("return app.kept.saves") < 200
    await bob.send("alice", "new")
    await stage.run(start)
    await until(stage, "app.seen.length > 0")
    assert await stage.run("return app.seen") == ["new"]
    await bob.close()


async def test_a_cursor_hook_that_is_slow_or_fails_is_asked_again_with_the_newest(node: Node, stage: Stage) -> None:
    bob, alice = await login(node, "bob"), await token(node, "alice")
    await stage.run(f"""
        app.saves = [];
        app.seen = [];
        const save = (cursor) => {{
            app.saves.push(cursor);
            if (app.saves.length === 1) return new Promise((resolve) => {{ app.saved = resolve; }});
            if (app.saves.length === 2) throw new Error('the disk is full');
        }};
        const options = {{ token: '{alice}', cursors: {{ load() {{}}, save }} }};
        const client = app.slow = new sdk.Client('{url(node)}', options);
        client.onError((error) => {{ app.fault = String(error); }});
        client.onMessage((message) => {{ app.seen.push(message); }});
        await client.connect();
    """)
    await until(stage, "app.saves.length === 1")
    for number in range(150):
        await bob.send("alice", number)
    await until(stage, "app.seen.length === 150")
    assert await stage.run("app.slow.close(); return app.saves.length") == 1
    await stage.run("app.saved()")
    # One for all that came meanwhile.
    await until(stage, "app.fault")
    assert await stage.run("return [app.saves.length, app.saves[1] === app.seen.at(-1).cursor]") == [2, True]
    await stage.run("await app.slow.connect()")
    await bob.send("alice", "last")
    await until(stage, "app.saves.at(-1) === app.seen.at(-1).cursor && app.seen.length === 151")
    await stage.run("await app.slow.close()")
    await bob.close()


async def test_ones_own_other_device_gets_the_echo(node: Node, stage: Stage) -> None:
    await node.services.tokens.issue("bob", "Bob")
    alice = await token(node, "alice")
    await connected(stage, url(node), alice, "phone", device="phone", platform="ios")
    await connected(stage, url(node), alice, "desk", device="desk", platform="desktop")
    sent = await stage.run("return await app.phone.send('bob', 'from my phone')")
    [echo] = await until(stage, "app.of.desk.messages.length > 0 && app.of.desk.messages")
    assert (echo["mid"], echo["from"], echo["to"], echo["device"]) == (sent["mid"], "alice", "bob", "phone")
    assert await told(stage, "messages", "phone") == []
