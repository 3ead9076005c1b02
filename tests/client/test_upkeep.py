"""The client's link: broken, frozen, refused and ended in every way there is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest

from gateway.client import (
    AccountDeactivated,
    Banned,
    Client,
    Closed,
    Kicked,
    OutcomeUnknown,
    RefusedDevice,
    Replaced,
    Stopped,
    TokenExpired,
    TokenInvalid,
    TooManySessions,
    Unreachable,
    upkeep,
)
from gateway.client import link as links
from gateway.client.errors import ProviderFailed
from gateway.core.close import Closing
from gateway.node import Node
from gateway.protocol import codes
from tests.client.conftest import Apps
from tests.integration.fleet import BRISK, MovableClock
from tests.nodes import running_node
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually


@asynccontextmanager
async def proxied(node: Node) -> AsyncIterator[tuple[Proxy, str]]:
    """A link between client and node that can be cut, and the address of its near end."""
    async with Proxy(f"ws://127.0.0.1:{node.listener.port}") as proxy:
        yield proxy, proxy.url.replace("redis:", "ws:")


async def stopped(client: Client, kind: type[Stopped], close_code: int) -> Stopped:
    """Waits for the client's end, which is for good."""
    async with asyncio.timeout(5):
        why = await client.stopped()
    assert why is not None
    assert (type(why), why.close_code, client.state) == (kind, close_code, "stopped")
    with pytest.raises(kind):
        await client.send("bob", 1)
    return why


async def test_a_cut_link_is_replaced_and_nothing_is_missing_or_double(apps: Apps) -> None:
    async with proxied(apps.node) as (proxy, url):
        bob, inbox = await apps.listening("bob", url=url)
        resumed: list[bool] = []
        bob.on_resumed(resumed.append)
        alice = await apps.connected("alice")
        for number in range(60):
            if number % 20 == 10:
                await eventually(lambda: bob.state == "live")
                proxy.cut()
            await alice.send("bob", number)
        await eventually(lambda: len(inbox) == 60)
        assert inbox.bodies == list(range(60))
        await eventually(lambda: resumed == [True, True, True])
        assert apps.states[bob][:4] == ["connecting", "live", "waiting", "connecting"]


async def test_a_link_that_went_silent_is_noticed_and_replaced(apps: Apps) -> None:
    async with proxied(apps.node) as (proxy, url):
        bob, inbox = await apps.listening("bob", url=url, heartbeat_s=0.2)
        alice = await apps.connected("alice")
        proxy.pause()
        await alice.send("bob", "into the silence")
        await eventually(lambda: "waiting" in apps.states[bob])
        proxy.resume()
        await eventually(lambda: inbox.bodies == ["into the silence"])


async def test_a_link_that_is_slow_is_kept(apps: Apps) -> None:
    async with proxied(apps.node) as (proxy, url):
        # An answer takes seven tenths of the time that it has; the rest is for a machine that is slow as well.
        alice = await apps.connected("alice", url=url, heartbeat_s=2.0)
        proxy.slow(0.7)
        for _ in range(3):
            await alice.ping()
        assert apps.states[alice] == ["connecting", "live"]


async def test_a_kick_stops_the_client_until_the_app_says_otherwise(apps: Apps) -> None:
    alice = await apps.connected("alice")
    await apps.node.services.control.kick(users=["alice"], reason="go home")
    why = await stopped(alice, Kicked, 4505)
    assert why.reason == "go home"
    # Nobody came back by itself; the app may decide to.
    assert apps.states[alice] == ["connecting", "live", "stopped"]
    await alice.connect()
    assert alice.state == "live"


async def test_a_ban_stops_the_client_says_until_when_and_refuses_it(apps: Apps) -> None:
    alice = await apps.connected("alice")
    await apps.node.services.bans.ban(["alice"], minutes=5, reason="spam")
    why = await stopped(alice, Banned, 4502)
    assert why.until is not None
    assert abs(why.until / 1000 - time.time() - 300) < 60
    with pytest.raises(Banned) as caught:
        await alice.connect()
    assert (caught.value.close_code, caught.value.until) == (4502, why.until)
    await apps.node.services.bans.unban(["alice"])
    await alice.connect()


