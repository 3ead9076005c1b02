"""The pre-message check: the app's own server decides, and neither order nor a drop suffers from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.metrics import METRICS
from gateway.node import Node
from gateway.protocol.codes import Code
from tests.app_server import Answer, AppServer, app_server
from tests.integration.fleet import everything
from tests.nodes import CREDENTIALS, Client, login, running_node
from tests.servers import Server
from tests.waiting import eventually

CHECK = "direct_channel:pre_messaging"


@asynccontextmanager
async def checking(server: Server, **changes: Any) -> AsyncIterator[tuple[AppServer, Node]]:
    """A node that asks, and whom it asks."""
    settings: dict[str, Any] = {"webhook_events": (CHECK,)} | changes
    async with app_server() as app, running_node(server.url, webhook_url=app.url, **settings) as node:
        yield app, node


def stored(server: Server, user: str) -> int:
    """How many entries the user's inbox has."""
    with server.client() as redis:
        return sum(int(redis.xlen(key)) for key in redis.keys(f"gw:*:in:{user}"))


async def pair(node: Node) -> tuple[Client, Client]:
    return await login(node, "alice", "?platform=ios"), await login(node, "bob")


async def test_the_question_bears_the_message_and_a_yes_lets_it_pass(valkey: Server) -> None:
    async with checking(valkey) as (app, node):
        alice, bob = await pair(node)
        app.answer = lambda _: (200, {"pass": 1, "extra": "mind your words"})
        sent = await alice.send("bob", {"text": "hi"}, kind="RC:TxtMsg")
        assert (sent["type"], sent["extra"]) == ("sent", "mind your words")
        push = await bob.next("message")
        assert (push["mid"], push["body"]) == (sent["mid"], {"text": "hi"})
        [request] = app.told(CHECK)
        assert request.data == {
            "appKey": CREDENTIALS.app_key,
            "userId": "alice",
            "channelId": "bob",
            "messageType": "RC:TxtMsg",
            "content": '{"text":"hi"}',
            "channelType": 1,
            "time": request.body["time"],
            "messageId": sent["mid"],
            "os": "iOS",
            "profanityType": 0,
        }
        assert set(request.query) == {"appKey", "nonce", "timestamp", "signature"}


@pytest.mark.parametrize("answer", [{"pass": 0, "extra": {"why": 7}}, {"pass": "0", "extra": '{"why":7}'}])
async def test_a_no_is_told_to_the_sender_and_nothing_is_stored(valkey: Server, answer: dict[str, Any]) -> None:
    async with checking(valkey) as (app, node):
        alice, bob = await pair(node)
        app.answer = lambda _: (200, answer)
        refused = await alice.send("bob")
        assert (refused["type"], refused["code"]) == ("error", Code.CONTENT_REFUSED)
        assert refused["extra"] == '{"why":7}'
        assert stored(valkey, "bob") == 0
        assert await everything(bob) == []


@pytest.mark.parametrize(("content", "body"), [('{"text":"nice"}', {"text": "nice"}), ("nice", "nice"), ("[1]", "[1]")])
async def test_an_answer_may_replace_the_content(valkey: Server, content: str, body: Any) -> None:
    async with checking(valkey) as (app, node):
        alice, bob = await pair(node)
        app.answer = lambda _: (200, {"pass": 2, "content": content})
        assert (await alice.send("bob", "nasty"))["type"] == "sent"
        assert (await bob.next("message"))["body"] == body


