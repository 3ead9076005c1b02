"""Drops of sessions that Redis does not list: those of a node that was reaped and comes back."""

import pytest

from gateway.store import drops
from tests.store.acts import NODE, Acts
from tests.store.test_sessions import session


async def reaped(acts: Acts) -> object:
    """A live session whose node was taken for dead: still held there, no longer listed."""
    await acts.register("bob")
    who = session("bob", "s1", device="d1")
    reply = await acts.connect(who)
    who.order = reply[7].decode()
    assert await acts.disconnect(who) == 1
    return who


@pytest.mark.parametrize("how", [("", ""), ("session", "s1"), ("device", "d1")])
async def test_a_kick_holds_for_a_session_that_is_not_listed(acts: Acts, how: tuple[str, str]) -> None:
    who = await reaped(acts)
    assert drops.parse_dropped(await acts.do(drops.kick(acts.keys, "bob", "call", "out", *how)))[0] == 0
    assert (await acts.reclaim(who, NODE))[0] == 4505  # type: ignore[arg-type]
    later = session("bob", "s2", device="d1")
    reply = await acts.connect(later)
    assert reply[0] == 0, "a kick is no ban"
    later.order = reply[7].decode()
    assert (await acts.reclaim(later, NODE))[0] == 0


async def test_a_kick_of_another_session_or_device_leaves_it_alone(acts: Acts) -> None:
    who = await reaped(acts)
    await acts.do(drops.kick(acts.keys, "bob", "call", "out", "session", "s9"))
    await acts.do(drops.kick(acts.keys, "bob", "call", "out", "device", "d9"))
    assert (await acts.reclaim(who, NODE))[0] == 0  # type: ignore[arg-type]


async def test_a_ban_that_was_lifted_again_still_ended_what_was_there(acts: Acts) -> None:
    who = await reaped(acts)
    await acts.do(drops.ban(acts.keys, "bob", "call", 0, ""))
    await acts.do(drops.unban(acts.keys, "bob"))
    assert (await acts.reclaim(who, NODE))[0] == 4505  # type: ignore[arg-type]


async def test_an_expiry_that_keeps_connections_keeps_them_over_a_break(acts: Acts) -> None:
    await acts.register("bob")
    who = session("bob", "s1", issued_at=1000)
    who.order = (await acts.connect(who))[7].decode()
    await acts.do(drops.expire(acts.keys, "bob", "call", 2000, True))
    assert (await acts.reclaim(who, NODE))[0] == 0
    assert (await acts.connect(session("bob", "s2", issued_at=1000)))[0] == 31020, "no new login with it"
    await acts.do(drops.expire(acts.keys, "bob", "call", 500, False))
    assert (await acts.reclaim(who, NODE))[0] == 0
    await acts.do(drops.expire(acts.keys, "bob", "call", 1500, False))
    assert (await acts.reclaim(who, NODE))[0] == 31020