async def test_deactivation_replacement_and_policy_stop_the_client(apps: Apps) -> None:
    services = apps.node.services
    first = await apps.connected("alice", device="one", platform="ios")
    second = await apps.connected("alice", device="two", platform="android")
    await stopped(first, Replaced, 4504)
    await services.settings.set({"devicePolicy": "refuse"})
    with pytest.raises(RefusedDevice) as refused:
        await apps.new("alice", device="three", platform="ios").connect()
    assert refused.value.close_code == 4506
    await services.deletion.deactivate(["alice"])
    await stopped(second, AccountDeactivated, 4503)


async def test_too_many_sessions_and_nonsense_stop_the_client(valkey: Server) -> None:
    async with running_node(valkey.url, sessions_per_user_max=1) as node:
        await node.services.settings.set({"devicePolicy": "unlimited"})
        url, token = f"ws://127.0.0.1:{node.listener.port}", await node.services.tokens.issue("alice", None)
        async with Client(url, token):
            with pytest.raises(TooManySessions):
                await Client(url, token).connect()
        with pytest.raises(TokenInvalid):
            await Client(url, token + "x").connect()
        with pytest.raises(Stopped) as caught:
            await Client(url, token, device="a device id may have no spaces").connect()
        assert (type(caught.value), caught.value.code) == (Stopped, 400)
        with pytest.raises(Stopped) as caught:
            await Client(f"{url}/nowhere", token).connect()
        assert caught.value.close_code == 404


async def test_a_port_that_is_not_the_clients_is_named(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        with pytest.raises(Stopped, match=r"not a gateway's client port \(HTTP status 401\)") as caught:
            await Client(f"ws://127.0.0.1:{node.admin.port}", "token").connect()
        assert type(caught.value) is Stopped


@pytest.mark.parametrize("given", [None, "", b"bytes"])
async def test_a_token_function_that_gives_none_is_named(apps: Apps, given: object) -> None:
    def of_my_app() -> object:
        return given

    with pytest.raises(Unreachable, match=f"of_my_app: gave {given!r} for a token"):
        await Client(apps.url(), of_my_app, connect_s=0.5).connect()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="token: empty"):
        Client(apps.url(), "")


async def test_a_device_that_comes_back_takes_over_from_its_own_dead_session(apps: Apps) -> None:
    async with proxied(apps.node) as (proxy, url):
        alice = await apps.connected("alice", url=url, heartbeat_s=0.5)
        first = alice.session
        # The gateway does not learn of the end: the old session is still there when the device comes again.
        proxy.pause()
        await eventually(lambda: "waiting" in apps.states[alice])
        proxy.resume(to_client=False)
        proxy.resume()
        await eventually(lambda: alice.state == "live")
        assert alice.session != first
        await alice.ping()
        assert "stopped" not in apps.states[alice]


async def test_an_expired_token_is_replaced_by_a_new_one_where_there_is_one(apps: Apps) -> None:
    services = apps.node.services
    alice = await apps.connected("alice")
    fixed = await apps.connected("bob", token=await services.tokens.issue("bob", None))
    now_ms = await apps.node.store.now_ms() + 1
    await services.tokens.expire(["alice", "bob"], now_ms)
    await stopped(fixed, TokenExpired, 4501)
    await eventually(lambda: apps.states[alice][2:] and alice.state == "live")
    with pytest.raises(TokenExpired):
        await fixed.connect()


async def test_a_new_token_that_has_expired_as_well_stops_the_client(apps: Apps) -> None:
    old = await apps.node.services.tokens.issue("alice", None)
    asked = []

    def token() -> str:
        asked.append(old)
        return old

    alice = await apps.connected("alice", token=token)
    await apps.node.services.tokens.expire(["alice"], await apps.node.store.now_ms() + 1)
    await stopped(alice, TokenExpired, 4501)
    assert len(asked) == 2


