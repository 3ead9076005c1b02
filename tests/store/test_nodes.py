"""Leases in Redis' own time: renewing, claiming, burying, and what an outage of the store changes."""

from gateway.store import nodes
from gateway.store.keys import NODES
from gateway.store.nodes import Renewal
from tests.store.acts import Acts
from tests.waiting import eventually

LEASE_MS = 10_000


async def renew(acts: Acts, node: str, mode: str = "renew", lease_ms: int = LEASE_MS) -> Renewal:
    return nodes.parse_renewal(await acts.do(nodes.renew(acts.keys, node, lease_ms, mode)))


async def claim(acts: Acts, dead: str, claimant: str) -> bool:
    return bool(await acts.do(nodes.claim(acts.keys, dead, claimant)))


async def end(acts: Acts, member: str) -> None:
    """Ends a lease or a claim, as time would."""
    await acts.do(nodes.leases(acts.keys)._replace(command=("ZADD", NODES, 1, member)))


async def members(acts: Acts) -> set[str]:
    listed = await acts.do(nodes.leases(acts.keys)._replace(command=("ZRANGE", NODES, 0, -1)))
    return {member.decode() for member in listed}


async def test_a_lease_is_renewed_while_it_lasts_and_listed(acts: Acts) -> None:
    first = await renew(acts, "a.1", "first")
    assert (first.granted, first.next_end, first.ended) == (True, None, [])
    other = await renew(acts, "b.1", "first", 5_000)
    assert other.next_end == first.now + LEASE_MS
    again = await renew(acts, "a.1")
    assert again.granted
    assert again.next_end == other.now + 5_000
    now = nodes.parse_time(await acts.do(nodes.time(acts.keys)))
    leases = nodes.parse_leases(await acts.do(nodes.leases(acts.keys)))
    assert {lease.incarnation for lease in leases} == {"a.1", "b.1"}
    assert all(now < lease.ends_at <= now + LEASE_MS for lease in leases)


async def test_an_ended_lease_never_renews(acts: Acts) -> None:
    for mode in ("renew", "first"):
        await renew(acts, "a.1", "first", 1)

        async def refused(mode: str = mode) -> bool:
            return not (await renew(acts, "a.1", mode, 1)).granted

        await eventually(refused)
        await acts.do(nodes.bury(acts.keys, "a.1"))
    assert not (await renew(acts, "a.1")).granted
    assert not (await renew(acts, "a.1", "outage")).granted
    assert "a.1" not in await members(acts)


async def test_an_ended_lease_is_told_to_the_others_until_it_is_buried(acts: Acts) -> None:
    await renew(acts, "a.1", "first")
    await renew(acts, "b.1", "first")
    await end(acts, "a.1")
    assert (await renew(acts, "b.1")).ended == ["a.1"]
    assert (await renew(acts, "b.1")).next_end is None
    assert await acts.do(nodes.bury(acts.keys, "a.1")) == 1
    assert (await renew(acts, "b.1")).ended == []


async def test_who_was_reaped_is_listed_once_more_and_then_never_again(acts: Acts) -> None:
    await renew(acts, "b.1", "first")
    await end(acts, "a.1")
    await acts.do(nodes.bury(acts.keys, "a.1", 300))
    assert await members(acts) == {"b.1", "again a.1"}
    renewal = await renew(acts, "b.1")
    assert (renewal.ended, renewal.next_end) == ([], None)

    async def listed() -> bool:
        return (await renew(acts, "b.1")).ended == ["a.1"]

    await eventually(listed)
    # Until somebody has been through, whoever forgets it meanwhile.
    assert await listed()
    assert await claim(acts, "a.1", "b.1")
    await acts.do(nodes.bury(acts.keys, "a.1", 300))
    assert await members(acts) == {"b.1"}


