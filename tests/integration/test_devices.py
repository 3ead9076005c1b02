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


@pytest.mark.parametrize(
    ("name", "platforms", "stay"),
    [
        ("platform", ("ios", "android"), 1),
        ("platform", ("ios", "web"), 2),
        ("single", ("ios", "web", "desktop"), 1),
        ("refuse", ("ios", "android"), 1),
        ("unlimited", ("web",), 4),
    ],
)
async def test_logins_at_the_same_moment_on_two_nodes_leave_what_the_policy_says(
    valkey: Server, name: str, platforms: tuple[str, ...], stay: int
) -> None:
    async with two_nodes(valkey.url, sessions_per_user_max=4) as nodes:
        await policy(nodes, name)
        token = await nodes[0].services.tokens.issue("alice", None)
        clients = [
            await RawClient.begin(
                nodes[number % 2],
                token,
                "subprotocol",
                f"?platform={platforms[number // 2 % len(platforms)]}&device=d{number}",
            )
            for number in range(12)
        ]

        def settled() -> bool:
            welcomed = [each for each in clients if b'"type":"welcome"' in each.received]
            return len([each for each in welcomed if not each.ended.done()]) == stay and all(
                each.ended.done() or each in welcomed for each in clients
            )

        await eventually(settled)
        sessions = await nodes[0].services.presence.sessions("alice")
        live = {number for number, each in enumerate(clients) if not each.ended.done()}
        assert {f"d{number}" for number in live} == {each.device for each in sessions}
        assert sum(len(node.hub.of("alice")) for node in nodes) == stay
        # Who is gone was told why: replaced where the newest wins, kept out where the first one does.
        why = {"platform": 4504, "single": 4504, "refuse": 4506, "unlimited": 4507}[name]
        for number, each in enumerate(clients):
            if number not in live:
                assert why.to_bytes(2, "big") + b'{"code"' in each.received
            each.abort()


async def test_a_device_that_reconnects_again_and_again_never_stands_in_its_own_way(valkey: Server) -> None:
    async with two_nodes(valkey.url, sessions_per_user_max=2) as nodes:
        for name in ("platform", "single", "refuse", "unlimited"):
            await policy(nodes, name)
            token = await nodes[0].services.tokens.issue("alice", None)
            # Each time its old socket is dead, and nobody has noticed yet.
            phone = "?platform=ios&device=phone"
            clients = [await login(nodes[number % 2], "alice", phone, token) for number in range(6)]
            for old in clients[:-1]:
                assert await gone(old) == (4504, 31010)
            assert (await clients[-1].ask("ping"))["type"] == "pong"
            assert len(await nodes[0].services.presence.sessions("alice")) == 1
            await clients[-1].close()
            await eventually(lambda: not any(len(node.hub.of("alice")) for node in nodes))
