"""Device policies over sockets: who displaces whom, who is refused, and what the others hear."""

import pytest
from websockets.exceptions import InvalidStatus

from gateway.node import Node
from tests.integration.fleet import everything, two_nodes
from tests.integration.raw import RawClient
from tests.nodes import Client, login, open_socket
from tests.servers import Server
from tests.waiting import eventually


async def policy(nodes: tuple[Node, Node], name: str) -> None:
    await nodes[0].services.settings.set({"devicePolicy": name})
    for node in nodes:
        await eventually(lambda: node.services.settings.live.device_policy == name)  # noqa: B023


async def gone(client: Client) -> tuple[int, int]:
    code, reason = await client.closed()
    return code, reason["code"]


async def test_one_session_a_platform_class_and_the_newest_wins(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        ios = await login(a, "alice", "?platform=ios&device=one")
        web = await login(a, "alice", "?platform=web&device=two")
        assert (await ios.next("session"))["event"] == "opened"
        android = await login(b, "alice", "?platform=android&device=three")
        assert await gone(ios) == (4504, 31010)
        events = [await web.next("session") for _ in range(2)]
        assert {(each["event"], each["device"], each["platform"]) for each in events} == {
            ("closed", "one", "ios"),
            ("opened", "three", "android"),
        }
        # The same device again, as another class: still one session a device.
        again = await login(a, "alice", "?platform=desktop&device=three")
        assert await gone(android) == (4504, 31010)
        listed = (await web.ask("sessions.list"))["sessions"]
        assert [(each["device"], each["platform"], each["this"]) for each in listed] == [
            ("two", "web", True),
            ("three", "desktop", False),
        ]
        for client in (web, again):
            await client.close()


async def test_single_leaves_the_newest_session_only(valkey: Server) -> None:
    async with two_nodes(valkey.url) as nodes:
        await policy(nodes, "single")
        ios = await login(nodes[0], "alice", "?platform=ios")
        web = await login(nodes[1], "alice", "?platform=web")
        assert await gone(ios) == (4504, 31010)
        desktop = await login(nodes[0], "alice", "?platform=desktop")
        assert await gone(web) == (4504, 31010)
        await desktop.close()


async def test_refuse_keeps_the_first_and_refuses_the_newcomer(valkey: Server) -> None:
    async with two_nodes(valkey.url) as nodes:
        await policy(nodes, "refuse")
        token = await nodes[0].services.tokens.issue("alice", None)
        first = await login(nodes[0], "alice", "?platform=ios&device=one", token)
        with pytest.raises(InvalidStatus) as caught:
            await open_socket(nodes[1], token, "?platform=android&device=two")
        assert caught.value.response.status_code == 403
        late = await RawClient.begin(nodes[1], token, "subprotocol", "?platform=ios&device=two")
        assert (4506).to_bytes(2, "big") + b'{"code":31023' in await late.until_end()
        other = await login(nodes[1], "alice", "?platform=web", token)
        # The device itself may come back: its old socket is the dead one.
        again = await login(nodes[1], "alice", "?platform=ios&device=one", token)
        assert await gone(first) == (4504, 31010)
        for client in (other, again):
            await client.close()


async def test_unlimited_has_the_limit_of_sessions_a_user(valkey: Server) -> None:
    async with two_nodes(valkey.url, sessions_per_user_max=3) as nodes:
        await policy(nodes, "unlimited")
        token = await nodes[0].services.tokens.issue("alice", None)
        clients = [await login(nodes[n % 2], "alice", f"?platform=web&device=d{n}", token) for n in range(3)]
        late = await RawClient.begin(nodes[1], token, "subprotocol", "?platform=web&device=d4")
        assert (4507).to_bytes(2, "big") in await late.until_end()
        # A device that comes again takes its own place.
        again = await login(nodes[1], "alice", "?platform=web&device=d0", token)
        assert await gone(clients[0]) == (4504, 31010)
        for client in (*clients[1:], again):
            await client.close()


async def test_a_message_reaches_every_device_of_the_recipient(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        devices = [
            await login(node, "alice", f"?platform={platform}")
            for node, platform in ((a, "ios"), (b, "web"), (a, "desktop"))
        ]
        bob = await login(b, "bob")
        sent = await bob.send("alice", "to all")
        received = [await device.next("message") for device in devices]
        assert [each["mid"] for each in received] == [sent["mid"]] * 3
        assert len({each["cursor"] for each in received}) == 1
        for device in devices:
            assert [each for each in await everything(device) if each["type"] == "message"] == []
            await device.close()
        await bob.close()
