from __future__ import annotations

from gateway.services.services import Services
from gateway.store import drops
from gateway.store.store import Store
from tests.nodes import CREDENTIALS, config
from tests.servers import Server


async def test_bans_that_have_ended_are_not_listed_even_before_a_sweep(valkey: Server) -> None:
    store = await Store.open(valkey.url, partitions=8)
    bans = Services.over(store, config(), CREDENTIALS).bans
    await bans.ban(["alice"], minutes=5, reason="spam")
    await bans.ban(["bob"], minutes=None)
    now = await store.now_ms()
    for index in range(20):
        await store.execute(drops.ban(store.keys, f"u{index}", "", now - 1 - index, "over"))
    for limit in (1, 2, 1000):
        listed = [(ban.user, ban.reason) for ban in await bans.list(limit=limit)]
        assert listed == [("bob", ""), ("alice", "spam")][:limit]
    assert (await bans.list())[0].until_ms is None
    await bans.forget_ended()
    assert [ban.user for ban in await bans.list()] == ["bob", "alice"]
    await store.close()
