"""What the caller of drops learns when the store carries them out in part, or has lost its Functions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.services.services import Services
from gateway.store.errors import OutcomeUnknown, StoreUnavailable
from gateway.store.store import Store
from tests.nodes import CREDENTIALS, config
from tests.servers import Server
from tests.store.acts import Acts


@asynccontextmanager
async def limited(server: Server, *users: str) -> AsyncIterator[Store]:
    """A store that carries out what concerns these users, and nothing of others."""
    store = await Store.open(server.url)
    prefixes = [store.keys.user(user).node_channel.removesuffix("n:") for user in users]
    allowed = [f"~{prefix}*" for prefix in prefixes]
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "resetkeys", *allowed)
    try:
        yield store
    finally:
        await store.close()


async def test_a_ban_is_carried_out_by_a_store_that_has_lost_its_functions(valkey: Server) -> None:
    store = await Store.open(valkey.url)
    services = Services.over(store, config(), CREDENTIALS)
    await store.topology.masters[0].execute("FUNCTION", "FLUSH")
    await services.bans.ban(["alice", "bob"], minutes=None)
    assert {ban.user for ban in await services.bans.list()} == {"alice", "bob"}
    await store.close()


async def test_drops_of_some_users_alone_have_an_unknown_outcome(fresh_valkey: Server) -> None:
    async with limited(fresh_valkey, "alice") as store:
        bans = Services.over(store, config(), CREDENTIALS).bans
        with pytest.raises(StoreUnavailable):
            await bans.ban(["bob"], minutes=None)
        with pytest.raises(OutcomeUnknown, match="in part"):
            await bans.ban(["bob", "alice"], minutes=None)


async def test_calls_of_which_some_may_not_be_made_have_an_unknown_outcome(fresh_valkey: Server) -> None:
    async with limited(fresh_valkey, "alice") as store:
        accounts = Services.over(store, config(), CREDENTIALS).accounts
        with pytest.raises(StoreUnavailable):
            await accounts.mute(["bob"], True)
        with pytest.raises(OutcomeUnknown, match="in part"):
            await accounts.mute(["alice", "bob"], True)


async def test_a_drop_that_was_written_is_not_said_to_be_undone(fresh_valkey: Server) -> None:
    """What the nodes answered cannot be read."""
    async with limited(fresh_valkey, "alice") as store:
        acts = Acts(store)
        await acts.register("alice")
        await acts.joined("alice", "s1", "a.1")
        with fresh_valkey.client() as client:
            client.execute_command("ACL", "SETUSER", "default", "-blpop")
        with pytest.raises(OutcomeUnknown, match="written"):
            await Services.over(store, config(), CREDENTIALS).bans.ban(["alice"], minutes=None)
        assert await acts.raw("alice", "HGET", store.keys.user("alice").user, "ban_until") == b"0"


async def test_a_drop_is_acknowledged_where_nobody_may_ask_for_replicas(fresh_valkey: Server) -> None:
    async with limited(fresh_valkey, "alice") as store:
        with fresh_valkey.client() as client:
            client.execute_command("ACL", "SETUSER", "default", "-role", "-wait")
        done = await Services.over(store, config(), CREDENTIALS).bans.ban(["alice"], minutes=None)
        assert done.replicas is None
        acts = Acts(store)
        assert await acts.raw("alice", "HGET", store.keys.user("alice").user, "ban_until") == b"0"
