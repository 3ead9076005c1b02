"""Events, from what happens on a socket to what the app's own server gets."""

from __future__ import annotations

import hashlib
import time
from typing import Any
from uuid import UUID

import pytest

from gateway.metrics import METRICS
from tests.app_server import AppServer, Request, app_server
from tests.integration.fleet import BRISK, node_process, online, two_nodes
from tests.nodes import CREDENTIALS, login, running_node
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually

QUICK = {"webhook_timeout_s": 0.3, "webhook_backoff_s": 0.02, "webhook_pause_s": 0.3}
"""Deadlines that a test can wait for. Where the receiver answers, a machine that stands still for longer than the
timeout has the event told twice."""

PROMPT = {"webhook_backoff_s": 0.02, "webhook_pause_s": 0.3}
"""Short pauses only, for tests in which no answer is waited for in vain."""

STATUS, SEND = "user:connection_status", "message:send"


async def told(app: AppServer, kind: str, count: int, deadline_s: float = 5.0) -> list[Request]:
    """Waits for so many requests about a type of event."""
    await eventually(lambda: len(app.told(kind)) >= count, deadline_s)
    return app.told(kind)


def statuses(requests: list[Request], user: str) -> list[str]:
    return [request.data["status"] for request in requests if request.data["userId"] == user]


# What is told.


async def test_who_comes_and_goes_is_told_signed_in_the_documented_envelope(valkey: Server) -> None:
    async with app_server() as app, running_node(valkey.url, webhook_url=app.url + "?tenant=7&x=a%26b") as node:
        before_ms = int(time.time() * 1000)
        alice = await login(node, "alice", "?platform=ios")
        port = alice.socket.local_address[1]
        [came] = await told(app, STATUS, 1)
        assert (came.method, came.path) == ("POST", "/hook")
        assert (came.query["tenant"], came.query["x"]) == ("7", "a&b")
        assert came.headers["content-type"].startswith("application/json")
        assert came.headers["user-agent"].startswith("gateway/")
        # Signed over the secret, in the query and in the headers alike.
        query = came.query
        signed = f"{CREDENTIALS.app_secret}{query['nonce']}{query['timestamp']}"
        assert query["signature"] == hashlib.sha1(signed.encode()).hexdigest()
        assert query["appKey"] == came.headers["app-key"] == CREDENTIALS.app_key
        assert [came.headers[name] for name in ("nonce", "timestamp", "signature")] == [
            query[name] for name in ("nonce", "timestamp", "signature")
        ]
        assert abs(int(query["timestamp"]) - before_ms) < 10_000
        UUID(came.body["id"])
        assert abs(came.body["time"] - before_ms) < 10_000
        assert came.data == {
            "status": "0",
            "userId": "alice",
            "os": "iOS",
            "clientIp": f"127.0.0.1:{port}",
            "sessionId": alice.welcome["session"],
            "time": came.body["time"],
        }
        await alice.close()
        _, went = await told(app, STATUS, 2)
        assert went.body["time"] >= came.body["time"]
        assert went.data == {
            "status": "1",
            "userId": "alice",
            "sessionId": alice.welcome["session"],
            "time": went.body["time"],
        }
        assert went.body["id"] != came.body["id"]


async def test_a_soft_deletion_logs_out_and_a_ban_ends(valkey: Server) -> None:
    async with app_server() as app, running_node(valkey.url, webhook_url=app.url) as node:
        await login(node, "alice")
        await login(node, "bob")
        await node.services.deletion.deactivate(["alice"])
        await node.services.bans.ban(["bob"], minutes=5, reason="")
        requests = await told(app, STATUS, 4)
        assert statuses(requests, "alice") == ["0", "2"]
        assert statuses(requests, "bob") == ["0", "1"]


async def test_who_is_replaced_by_a_newer_login_goes_offline_once(valkey: Server) -> None:
    async with app_server() as app, running_node(valkey.url, webhook_url=app.url) as node:
        first = await login(node, "alice", "?platform=web")
        second = await login(node, "alice", "?platform=web")
        await first.closed()
        await second.close()
        requests = await told(app, STATUS, 4)
        ends = [request.data["sessionId"] for request in requests if request.data["status"] == "1"]
        assert ends == [first.welcome["session"], second.welcome["session"]]