async def test_a_token_about_to_end_is_refreshed_while_the_link_stays(valkey: Server) -> None:
    clock = MovableClock()
    async with running_node(valkey.url, clock, lease_s=300.0, heartbeat_s=3000.0, drop_wait_s=301.0) as node:
        lifetimes = [200, 400]
        states: list[str] = []

        async def token() -> str:
            return await node.services.tokens.issue("alice", None, lifetime_s=lifetimes.pop(0))

        async with Client(f"ws://127.0.0.1:{node.listener.port}", token) as alice:
            alice.on_state(lambda state, why: states.append(state))
            clock.jump(145)
            await alice.ping()
            await eventually(lambda: not lifetimes)
            # The refresh went out before these.
            await alice.ping()
            clock.jump(145)
            await alice.ping()
            # 290 seconds on, the first token is long over.
            assert states == []


async def test_a_refresh_that_fails_is_tried_again(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "REFRESH_PAUSE_S", 0.01)
    async with running_node(valkey.url) as node:
        asked, errors = [], list[Exception]()

        async def token() -> str:
            asked.append(1)
            if len(asked) in (2, 3):
                raise ConnectionError("the app's server is away")
            # Of less than the notice: announced at once.
            return await node.services.tokens.issue("alice", None, lifetime_s=30 if len(asked) == 1 else 0)

        async with Client(f"ws://127.0.0.1:{node.listener.port}", token) as alice:
            alice.on_error(errors.append)
            await eventually(lambda: len(asked) == 4)
            assert [type(error) for error in errors] == [ProviderFailed] * 2
            await alice.ping()


async def test_a_drain_sends_the_client_to_come_again(valkey: Server) -> None:
    async with running_node(valkey.url, reconnect_spread_ms=300) as node:
        states, whys = [], []
        async with Client(f"ws://127.0.0.1:{node.listener.port}", await node.services.tokens.issue("alice", None)) as a:

            def moved(state: str, why: str) -> None:
                states.append(state)
                whys.append(why)

            a.on_state(moved)
            before = a.session
            await node.listener.drain(0.0)
            await eventually(lambda: states)
            assert (states[0], whys[0]) == ("waiting", "the node drains")
            node.listener.resume()
            await eventually(lambda: a.state == "live")
            assert a.session != before


@pytest.mark.parametrize("close", [codes.SLOW_CONSUMER, codes.INTERNAL_ERROR, codes.SERVICE_RESTART])
async def test_a_close_that_says_come_again_is_obeyed_with_its_wait(apps: Apps, close: codes.CloseCode) -> None:
    alice = await apps.connected("alice")
    (session,) = apps.node.hub.of("alice")
    before = time.monotonic()
    session.cut(Closing.of(close, retry_after_ms=700))
    await eventually(lambda: alice.state == "waiting")
    await eventually(lambda: alice.state == "live")
    # Never earlier: the clock is the client's own.
    assert time.monotonic() - before >= 0.7


@pytest.mark.parametrize("close", [codes.UNSUPPORTED, codes.TOO_BIG, codes.ORIGIN_REFUSED])
async def test_a_close_that_the_next_link_would_get_as_well_stops(apps: Apps, close: codes.CloseCode) -> None:
    alice = await apps.connected("alice")
    (session,) = apps.node.hub.of("alice")
    session.cut(Closing.of(close))
    async with asyncio.timeout(5):
        why = await alice.stopped()
    assert why is not None
    assert why.close_code == close.code


