"""What a send by the app's server says when the store goes away in the middle of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.config import Config
from gateway.metrics import METRICS
from gateway.services.errors import DATA_MISSING, Refused
from gateway.services.messages import Draft
from gateway.services.services import Services
from gateway.store import accounts, messages
from gateway.store.errors import OutcomeUnknown, StoreError, StoreUnavailable
from gateway.store.recalls import Target
from gateway.store.store import Store
from tests.nodes import CREDENTIALS
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually

LARGE = Draft("alice", "own", "x" * 131_072)
USERS = [f"u{number}" for number in range(400)]


@pytest.fixture
async def store(valkey: Server) -> AsyncIterator[Store]:
    """The store as it is: what the tests look at."""
    store = await Store.open(valkey.url, partitions=8)
    await store.execute_all([accounts.register(store.keys, user) for user in ("alice", *USERS)])
    yield store
    await store.close()


@pytest.fixture
async def proxy(valkey: Server) -> AsyncIterator[Proxy]:
    async with Proxy(valkey.url) as proxy:
        yield proxy


@pytest.fixture
async def services(store: Store, proxy: Proxy) -> AsyncIterator[Services]:
    """Services over a store that can be cut off."""
    shaky = await Store.open(proxy.url, partitions=8, timeout_s=1.0)
    yield Services.over(shaky, Config(), CREDENTIALS)
    await shaky.close()


async def waiting(store: Store, user: str) -> int:
    return len(await store.execute(messages.read(store.keys, user, (0, 0))))


async def test_before_the_first_recipient_it_is_certain_that_nobody_got_it(
    services: Services, store: Store, proxy: Proxy
) -> None:
    proxy.refuse()
    proxy.cut()
    # What is written before the cut is felt may have been read: the first call feels it.
    with pytest.raises(StoreError):
        await services.settings.get()
    with pytest.raises(StoreUnavailable):
        await services.messages.send(LARGE, USERS)
    assert await waiting(store, USERS[0]) == 0


async def test_after_the_first_recipient_it_is_said_that_some_may_have_got_it(
    services: Services, store: Store, proxy: Proxy
) -> None:
    sending = asyncio.ensure_future(services.messages.send(LARGE, USERS))

    async def under_way() -> bool:
        return await waiting(store, USERS[3]) == 1

    await eventually(under_way)
    proxy.refuse()
    proxy.cut()
    with pytest.raises(OutcomeUnknown):
        await sending
    assert await waiting(store, USERS[-1]) == 0


async def test_echoes_that_are_refused_are_counted_and_do_not_fail_the_send(services: Services, store: Store) -> None:
    lost, echoed = METRICS.echoes_lost, METRICS.messages_echoed
    draft = Draft("nobody", "own", "text", echo=True)
    assert len(await services.messages.send(draft, USERS[:3])) == 3
    assert (METRICS.echoes_lost - lost, METRICS.messages_echoed - echoed) == (3, 0)
    assert len(await services.messages.send(draft._replace(sender="alice"), USERS[:3])) == 3
    assert METRICS.messages_echoed - echoed == 3


async def test_a_recall_that_was_interrupted_is_finished_by_the_next(services: Services, store: Store) -> None:
    draft = Draft("alice", "own", "text", echo=True)
    [stored] = await services.messages.send(draft, ["u1"])
    target = Target(stored.mid, "alice", "u1")
    # As if the call had come no further than the recipient's inbox.
    inbox = store.keys.user("alice").inbox
    place = store.keys.partition("alice")
    await services.messages.recall(target)
    tail = messages.tail(stored.mid, "alice", "u1", "own", b'"text"')
    await store.topology.master(place).execute("DEL", inbox)
    await store.execute(messages.echo(store.keys, "alice", "", tail, 100, 86_400_000, 1 << 26))
    await services.messages.recall(target)
    [entry] = messages.parse_read(await store.execute(messages.read(store.keys, "alice", (0, 0))))
    assert entry.kind == b"r"
    assert await waiting(store, "u1") == 1


async def test_what_was_recalled_is_not_changed_for_the_sender_either(services: Services, store: Store) -> None:
    [stored] = await services.messages.send(Draft("alice", "own", "text"), ["u1"])
    target = Target(stored.mid, "alice", "u1")
    # Nobody of alice's is there to be told; then there is.
    await services.messages.recall(target)
    ack = store.keys.user("alice").ack
    await store.topology.master(store.keys.partition("alice")).execute("HSET", ack, "phone", "1-0@1")
    with pytest.raises(Refused) as refused:
        await services.messages.update(target, "changed")
    assert refused.value.code == DATA_MISSING
    assert await waiting(store, "alice") == 0
