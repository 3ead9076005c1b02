"""Sends that are repeated because nobody knows what became of them: stored once, or twice under one id."""

import asyncio
from typing import Any

import orjson
from websockets.exceptions import ConnectionClosed

from gateway.client import Client as SdkClient
from tests.integration.fleet import BRISK, everything, node_process
from tests.nodes import address, login, running_node
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually

DEVICE = "?platform=ios&device=phone"


async def test_a_repeat_at_another_node_after_a_crash_finds_what_the_first_try_stored(valkey: Server) -> None:
    async with running_node(valkey.url, node_id="a", **BRISK) as a, Proxy(valkey.url) as proxy:
        async with node_process(proxy.url, "b", **BRISK) as b:
            token = await a.services.tokens.issue("alice", "Alice")
            alice, bob = await login(b, "alice", DEVICE, token), await login(a, "bob")
            # Redis acts, and the node dies before it hears so.
            proxy.pause(to_server=False)
            await alice.say({"type": "send", "id": "1", "to": "bob", "body": "once", "key": "k1"})
            first = await bob.next("message")
            b.kill()
            assert [each for each in (await ended(alice)) if each["type"] == "sent"] == []
            alice = await login(a, "alice", DEVICE, token)
            for _ in range(2):
                again = await alice.send("bob", "once", key="k1", retry=True)
                assert (again["type"], again["mid"], again["sent_at"]) == ("sent", first["mid"], first["sent_at"])
            assert [each for each in await everything(bob) if each["type"] == "message"] == []
            # The same key to somebody else, or of somebody else, is another message.
            carol = await login(a, "carol")
            other = await alice.send("carol", "once", key="k1", retry=True)
            assert other["mid"] != first["mid"]
            assert (await carol.send("bob", "mine", key="k1", retry=True))["mid"] != first["mid"]
            assert (await bob.next("message"))["body"] == "mine"
            for client in (alice, bob, carol):
                await client.close()


async def test_a_first_try_that_arrives_behind_its_repeat_bears_its_id_and_the_app_sees_one(
    valkey: Server,
) -> None:
    async with running_node(valkey.url, node_id="a", **BRISK) as a, Proxy(valkey.url) as proxy:
        async with running_node(proxy.url, node_id="b", **BRISK) as b:
            token = await a.services.tokens.issue("alice", "Alice")
            handed = list[Any]()
            bobs = await a.services.tokens.issue("bob", "Bob")
            async with SdkClient(address(a), token=bobs, device="sdk", platform="web") as app:
                app.on_message(lambda message: handed.append(message.body))
                alice, bob = await login(b, "alice", DEVICE, token), await login(a, "bob", "?platform=ios", bobs)
                # The command has left the node, and stands still on its way.
                proxy.pause(to_client=False)
                await alice.say({"type": "send", "id": "1", "to": "bob", "body": "twice", "key": "k1"})
                error = await alice.next("error")
                assert (error["id"], error["code"]) == ("1", 504)
                again = await login(a, "alice", DEVICE, token)
                sent = await again.send("bob", "twice", key="k1", retry=True)
                assert sent["type"] == "sent"
                first = await bob.next("message")
                assert first["mid"] == sent["mid"]
                proxy.resume()
                second = await bob.next("message")
                assert (second["mid"], second["body"]) == (first["mid"], first["body"])
                assert second["cursor"] != first["cursor"]
                await again.send("bob", "behind it")
                await eventually(lambda: "behind it" in handed)
                assert handed == ["twice", "behind it"]
                for client in (again, bob):
                    await client.close()
                await ended(alice)


async def ended(client: Any) -> list[dict[str, Any]]:
    """What still comes until the socket's end."""
    received, client.received = list(client.received), []
    async with asyncio.timeout(10):
        while True:
            try:
                received.append(orjson.loads(await client.socket.recv()))
            except ConnectionClosed:
                return received