@pytest.mark.parametrize(
    ("body", "content"),
    [
        ('hi \u00e9\n"q"', 'hi \u00e9\n"q"'),
        ({"text": "hi", "n": [1, None]}, '{"text":"hi","n":[1,null]}'),
        (7, "7"),
    ],
)
async def test_a_message_is_told_with_its_content(valkey: Server, body: Any, content: str) -> None:
    async with app_server() as app, running_node(valkey.url, webhook_url=app.url) as node:
        await node.services.tokens.issue("bob", "Bob")
        alice = await login(node, "alice", "?platform=android")
        sent = await alice.send("bob", body, kind="RC:TxtMsg")
        [request] = await told(app, SEND, 1)
        assert request.data == {
            "userId": "alice",
            "channelId": "bob",
            "messageType": "RC:TxtMsg",
            "content": content,
            "channelType": 1,
            "time": sent["sent_at"],
            "messageId": sent["mid"],
            "os": "Android",
            "profanityType": 0,
        }


async def test_a_message_that_is_tried_again_is_told_with_the_same_id_and_a_refused_one_not_at_all(
    valkey: Server,
) -> None:
    async with app_server() as app, running_node(valkey.url, webhook_url=app.url) as node:
        await node.services.tokens.issue("bob", "Bob")
        alice = await login(node, "alice")
        assert (await alice.send("nobody"))["code"] == 404
        await alice.send("bob", key="k1")
        await alice.send("bob", key="k1", retry=True)
        one, two = await told(app, SEND, 2)
        assert one.body["id"] == two.body["id"]
        assert one.data == two.data


async def test_what_is_not_chosen_is_not_told_and_the_choice_is_live(valkey: Server) -> None:
    async with app_server() as app, running_node(valkey.url, webhook_url=app.url, webhook_events=(SEND,)) as node:
        alice = await login(node, "alice")
        await alice.send("alice", "one")
        await told(app, SEND, 1)
        await node.services.settings.set({"webhookEvents": [STATUS]})
        await alice.send("alice", "two")
        await alice.close()
        [went] = await told(app, STATUS, 1)
        assert went.data["status"] == "1"
        assert len(app.told(SEND)) == 1