async def test_nobody_there_is_unreachable_after_its_time(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        url = f"ws://127.0.0.1:{node.listener.port}"
    client = Client(url, "token", connect_s=0.3)
    with pytest.raises(Unreachable, match="connection refused"):
        await client.connect()
    assert client.state == "stopped"


async def test_somebody_silent_there_is_unreachable_as_well(apps: Apps) -> None:
    async with proxied(apps.node) as (proxy, url):
        proxy.pause()
        with pytest.raises(Unreachable, match="no answer in time"):
            await apps.new("alice", url=url, connect_s=0.5, attempt_s=0.2).connect()


async def test_a_store_that_is_away_at_connect_is_waited_for(fresh_valkey: Server) -> None:
    async with running_node(fresh_valkey.url, **BRISK) as node:
        token = await node.services.tokens.issue("alice", None)
        client = Client(f"ws://127.0.0.1:{node.listener.port}", token)
        fresh_valkey.kill()
        connecting = asyncio.create_task(client.connect())
        await eventually(lambda: client.state == "waiting")
        fresh_valkey.restart()
        await connecting
        assert client.state == "live"
        await client.close()


async def test_a_token_hook_that_fails_is_told_of_and_asked_again(apps: Apps) -> None:
    calls = []

    def token() -> Awaitable[str]:
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("the app's server is away")
        return apps.token("alice")()

    alice = await apps.connected("alice", token=token)
    assert len(calls) == 2
    (error,) = apps.errors[alice]
    assert isinstance(error.__cause__, ConnectionError)
    with pytest.raises(Unreachable, match="hang"):

        async def hang() -> str:
            await asyncio.Event().wait()
            raise AssertionError("never")

        await apps.new("bob", token=hang, attempt_s=0.1, connect_s=0.3).connect()


async def test_an_end_reaches_whoever_waits(apps: Apps) -> None:
    alice, bob = await apps.connected("alice"), await apps.connected("bob")
    waiting = asyncio.create_task(anext(alice))
    closing = asyncio.create_task(anext(bob))
    await eventually(lambda: alice._waiting_for_next and bob._waiting_for_next)
    await apps.node.services.control.kick(users=["alice"])
    with pytest.raises(Kicked):
        await waiting
    await bob.close()
    with pytest.raises(StopAsyncIteration):
        await closing


async def test_closing_in_the_middle_of_an_attempt_leaves_nothing(apps: Apps) -> None:
    async with proxied(apps.node) as (proxy, url):
        proxy.pause()
        client = apps.new("alice", url=url)
        connecting = asyncio.create_task(client.connect())
        await eventually(lambda: proxy.connections)
        await client.close()
        with pytest.raises(Closed):
            await connecting
        again = asyncio.create_task(client.connect())
        await eventually(lambda: proxy.accepted == 2)
        again.cancel()
        with pytest.raises(asyncio.CancelledError):
            await again
        assert client.state == "stopped"


async def test_a_command_that_loses_its_link_has_an_unknown_outcome(apps: Apps) -> None:
    async with proxied(apps.node) as (proxy, url):
        alice = await apps.connected("alice", url=url)
        proxy.pause(to_server=False)
        asked = asyncio.create_task(alice.blocklist.add("bob"))
        await eventually(lambda: apps.node.services.relationships.blocked("alice", ["bob"]))
        proxy.cut()
        proxy.resume()
        with pytest.raises(OutcomeUnknown):
            await asked


async def test_no_log_line_shows_the_token(apps: Apps, caplog: pytest.LogCaptureFixture) -> None:
    token = await apps.token("alice")()
    caplog.set_level("DEBUG")
    async with Client(apps.url(), token) as alice:
        await alice.ping()
    with pytest.raises(TokenInvalid):
        await Client(apps.url(), "a-forged-token").connect()
    assert token not in caplog.text
    assert "a-forged-token" not in caplog.text


async def test_asking_to_connect_twice_does_not_end_what_is_there(apps: Apps) -> None:
    async with proxied(apps.node) as (proxy, url):
        alice = await apps.connected("alice", url=url, connect_s=0.2)
        await alice.connect()
        proxy.refuse()
        await eventually(lambda: alice.state == "waiting")
        with pytest.raises(Unreachable):
            await alice.connect()
        proxy.accept()
        await eventually(lambda: alice.state == "live")


async def test_a_link_gone_silent_does_not_hold_up_the_end(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "CLOSE_S", 0.1)
    async with proxied(apps.node) as (proxy, url):
        bob = await apps.connected("bob", url=url)
        proxy.pause()
        await bob.close()
        assert bob.state == "stopped"
        assert await bob.stopped() is None