async def test_only_one_claimant_reaps_and_its_claim_ends_by_itself(acts: Acts) -> None:
    for node in ("dead.1", "b.1", "c.1"):
        await renew(acts, node, "first")
    assert not await claim(acts, "dead.1", "b.1")
    assert not await claim(acts, "never.1", "b.1")
    await end(acts, "dead.1")
    assert await claim(acts, "dead.1", "b.1")
    assert not await claim(acts, "dead.1", "c.1")
    assert await claim(acts, "dead.1", "b.1")
    await end(acts, "claim dead.1 b.1")
    assert await claim(acts, "dead.1", "c.1")
    assert not await claim(acts, "dead.1", "b.1")
    # Claims are no leases, and go with the incarnation.
    assert (await renew(acts, "b.1")).ended == ["dead.1"]
    listed = nodes.parse_leases(await acts.do(nodes.leases(acts.keys)))
    assert {lease.incarnation for lease in listed} == {"dead.1", "b.1", "c.1"}
    await acts.do(nodes.bury(acts.keys, "dead.1"))
    assert await members(acts) == {"b.1", "c.1"}
    assert not await claim(acts, "dead.1", "b.1")


async def test_after_an_outage_a_lease_goes_on_and_nobody_is_reaped_for_one_lease(acts: Acts) -> None:
    for node in ("a.1", "b.1", "dead.1"):
        await renew(acts, node, "first")
    for node in ("a.1", "b.1", "dead.1"):
        await end(acts, node)
    assert not (await renew(acts, "a.1")).granted
    back = await renew(acts, "a.1", "outage", 300)
    assert back.granted
    assert back.ended == []
    assert back.next_end is not None
    assert back.next_end >= back.now + 300
    # Within the grace period even an ended lease goes on, and no claim is given out.
    assert not await claim(acts, "dead.1", "a.1")
    assert (await renew(acts, "b.1", "outage", 300)).granted
    await eventually(lambda: claim(acts, "dead.1", "a.1"))
    assert "grace" not in {lease.incarnation for lease in nodes.parse_leases(await acts.do(nodes.leases(acts.keys)))}


async def test_a_node_whose_own_link_breaks_time_and_again_keeps_no_dead_ones_alive(acts: Acts) -> None:
    for node in ("a.1", "b.1", "dead.1"):
        await renew(acts, node, "first")
    for node in ("a.1", "dead.1"):
        await end(acts, node)
    # b renews all the time: the store was there. The lease of the one that was away goes on all the same.
    for _ in range(3):
        back = await renew(acts, "a.1", "outage")
        assert (back.granted, back.ended) == (True, ["dead.1"])
    assert "grace" not in await members(acts)
    assert await claim(acts, "dead.1", "b.1")
    # Nor does the second one to come back prolong what the first one has opened.
    for node in ("a.1", "b.1"):
        await end(acts, node)
    await renew(acts, "a.1", "outage")
    opened = await grace(acts)
    await renew(acts, "b.1", "outage")
    assert await grace(acts) == opened > 0


async def grace(acts: Acts) -> float:
    """Until when nobody is reaped, Unix ms."""
    return float(await acts.do(nodes.leases(acts.keys)._replace(command=("ZSCORE", NODES, "grace"))))


async def test_whom_somebody_has_begun_to_reap_stays_dead_even_after_an_outage(acts: Acts) -> None:
    for node in ("a.1", "b.1"):
        await renew(acts, node, "first")
    await end(acts, "a.1")
    assert await claim(acts, "a.1", "b.1")
    assert not (await renew(acts, "a.1", "outage", 1)).granted
    # The reaper died over it: some of a.1's sessions are gone already.
    await end(acts, "claim a.1 b.1")
    assert not (await renew(acts, "a.1", "outage", 1)).granted


async def test_a_claim_on_one_does_not_touch_a_name_that_begins_alike(acts: Acts) -> None:
    for node in ("a.1", "a.11", "b.1"):
        await renew(acts, node, "first")
    await end(acts, "a.1")
    await end(acts, "a.11")
    assert await claim(acts, "a.11", "b.1")
    assert (await renew(acts, "a.1", "outage", 1)).granted
    await acts.do(nodes.bury(acts.keys, "a.1"))
    assert await members(acts) >= {"a.11", "claim a.11 b.1"}


async def test_who_is_alive_and_that_nobody_counts_as_dead_while_there_is_grace(acts: Acts) -> None:
    async def alive() -> set[str] | None:
        leases, time = await acts.store.execute_all([nodes.leases(acts.keys), nodes.time(acts.keys)])
        return nodes.alive(leases, nodes.parse_time(time))

    assert await alive() == set()
    await renew(acts, "a.1", "first")
    await renew(acts, "b.1", "first")
    await end(acts, "b.1")
    assert await alive() == {"a.1"}
    await renew(acts, "a.1", "outage")
    assert await alive() is None