async def test_without_an_address_nothing_is_queued(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        alice = await login(node, "alice")
        assert (await alice.send("alice"))["type"] == "sent"
        await alice.close()
        await online(node, "alice", False)
        with valkey.client() as redis:
            assert redis.exists("gw:events") == 0


async def test_the_older_forms_go_to_their_own_addresses(valkey: Server) -> None:
    async with app_server() as app:
        settings = {"webhook_v1_status_url": app.url + "/status"}
        async with running_node(valkey.url, **settings) as node:
            alice = await login(node, "alice", "?platform=android")
            await eventually(lambda: app.requests)
            [request] = app.requests
            assert request.path == "/hook/status"
            [body] = request.body_list
            assert body == {
                "status": "0",
                "userid": "alice",
                "os": "Android",
                "clientIp": f"127.0.0.1:{alice.socket.local_address[1]}",
                "sessionId": alice.welcome["session"],
                "time": body["time"],
            }


# Nothing is lost.


async def test_a_receiver_that_fails_twice_gets_the_event_a_third_time(valkey: Server) -> None:
    async with app_server() as app, running_node(valkey.url, webhook_url=app.url, **PROMPT) as node:
        app.answer = lambda _: (500, "no") if len(app.requests) < 3 else (200, "yes")
        before = METRICS.webhook_events_told
        await login(node, "alice")
        first, second, third = await told(app, STATUS, 3)
        assert first.body == second.body == third.body
        assert len({request.query["nonce"] for request in (first, second, third)}) == 3
        await eventually(lambda: METRICS.webhook_events_told == before + 1)
        await eventually(lambda: node.webhooks.backlog == 0)
        assert len(app.requests) == 3


async def test_an_event_that_is_refused_every_time_is_shelved_and_others_go_on(valkey: Server) -> None:
    async with app_server() as app, running_node(valkey.url, webhook_url=app.url, **PROMPT) as node:
        app.answer = lambda request: (400, {}) if request.data["userId"] == "alice" else (200, {})
        before = METRICS.webhook_events_given_up
        await login(node, "alice")
        await login(node, "bob")
        await eventually(lambda: METRICS.webhook_events_given_up == before + 1)
        requests = await told(app, STATUS, 4)
        assert statuses(requests, "alice") == ["0"] * 3
        assert statuses(requests, "bob") == ["0"]
        with valkey.client() as redis:
            [(_, fields)] = await eventually(lambda: redis.xrange("{gw:events}:dead"))
            assert fields["why"] == "HTTP 400"
            await eventually(lambda: redis.xlen("gw:events") == 0)


async def test_an_event_that_makes_the_receiver_hang_is_given_up_when_others_are_answered(valkey: Server) -> None:
    async with app_server() as app, running_node(valkey.url, webhook_url=app.url, **QUICK) as node:
        app.answer = lambda request: None if request.data["userId"] == "alice" else (200, {})
        before = METRICS.webhook_events_given_up
        await login(node, "alice")
        await told(app, STATUS, 1)
        number = 0

        async def given_up() -> bool:
            nonlocal number
            number += 1
            await (await login(node, f"user{number}")).close()
            return METRICS.webhook_events_given_up == before + 1

        await eventually(given_up, 10)


async def test_a_receiver_that_hangs_slows_no_message_and_loses_none(valkey: Server) -> None:
    hanging = True
    async with app_server() as app, running_node(valkey.url, webhook_url=app.url, **QUICK) as node:
        app.answer = lambda _: None if hanging else (200, {})
        alice = await login(node, "alice")
        pauses = METRICS.webhook_pauses
        failed = METRICS.webhook_tries_failed
        for number in range(200):
            assert (await alice.send("alice", number))["type"] == "sent"
        # A message that waited for the receiver would have waited for at least one try to end, each of the 200.
        assert METRICS.webhook_tries_failed < failed + 100
        await eventually(lambda: METRICS.webhook_pauses > pauses)
        hanging = False
        app.requests.clear()
        contents = {str(number) for number in range(200)}
        await eventually(lambda: {each.data["content"] for each in app.told(SEND)} >= contents, 20)


async def test_a_receiver_that_is_down_for_long_gets_everything_when_it_is_back(valkey: Server) -> None:
    async with app_server() as app:
        await app.stop()
        given_up = METRICS.webhook_events_given_up
        async with running_node(valkey.url, webhook_url=app.url, **PROMPT) as node:
            alice = await login(node, "alice")
            pauses = METRICS.webhook_pauses
            # Longer than all tries of one event take.
            await eventually(lambda: METRICS.webhook_pauses >= pauses + 3)
            await alice.close()
            await app.start()
            requests = await told(app, STATUS, 2, 10)
            assert statuses(requests, "alice") == ["0", "1"]
        assert METRICS.webhook_events_given_up == given_up


async def test_a_full_queue_drops_the_oldest_and_counts_them(valkey: Server) -> None:
    async with app_server() as app:
        await app.stop()
        lost = METRICS.webhook_events_overflowed
        settings = {"webhook_url": app.url, "webhook_queue_max": 100, "webhook_events": (SEND,)}
        async with running_node(valkey.url, **settings, **PROMPT) as node:
            alice = await login(node, "alice")
            for number in range(450):
                await alice.send("alice", number)
            with valkey.client() as redis:
                left = redis.xlen("gw:events")
            assert 100 <= left < 200
            await eventually(lambda: METRICS.webhook_events_overflowed == lost + 450 - left)
            await app.start()

            def contents() -> set[int]:
                return {int(each.data["content"]) for each in app.told(SEND)}

            await eventually(lambda: set(range(450 - left, 450)) <= contents(), 10)
            # An older one is told all the same where the sender held it already when the queue dropped it.
            assert len(contents()) < 450


async def test_what_a_killed_node_queued_and_its_users_ends_are_told_by_another(valkey: Server) -> None:
    async with app_server() as app:
        async with node_process(valkey.url, "doomed", webhook_url=app.url, webhook_send=False, **BRISK) as doomed:
            with valkey.client() as redis:
                async with running_node(valkey.url, node_id="helper") as helper:
                    token = await helper.services.tokens.issue("alice", "Alice")
                alice = await login(doomed, "alice", token=token)
                await alice.send("alice", "last words")
                await eventually(lambda: redis.xlen("gw:events") == 2)
            assert app.requests == []
            doomed.kill()
            async with running_node(valkey.url, node_id="heir", webhook_url=app.url, **BRISK, **PROMPT):
                [message] = await told(app, SEND, 1)
                assert message.data["content"] == "last words"
                requests = await told(app, STATUS, 2, 15)
                assert statuses(requests, "alice") == ["0", "1"]
                assert {request.data["sessionId"] for request in requests} == {alice.welcome["session"]}


async def test_what_a_killed_node_had_under_way_is_told_by_another(valkey: Server) -> None:
    hanging = True
    async with app_server() as app:
        app.answer = lambda _: None if hanging else (200, {})
        settings: dict[str, Any] = {"webhook_url": app.url, "webhook_events": [SEND], "webhook_retries": 0}
        async with node_process(valkey.url, "doomed", **settings, webhook_timeout_s=1.0, webhook_pause_s=60) as doomed:
            async with running_node(valkey.url, node_id="helper") as helper:
                token = await helper.services.tokens.issue("alice", "Alice")
            alice = await login(doomed, "alice", token=token)
            await alice.send("alice", "under way")
            await told(app, SEND, 1)
            doomed.kill()
        hanging = False
        async with running_node(valkey.url, node_id="heir", **settings | QUICK):
            _, again, *_ = await told(app, SEND, 2, 15)
            assert again.data["content"] == "under way"


async def test_what_a_stopping_node_had_under_way_is_taken_over_at_once(valkey: Server) -> None:
    hanging = True
    async with app_server() as app:
        app.answer = lambda _: None if hanging else (200, {})
        settings = {"webhook_url": app.url, "webhook_timeout_s": 20.0}
        async with running_node(valkey.url, node_id="first", **settings) as first:
            await login(first, "alice")
            await told(app, STATUS, 1)
        hanging = False
        async with running_node(valkey.url, node_id="second", **settings):
            requests = await told(app, STATUS, 3, 5)
            assert statuses(requests, "alice") == ["0", "0", "1"]


async def test_an_end_that_the_store_did_not_take_is_told_when_it_is_back(valkey: Server) -> None:
    async with app_server() as app, Proxy(valkey.url) as proxy:
        async with running_node(proxy.url, webhook_url=app.url, **BRISK, **PROMPT) as node:
            alice = await login(node, "alice")
            await told(app, STATUS, 1)
            proxy.refuse()
            await eventually(lambda: not node.bus.up)
            await alice.close()
            await eventually(lambda: not node.hub.sessions)
            proxy.accept()
            requests = await told(app, STATUS, 2, 10)
            assert statuses(requests, "alice") == ["0", "1"]


async def test_a_session_that_others_took_for_gone_is_told_online_again(valkey: Server) -> None:
    async with app_server() as app:
        settings: dict[str, Any] = {"webhook_url": app.url, **BRISK, **PROMPT}
        async with node_process(valkey.url, "frozen", **settings) as frozen:
            async with running_node(valkey.url, node_id="watcher", **settings) as watcher:
                token = await watcher.services.tokens.issue("alice", "Alice")
                await login(frozen, "alice", token=token)
                await told(app, STATUS, 1)
                # A node that stands still before it has read the answer tells the event again.
                with valkey.client() as redis:
                    await eventually(lambda: redis.xlen("gw:events") == 0)
                frozen.freeze()
                await told(app, STATUS, 2, 10)
                frozen.thaw()
                requests = await told(app, STATUS, 3, 10)
                assert statuses(requests, "alice") == ["0", "1", "0"]
                assert len({request.body["id"] for request in requests}) == 3


# Many at a time.


async def test_on_every_kind_of_store_events_come_once_and_one_users_in_order(any_store_url: str) -> None:
    async with app_server() as app, running_node(any_store_url, webhook_url=app.url, webhook_events=(SEND,)) as node:
        await node.services.tokens.issue("bob", "Bob")
        clients = [await login(node, f"user{number}") for number in range(5)]
        for number in range(40):
            for client in clients:
                await client.say({"type": "send", "id": f"m{number}", "to": "bob", "body": number})
        for client in clients:
            for _ in range(40):
                await client.next("sent")
        await eventually(lambda: len(app.told(SEND)) >= 200, 15)
        await eventually(lambda: node.webhooks.backlog == 0)
        assert len(app.told(SEND)) == len({request.body["id"] for request in app.told(SEND)}) == 200
        for number in range(5):
            contents = [each.data["content"] for each in app.told(SEND) if each.data["userId"] == f"user{number}"]
            assert contents == [str(each) for each in range(40)]


async def test_nodes_share_the_queue_and_tell_each_event_once(valkey: Server) -> None:
    async with app_server() as app, two_nodes(valkey.url, webhook_url=app.url, webhook_events=(SEND,)) as nodes:
        await nodes[0].services.tokens.issue("bob", "Bob")
        clients = [await login(node, f"user{index}") for index, node in enumerate(nodes)]
        for number in range(150):
            for client in clients:
                await client.say({"type": "send", "id": f"m{number}", "to": "bob", "body": number})
        for client in clients:
            for _ in range(150):
                await client.next("sent")
        await eventually(lambda: len(app.told(SEND)) >= 300, 15)
        with valkey.client() as redis:
            await eventually(lambda: redis.xlen("gw:events") == 0)
        assert len(app.told(SEND)) == len({request.body["id"] for request in app.told(SEND)}) == 300
