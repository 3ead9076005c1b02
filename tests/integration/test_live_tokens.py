"""Tokens on live connections: the notice, the end, and swapping one for another in place."""

import asyncio
import time
from typing import Any

import pytest

from gateway.core.claims import sign
from gateway.node import Node
from tests.integration.fleet import MovableClock, claims_of, everything, until_closed
from tests.nodes import CREDENTIALS, Client, login, running_node
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually

PATIENT = {"lease_s": 300.0, "heartbeat_s": 3000.0, "drop_wait_s": 301.0}
"""A jump of the clock is then a gap, not the end of a lease or of a silent client."""


async def issue(node: Node, user: str, lifetime_s: int) -> str:
    return await node.services.tokens.issue(user, None, lifetime_s=lifetime_s)


async def test_a_token_that_ends_is_announced_and_then_ends_the_connection(valkey: Server) -> None:
    clock = MovableClock()
    async with running_node(valkey.url, clock, **PATIENT) as node:
        token = await issue(node, "alice", 200)
        alice = await login(node, "alice", token=token)
        ends_at = claims_of(token)["exp"] * 1000
        assert alice.welcome["token_expires_at"] == ends_at
        clock.jump(120)
        assert await everything(alice) == []
        clock.jump(25)
        assert await alice.next("token_expiring") == {"type": "token_expiring", "expires_at": ends_at}
        assert (await alice.send("alice"))["type"] == "sent"
        clock.jump(60)
        received, code = await until_closed(alice)
        assert code == 4501
        assert [each for each in received if each["type"] == "token_expiring"] == []
        assert not await node.services.presence.online("alice")


async def test_a_token_that_has_less_than_the_notice_left_is_announced_at_once(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        alice = await login(node, "alice", token=await issue(node, "alice", 2))
        await alice.next("token_expiring")
        started = time.monotonic()
        code, reason = await alice.closed()
        assert (code, reason["code"]) == (4501, 31020)
        assert time.monotonic() - started < 5.0


async def test_refresh_swaps_the_token_in_place(valkey: Server) -> None:
    clock = MovableClock()
    async with running_node(valkey.url, clock, **PATIENT) as node:
        first = await issue(node, "alice", 100)
        alice = await login(node, "alice", token=first)
        second = await issue(node, "alice", 1000)
        answer = await alice.ask("refresh", token=second)
        assert answer == {"type": "ok", "id": answer["id"], "token_expires_at": claims_of(second)["exp"] * 1000}
        clock.jump(150)
        # The old token's end is none of this connection's any more, nor is its revocation.
        assert await everything(alice) == []
        done = await node.services.tokens.revoke("alice", claims_of(first)["jti"])
        assert done.sessions_closed == 0
        (session,) = await node.services.presence.sessions("alice")
        assert (session.jti, session.issued_at) == (claims_of(second)["jti"], claims_of(second)["iat_ms"])
        done = await node.services.tokens.revoke("alice", claims_of(second)["jti"])
        assert done.sessions_closed == 1
        assert (await alice.closed())[0] == 4501


async def test_refresh_to_a_token_without_an_end_ends_the_deadline(valkey: Server) -> None:
    clock = MovableClock()
    async with running_node(valkey.url, clock, **PATIENT) as node:
        alice = await login(node, "alice", token=await issue(node, "alice", 100))
        assert (await alice.ask("refresh", token=await issue(node, "alice", 0)))["token_expires_at"] is None
        clock.jump(120)
        assert await everything(alice) == []
        await alice.close()


async def refused(client: Client, token: str) -> int:
    answer = await client.ask("refresh", token=token)
    assert answer["type"] == "error", answer
    return int(answer["code"])


async def test_refresh_refuses_what_connect_would_refuse_and_the_connection_goes_on_with_the_old(
    valkey: Server,
) -> None:
    async with running_node(valkey.url) as node:
        await node.services.settings.set({"expireKeepsConnections": True})
        alice = await login(node, "alice")
        voided, revoked = await issue(node, "alice", 0), await issue(node, "alice", 0)
        own = claims_of(voided)
        assert await refused(alice, await issue(node, "bob", 0)) == 31004
        assert await refused(alice, "no token") == 31004
        other_app: dict[str, Any] = own | {"aud": "another app"}
        assert await refused(alice, sign(other_app, CREDENTIALS.app_secret)) == 31004
        ended: dict[str, Any] = own | {"exp": own["iat"] - 1}
        assert await refused(alice, sign(ended, CREDENTIALS.app_secret)) == 31020
        await node.services.tokens.revoke("alice", claims_of(revoked)["jti"])
        assert await refused(alice, revoked) == 31020
        await node.services.tokens.expire(["alice"], own["iat_ms"] + 1)
        assert await refused(alice, voided) == 31020
        assert (await alice.send("alice"))["type"] == "sent"
        await alice.close()


@pytest.mark.parametrize("act", ["ban", "deactivate"])
async def test_a_refresh_that_meets_a_ban_or_deactivation_gives_no_life(valkey: Server, act: str) -> None:
    """The ban has run, its push is still on the way, when the refresh is read."""
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b") as b:
        async with running_node(proxy.url, node_id="a", probe_timeout_s=30.0) as a:
            alice = await login(a, "alice")
            fresh = await b.services.tokens.issue("alice", None)
            proxy.pause(to_server=False)
            services = b.services
            call = services.bans.ban(["alice"], minutes=1) if act == "ban" else services.deletion.deactivate(["alice"])
            acting = asyncio.create_task(call)
            await eventually(lambda: _recorded(b, act))
            await alice.say({"type": "refresh", "id": "r", "token": fresh})
            await eventually(lambda: a.hub.of("alice")[0].pending == 1)
            proxy.resume()
            assert (await acting).sessions_closed == 1
            received, code = await until_closed(alice)
            assert code == {"ban": 4502, "deactivate": 4503}[act]
            assert not [each for each in received if each["type"] == "ok"]


async def _recorded(node: Node, act: str) -> bool:
    if act == "ban":
        return bool(await node.services.bans.list())
    account = await node.services.accounts.get("alice")
    return account is not None and account.deactivated_at is not None
