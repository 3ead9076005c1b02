"""Connecting and revoking at the same instant, thousands of times over two nodes: nothing slips through."""

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable

from gateway.node import Node
from gateway.services.drops import Acknowledgement
from tests.integration.fleet import claims_of, two_nodes
from tests.integration.raw import RawClient
from tests.nodes import running_node
from tests.proxy import Proxy
from tests.servers import Server
from tests.transport.wire import raw_socket, upgrade_request
from tests.waiting import eventually

WAYS = ("header", "subprotocol", "auth")
BAN_ROUNDS = 350
OTHER_ROUNDS = 60


async def _round(
    nodes: tuple[Node, Node], token: str, revoke: Callable[[], Awaitable[Acknowledgement]], chance: random.Random
) -> list[RawClient]:
    """Sockets of one user open while ``revoke`` runs; returns them, each with its fate decided."""

    async def one(index: int) -> RawClient:
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        return await RawClient.begin(nodes[index % 2], token, WAYS[index % 3], f"?platform=web&device=d{index}")

    async def revoking() -> Acknowledgement:
        for _ in range(chance.randrange(24)):
            await asyncio.sleep(0)
        return await revoke()

    *clients, done = await asyncio.gather(*(one(index) for index in range(6)), revoking())
    assert isinstance(done, Acknowledgement)
    assert done.nodes_silent == []
    opened = [client for client in clients if isinstance(client, RawClient)]
    for client in opened:
        client.say({"type": "user.get", "id": "late", "users": ["mallory"]})
    for client in opened:
        # The socket's own end takes the linger; its fate is known when the code is there, or the reset.
        await client.until(b'"code":310', or_end=True)
    for node in nodes:
        assert not node.hub.of("mallory")
    assert not await nodes[0].services.presence.online("mallory")
    return opened


async def _race(
    url: str,
    rounds: int,
    revoke: Callable[[Node, str], Awaitable[Acknowledgement]],
    restore: Callable[[Node], Awaitable[object]],
    *,
    token_a_round: bool = False,
) -> None:
    chance = random.Random(1)
    async with two_nodes(url) as nodes:
        await nodes[0].services.settings.set({"devicePolicy": "unlimited"})
        token = await nodes[0].services.tokens.issue("mallory", "Mallory")
        opened: list[RawClient] = []
        for number in range(rounds):
            node = nodes[number % 2]
            if token_a_round:
                token = await node.services.tokens.issue("mallory", None)
            current = token
            opened += await _round(nodes, current, lambda: revoke(node, current), chance)  # noqa: B023
            await restore(node)
        received = [await client.until_end() for client in opened]
        for number, way in enumerate(WAYS):
            # Each way was a race: some were in before the revocation, some were not.
            welcomed = [b'"welcome"' in each for each in received[number :: len(WAYS)]]
            assert 0 < sum(welcomed) < len(welcomed), way
        assert not [each for each in received if b'"type":"ok"' in each]


async def test_no_socket_of_a_banned_user_lives_once_the_ban_has_returned(valkey: Server) -> None:
    async def ban(node: Node, _: str) -> Acknowledgement:
        return await node.services.bans.ban(["mallory"], minutes=1)

    await _race(valkey.url, BAN_ROUNDS, ban, lambda node: node.services.bans.unban(["mallory"]))


async def test_no_socket_with_an_expired_token_lives_once_the_expiry_has_returned(valkey: Server) -> None:
    async def expire(node: Node, token: str) -> Acknowledgement:
        return await node.services.tokens.expire(["mallory"], claims_of(token)["iat_ms"] + 1)

    async def nothing(_: Node) -> None:
        pass

    await _race(valkey.url, OTHER_ROUNDS, expire, nothing, token_a_round=True)


async def test_no_socket_of_a_deactivated_user_lives_once_the_deactivation_has_returned(valkey: Server) -> None:
    async def deactivate(node: Node, _: str) -> Acknowledgement:
        return await node.services.deletion.deactivate(["mallory"])

    await _race(valkey.url, OTHER_ROUNDS, deactivate, lambda node: node.services.deletion.reactivate(["mallory"]))


async def test_no_socket_with_a_revoked_token_lives_once_the_revocation_has_returned(valkey: Server) -> None:
    async def revoke(node: Node, token: str) -> Acknowledgement:
        return await node.services.tokens.revoke("mallory", claims_of(token)["jti"])

    async def nothing(_: Node) -> None:
        pass

    await _race(valkey.url, OTHER_ROUNDS, revoke, nothing, token_a_round=True)


async def test_a_ban_that_meets_a_client_which_has_just_ended_its_side_ends_the_others(valkey: Server) -> None:
    """In one turn of the loop come the end of what was being let in, the store's yes to it, and the ban."""
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, node_id="a", role="edge", probe_timeout_s=30) as a:
            token = await b.services.tokens.issue("mallory", "Mallory")
            await eventually(lambda: not a.bus.links[0]._pending)
            proxy.pause(to_server=False)
            async with raw_socket(a) as first, raw_socket(a) as second:
                for number, (client, platform) in enumerate(((first, "web"), (second, "ios")), 1):
                    client.send(upgrade_request(f"/v1/connect?platform={platform}", token))
                    await eventually(lambda: len(a.hub.of("mallory")) == number)  # noqa: B023

                async def registered() -> bool:
                    return len(await b.services.presence.sessions("mallory")) == 2

                await eventually(registered)
                banning = asyncio.create_task(b.services.bans.ban(["mallory"], minutes=1))
                # The ban is written when the directory has it; its push waits in the proxy with the answers.
                await eventually(b.services.bans.list)
                with first.at_once() as raw:
                    raw.shutdown(socket.SHUT_WR)
                proxy.resume()
                done = await banning
                assert (done.nodes_answered, done.nodes_silent) == ([a.bus.incarnation], [])
                assert not a.hub.of("mallory")
