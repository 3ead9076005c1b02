"""What admins do through the Server API, as the app's own server is told of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from gateway.node import Node
from gateway.services.messages import Draft
from gateway.services.services import Services
from gateway.store.recalls import Target
from gateway.store.store import Store
from tests.api.signing import signed
from tests.app_server import AppServer, Request, app_server
from tests.nodes import CREDENTIALS, config, login, running_node
from tests.servers import Server
from tests.waiting import eventually


@asynccontextmanager
async def telling(server: Server, **changes: Any) -> AsyncIterator[tuple[AppServer, Node]]:
    async with app_server() as app, running_node(server.url, **({"webhook_url": app.url} | changes)) as node:
        for user in ("alice", "bob", "carol"):
            await node.services.tokens.issue(user, user.title())
        yield app, node


async def told(app: AppServer, kind: str, count: int = 1) -> list[dict[str, Any]]:
    """The data of so many events, the times compared and left out."""
    await eventually(lambda: len(app.told(kind)) >= count)
    return [_without_time(request) for request in app.told(kind)]


def _without_time(request: Request) -> dict[str, Any]:
    data = dict(request.data)
    assert abs(data.pop("time") - request.body["time"]) < 5000
    return data


async def call(node: Node, path: str, body: Any) -> None:
    async with httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{node.admin.port}{path}"
        answer = await client.post(url, json=body, headers=signed())
    assert answer.status_code == 200, answer.text


async def test_friendships_are_told_from_the_request_to_the_end(valkey: Server) -> None:
    async with telling(valkey) as (app, node):
        friends = node.services.friends
        await friends.set_permission(["bob"], 2)
        await call(node, "/v4/friend/add", {"userId": "alice", "targetId": "bob", "extra": "it is me"})
        await friends.add("bob", "alice")
        await friends.add("alice", "carol")
        await friends.unfriend("alice", ["bob", "nobody"])
        await friends.unfriend_all("alice")
        server = {"os": "Server"}
        told_so = await told(app, "user:friendship", 5)
        # What concerns one user is told in order.
        assert [each for each in told_so if each["userId"] == "alice"] == [
            {"operationType": 1, "userId": "alice", "toUserId": "bob", "extra": "it is me", **server},
            {"operationType": 2, "userId": "alice", "toUserId": "bob", **server},
            {"operationType": 5, "userId": "alice", "toUserId": "carol", **server},
            {"operationType": 4, "userId": "alice", "toUserId": "bob", **server},
            {"operationType": 4, "userId": "alice", "toUserId": "carol", **server},
        ]


async def test_the_older_form_of_a_friendship_goes_to_its_own_address(valkey: Server) -> None:
    async with app_server() as app:
        settings = {"webhook_v1_friendship_url": app.url}
        async with running_node(valkey.url, **settings) as node:
            await node.services.friends.add("alice", "bob")
            await eventually(lambda: app.requests)
            [request] = app.requests
            when = request.body.pop("time")
            assert request.body == {"eventType": 5, "userId": "alice", "toUserId": "bob", "source": "Server"}
            assert abs(when - int(request.query["timestamp"])) < 5000


async def test_changes_of_profiles_are_told_with_what_changed(valkey: Server) -> None:
    async with telling(valkey) as (app, node):
        await node.services.profiles.set("alice", {"name": "Al", "level": 3}, {"ext_team": "red"})
        await node.services.profiles.set("alice", {}, {"ext_team": "blue"})
        await node.services.profiles.delete(["alice", "bob"])
        assert await told(app, "user:profile_update", 3) == [
            {
                "operatorId": "alice",
                "operationType": 1,
                "userProfile": {"name": "Al", "level": 3},
                "userMetaData": {"ext_team": "red"},
            },
            {"operatorId": "alice", "operationType": 1, "userMetaData": {"ext_team": "blue"}},
            {"operatorId": "alice", "operationType": 0},
        ]


async def test_the_results_of_deletions_and_restorations_bear_their_operations(valkey: Server) -> None:
    async with telling(valkey, restore_wait_s=3600) as (app, node):
        deleted = await node.services.deletion.deactivate(["alice", "bob", "alice"])
        events = await told(app, "user:deletion_state", 2)
        about = {"operationId": deleted.operation_id, "operationType": 1, "code": 0}
        assert sorted(events, key=lambda each: each["userId"]) == [
            {"userId": "alice", **about},
            {"userId": "bob", **about},
        ]
        restored = await node.services.deletion.reactivate(["alice", "carol"])
        events = (await told(app, "user:deletion_state", 4))[2:]
        assert {each["operationId"] for each in events} == {restored.operation_id}
        # Too soon for the one, no need for the other.
        assert {each["userId"]: each["code"] for each in events} == {"alice": 1007, "carol": 0}
        assert {each["operationType"] for each in events} == {2}


@pytest.mark.parametrize("system", [False, True])
async def test_messages_of_the_server_are_told_where_that_is_wanted(valkey: Server, system: bool) -> None:
    async with telling(valkey) as (app, node):
        draft = Draft("alice", "RC:TxtMsg", '{"content":"hi"}', system=system)
        await node.services.messages.send(draft, ["bob"])
        await node.services.settings.set({"webhookServerMessages": True})
        stored = await node.services.messages.send(draft, ["bob", "carol", "nobody"])
        await eventually(lambda: len(app.told("message:send")) >= 2)
        data = {request.data["channelId"]: request.data for request in app.told("message:send")}
        assert data == {
            each.user: {
                "userId": "alice",
                "channelId": each.user,
                "messageType": "RC:TxtMsg",
                "content": '{"content":"hi"}',
                "channelType": 6 if system else 1,
                "time": each.sent_at,
                "messageId": each.mid,
                "os": "Server",
            }
            for each in stored
        }


async def test_a_recall_is_told(valkey: Server) -> None:
    async with telling(valkey) as (app, node):
        alice = await login(node, "alice")
        sent = await alice.send("bob")
        await node.services.messages.recall(Target(sent["mid"], "alice", "bob"), extra="rude")
        [event] = await told(app, "message:delete")
        assert event == {
            "userId": "alice",
            "channelId": "bob",
            "channelType": 1,
            "messageId": sent["mid"],
            "os": "Server",
            "extra": "rude",
        }


async def test_a_blocked_word_is_not_told_and_a_replaced_one_is_marked(valkey: Server) -> None:
    async with telling(valkey) as (app, node):
        await call(
            node,
            "/v4/profanity-word/batch/add",
            {"words": [{"word": "vile"}, {"word": "ugly", "replacement": "plain"}]},
        )
        alice = await login(node, "alice")
        assert (await alice.send("bob", "so vile"))["code"] == 21501
        assert (await alice.send("bob", "so ugly"))["code"] == 21502
        [event] = await told(app, "message:send")
        assert (event["content"], event["profanityType"]) == ("so plain", 2)


async def test_without_a_node_events_are_queued_as_well(valkey: Server) -> None:
    """As the command line's acts are."""
    async with app_server() as app:
        store = await Store.open(valkey.url)
        services = Services.over(store, config(webhook_url=app.url), CREDENTIALS)
        await services.friends.add("alice", "bob")
        await store.close()
        async with running_node(valkey.url, webhook_url=app.url):
            [event] = await told(app, "user:friendship")
            assert event["operationType"] == 5
