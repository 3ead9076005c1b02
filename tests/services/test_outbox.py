"""The way into the queue when the store does not take events: kept for a while, bounded, and counted when lost."""

from __future__ import annotations

import pytest

from gateway.metrics import METRICS
from gateway.services.outbox import Message, event_id, system_of
from tests.app_server import app_server
from tests.integration.fleet import BRISK
from tests.nodes import login, running_node
from tests.proxy import Proxy
from tests.servers import Server
from tests.turns import Turns
from tests.waiting import eventually


def message(number: int, body: bytes = b'"x"') -> Message:
    return Message("alice", "bob", "text", body, f"mid-{number}", 1, "iOS")


async def test_events_over_the_bounds_of_memory_are_lost_and_counted(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.services.outbox.BACKLOG_MAX", 5)
    async with app_server() as app, Proxy(valkey.url) as proxy:
        async with running_node(proxy.url, webhook_url=app.url, **BRISK) as node:
            proxy.refuse()
            await eventually(lambda: not node.bus.up)
            lost = METRICS.webhook_events_unqueued
            for number in range(8):
                node.services.outbox.put(message(number).event())
            assert METRICS.webhook_events_unqueued == lost + 3
            proxy.accept()
            await eventually(lambda: len(app.told("message:send")) == 5, 10)
            told = {request.data["messageId"] for request in app.told("message:send")}
            assert told == {f"mid-{number}" for number in range(5)}
            assert METRICS.webhook_events_unqueued == lost + 3


async def test_their_bytes_are_bounded_as_well(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.services.outbox.BACKLOG_BYTES_MAX", 2000)
    async with app_server() as app, Proxy(valkey.url) as proxy:
        async with running_node(proxy.url, webhook_url=app.url, **BRISK) as node:
            proxy.refuse()
            await eventually(lambda: not node.bus.up)
            lost = METRICS.webhook_events_unqueued
            for number in range(5):
                node.services.outbox.put(message(number, b'"' + b"x" * 900 + b'"').event())
            # The one that crosses the bound is still taken.
            assert METRICS.webhook_events_unqueued == lost + 3


async def test_what_waited_goes_out_without_holding_up_the_others(valkey: Server) -> None:
    async with app_server() as app, Proxy(valkey.url) as proxy:
        async with running_node(proxy.url, webhook_url=app.url, webhook_send=False, **BRISK) as node:
            proxy.refuse()
            await eventually(lambda: not node.bus.up)
            outbox = node.services.outbox
            for number in range(5000):
                outbox.put(message(number).event())
            proxy.accept()
            with Turns() as turns:
                await eventually(lambda: not outbox.waits, 30)
            # 4,100; putting one event on its way takes more than ten, and all of them are 5,000.
            assert turns.most < 15_000
            with valkey.client() as redis:
                await eventually(lambda: redis.xlen("gw:events") == 5000)


async def test_what_a_stopping_node_could_not_queue_is_counted(valkey: Server) -> None:
    lost = METRICS.webhook_events_unqueued
    async with app_server() as app, Proxy(valkey.url) as proxy:
        async with running_node(proxy.url, webhook_url=app.url, **BRISK) as node:
            await login(node, "alice")
            await eventually(lambda: app.requests)
            proxy.refuse()
            await eventually(lambda: not node.bus.up)
    # Its own end: the node's reaper tells it.
    assert METRICS.webhook_events_unqueued == lost + 1


async def test_a_queue_that_is_none_loses_events_and_says_so(valkey: Server) -> None:
    """Somebody has put something else under the name."""
    lost = METRICS.webhook_events_unqueued
    async with app_server() as app, running_node(valkey.url, webhook_url=app.url, **BRISK) as node:
        with valkey.client() as redis:
            redis.delete("gw:events")
            redis.set("gw:events", "what is this")
        alice = await login(node, "alice")
        assert (await alice.send("alice"))["type"] == "sent"
        await eventually(lambda: METRICS.webhook_events_unqueued >= lost + 2)
        assert app.requests == []


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (b'"a \\"quote\\" \\u00e9"', b'"a \\"quote\\" \\u00e9"'),
        (b'{"a":1}', b'"{\\"a\\":1}"'),
        (b"null", b'"null"'),
        # Half of a surrogate pair is no text.
        (b'"\\ud800"', b'"\\"\\\\ud800\\""'),
    ],
)
def test_the_content_is_always_a_json_string(body: bytes, content: bytes) -> None:
    assert b'"content":' + content + b"," in message(1, body).data()


def test_ids_have_the_form_of_a_uuid_and_follow_from_what_they_are_of() -> None:
    assert event_id("a", "b") == event_id("a", "b") != event_id("b", "a")
    assert [len(part) for part in event_id("a").split("-")] == [8, 4, 4, 4, 12]


def test_platforms_have_the_hosted_services_names() -> None:
    platforms = ("ios", "android", "web", "desktop", "mini", "other")
    assert [system_of(each) for each in platforms] == ["iOS", "Android", *["Websocket"] * 4]