async def test_messages_pass_in_the_order_in_which_they_were_sent(valkey: Server) -> None:
    """The later a message, the sooner its answer."""
    answered: list[str] = []

    def verdict(content: str) -> Answer:
        # The messages are asked about eight at a time: a group's last one is answered first.
        group = range(int(content) // 8 * 8, int(content) // 8 * 8 + 8)
        if any(str(later) not in answered for later in group if later > int(content)):
            return None
        answered.append(content)
        return 200, {"pass": 0 if int(content) % 5 == 4 else 1}

    async with checking(valkey, webhook_timeout_s=10) as (app, node):
        app.answers_by_pass(verdict)
        alice, bob = await pair(node)
        for number in range(40):
            await alice.say({"type": "send", "id": f"c{number}", "to": "bob", "body": str(number)})
        replies = [await alice.next() for _ in range(40)]
        # A refusal may overtake a `sent`, which waits for the store.
        refused = [reply["id"] for reply in replies if reply["type"] == "error"]
        passed = [reply["id"] for reply in replies if reply["type"] == "sent"]
        assert refused == [f"c{number}" for number in range(40) if number % 5 == 4]
        assert passed == [f"c{number}" for number in range(40) if number % 5 != 4]
        bodies = [(await bob.next("message"))["body"] for _ in range(32)]
        assert bodies == [str(number) for number in range(40) if number % 5 != 4]
        # Answered against the order indeed.
        assert answered[:8] == ["7", "6", "5", "4", "3", "2", "1", "0"]


async def test_two_failed_tries_and_then_a_yes(valkey: Server) -> None:
    async with checking(valkey) as (app, node):
        alice, _ = await pair(node)
        answers: list[Answer] = [(500, {}), (200, b"no JSON"), (200, {"pass": 1})]
        app.answer = lambda _: answers[len(app.requests) - 1]
        assert (await alice.send("bob"))["type"] == "sent"
        assert len(app.requests) == 3
        assert len({request.body["id"] for request in app.requests}) == 1


@pytest.mark.parametrize(
    "answer", [None, (500, {"pass": 1}), (200, {}), (200, {"pass": 3}), (200, [1]), (200, {"pass": True})]
)
async def test_without_an_answer_that_counts_nothing_is_stored(valkey: Server, answer: Answer) -> None:
    async with checking(valkey, webhook_timeout_s=0.3) as (app, node):
        alice, _ = await pair(node)
        app.answer = lambda _: answer
        before = METRICS.checks_unanswered
        refused = await alice.send("bob")
        assert (refused["type"], refused["code"]) == ("error", Code.STORE_UNAVAILABLE)
        assert refused["retry_after_ms"] > 0
        assert len(app.requests) == 3
        assert stored(valkey, "bob") == 0
        assert METRICS.checks_unanswered == before + 1


async def test_a_ban_does_not_wait_for_checks_and_lets_nothing_pass_afterwards(valkey: Server) -> None:
    hanging = True
    async with checking(valkey, webhook_timeout_s=30) as (app, node):
        app.answer = lambda _: None if hanging else (200, {"pass": 1})
        alice, bob = await pair(node)
        for number in range(12):
            await alice.say({"type": "send", "id": f"c{number}", "to": "bob", "body": number})
        await eventually(lambda: len(app.requests) == 8)
        before = METRICS.checks_discarded
        # Far less than a check may take.
        async with asyncio.timeout(10):
            done = await node.services.bans.ban(["alice"], minutes=5, reason="spam")
        assert (done.sessions_closed, done.nodes_silent) == (1, [])
        assert METRICS.checks_discarded == before + 12
        hanging = False
        code, _ = await alice.closed()
        assert code == 4502
        # Somebody else's message is checked and passes: those of the banned one would have passed before it.
        carol = await login(node, "carol")
        assert (await carol.send("bob", "after"))["type"] == "sent"
        [push] = await everything(bob)
        assert push["body"] == "after"
        assert stored(valkey, "bob") == 1
        assert node.services.outbox.unchecked == 0


async def test_who_leaves_takes_unchecked_messages_along(valkey: Server) -> None:
    async with checking(valkey, webhook_timeout_s=30) as (app, node):
        app.answer = lambda _: None
        alice, _ = await pair(node)
        await alice.say({"type": "send", "id": "c1", "to": "bob", "body": 1})
        await eventually(lambda: app.requests)
        await alice.close()
        await eventually(lambda: node.services.outbox.unchecked == 0)
        assert stored(valkey, "bob") == 0


async def test_one_session_fills_no_line_of_others(valkey: Server) -> None:
    """A sender who floods is no longer read; others are asked about meanwhile."""
    async with checking(valkey, webhook_timeout_s=30) as (app, node):
        app.answers_by_pass(lambda content: None if content.startswith("flood") else (200, {"pass": 1}))
        alice, bob = await pair(node)
        flood = asyncio.create_task(_flood(alice))
        await eventually(lambda: len(app.requests) == 8)
        assert (await bob.send("alice", "hello"))["type"] == "sent"
        assert len(app.requests) == 9
        # Bounded by the line and by what had been read already, not by what the client sends.
        assert node.services.outbox.unchecked < 1500
        flood.cancel()
        await asyncio.gather(flood, return_exceptions=True)


async def _flood(client: Client) -> None:
    for number in range(100_000):
        await client.say({"type": "send", "id": f"c{number}", "to": "bob", "body": "flood" * 100})


async def test_checks_are_switched_while_messages_wait_and_nobody_overtakes(valkey: Server) -> None:
    hanging = True
    async with checking(valkey, webhook_timeout_s=10, webhook_events=()) as (app, node):
        app.answer = lambda _: None if hanging else (200, {"pass": 1})
        alice, bob = await pair(node)
        assert (await alice.send("bob", 0))["type"] == "sent"
        assert app.requests == []
        await node.services.settings.set({"webhookEvents": [CHECK]})
        await alice.say({"type": "send", "id": "one", "to": "bob", "body": 1})
        await eventually(lambda: app.requests)
        await node.services.settings.set({"webhookEvents": []})
        await alice.say({"type": "send", "id": "two", "to": "bob", "body": 2})
        assert (await alice.ask("ping"))["type"] == "pong"
        assert alice.received == []
        hanging = False
        assert [(await alice.next("sent"))["id"] for _ in range(2)] == ["one", "two"]
        assert [(await bob.next("message"))["body"] for _ in range(3)] == [0, 1, 2]
        # Nobody waits: from here on nobody is asked, and nobody stands in line.
        assert not node.services.outbox.checks
        assert (await alice.send("bob", 3))["type"] == "sent"
        assert len(app.requests) == 1


async def test_policy_is_judged_after_the_check(valkey: Server) -> None:
    """A block that was made while the message was checked binds it."""
    hanging = True
    async with checking(valkey, webhook_timeout_s=10) as (app, node):
        app.answer = lambda _: None if hanging else (200, {"pass": 1})
        alice, _ = await pair(node)
        await alice.say({"type": "send", "id": "c1", "to": "bob", "body": 1})
        await eventually(lambda: app.requests)
        await node.services.relationships.block("bob", ["alice"])
        hanging = False
        refused = await alice.next()
        assert (refused["type"], refused["code"]) == ("error", Code.BLOCKED)


async def test_while_the_store_is_away_a_checked_message_is_refused(valkey: Server) -> None:
    hanging = True
    async with checking(valkey, webhook_timeout_s=10) as (app, node):
        app.answer = lambda _: None if hanging else (200, {"pass": 1})
        alice, _ = await pair(node)
        await alice.say({"type": "send", "id": "c1", "to": "bob", "body": 1})
        await eventually(lambda: app.requests)
        node.bus.withhold()
        hanging = False
        refused = await alice.next()
        assert (refused["type"], refused["id"], refused["code"]) == ("error", "c1", Code.STORE_UNAVAILABLE)
        assert stored(valkey, "bob") == 0


async def test_messages_that_wait_are_bounded_by_their_bytes(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.services.checks.WAITING_BYTES_MAX", 3000)
    hanging = True
    async with checking(valkey, webhook_timeout_s=10) as (app, node):
        app.answer = lambda _: None if hanging else (200, {"pass": 1})
        alice, _ = await pair(node)
        for number in range(4):
            await alice.say({"type": "send", "id": f"c{number}", "to": "bob", "body": "x" * 1000})
        refused = await alice.next()
        assert (refused["type"], refused["id"], refused["code"]) == ("error", "c3", Code.STORE_UNAVAILABLE)
        hanging = False
        assert [(await alice.next("sent"))["id"] for _ in range(3)] == ["c0", "c1", "c2"]
        # What has passed makes room.
        assert (await alice.send("bob", "x" * 1000))["type"] == "sent"


async def test_whom_the_node_does_not_read_while_checks_wait_it_does_not_call_silent(valkey: Server) -> None:
    async with checking(valkey, webhook_timeout_s=2, webhook_retries=0, heartbeat_s=0.3, heartbeat_timeout_s=0.3) as (
        app,
        node,
    ):
        alice, bob = await pair(node)
        app.answer = lambda _: None
        for number in range(40):
            await alice.say({"type": "send", "id": str(number), "to": "bob", "body": number})
        (session,) = node.hub.of("alice")
        await eventually(lambda: session.paused)
        (connection,) = (each for each in node.listener.connections if each.session is session)
        # Longer than a pong may take.
        await eventually(lambda: node.clock.now() - connection.heard_at > 1)
        app.answer = lambda _: (200, {"pass": 1})
        for number in range(40):
            assert (await alice.next("sent", 10))["id"] == str(number)
        for client in (alice, bob):
            await client.close()
