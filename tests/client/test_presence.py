"""Watching users through breaks, and in the order of what happened."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.client import NoSuchUser, Presence
from gateway.client.presence import AT_ONCE, Watched
from tests.client.conftest import Apps
from tests.client.test_upkeep import proxied
from tests.waiting import eventually


def presence(user: str, version: int, online: bool = True) -> dict[str, Any]:
    return {"user": user, "online": online, "last_seen": None, "platforms": ["web"], "version": version}


class Gateway:
    """Answers `watch` with what it is told to, and keeps what it was asked; may be held."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, list[str]]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.refusals = 0

    async def ask(self, type_: str, **fields: Any) -> dict[str, Any]:
        self.asked.append((type_, fields["users"]))
        answer = [self.known.get(user, presence(user, 0, False)) for user in fields["users"]]
        await self.open.wait()
        if self.refusals:
            self.refusals -= 1
            raise NoSuchUser(404, "refused for once")
        return {"users": answer}


def watched(gateway: Gateway) -> tuple[Watched, list[Presence], list[Exception]]:
    changes: list[Presence] = []
    errors: list[Exception] = []
    return Watched(gateway.ask, changes.append, errors.append), changes, errors


async def test_who_comes_and_goes_is_told(apps: Apps) -> None:
    alice, changes = await apps.connected("alice"), list[Presence]()
    alice.on_presence(changes.append)
    bob = await apps.connected("bob", platform="ios")
    state = await alice.watch(["bob", "nobody"])
    assert (state["bob"].online, state["bob"].platforms, state["nobody"].online) == (True, ["ios"], False)
    await bob.close()
    await eventually(lambda: changes and not changes[-1].online)
    seen = alice.presence("bob")
    assert seen is not None
    assert (seen.online, bool(seen.last_seen)) == (False, True)
    await bob.connect()
    await eventually(lambda: changes[-1].online)
    await alice.unwatch("bob")
    assert alice.presence("bob") is None
    told = len(changes)
    await bob.close()
    await alice.ping()
    assert len(changes) == told


async def test_watches_outlive_the_link_and_what_changed_meanwhile_is_told(apps: Apps) -> None:
    async with proxied(apps.node) as (proxy, url):
        alice, changes = await apps.connected("alice", url=url), list[Presence]()
        alice.on_presence(changes.append)
        bob, carol = await apps.connected("bob"), await apps.connected("carol")
        await alice.watch(["bob", "carol"])
        told = len(changes)
        proxy.refuse()
        await eventually(lambda: alice.state == "waiting")
        await bob.close()
        proxy.accept()
        await eventually(lambda: len(changes) > told)
        # Of carol nothing has changed.
        assert [(each.user, each.online) for each in changes[told:]] == [("bob", False)]
        await carol.close()
        await eventually(lambda: changes[-1].user == "carol")


async def test_what_is_older_than_what_is_known_is_dropped() -> None:
    gateway = Gateway()
    watching, changes, _ = watched(gateway)
    gateway.known["bob"] = presence("bob", 5)
    gateway.open.clear()
    asked = asyncio.create_task(watching.watch("bob"))
    await eventually(lambda: gateway.asked)
    # Pushed while the answer, which is older, is on its way.
    watching.pushed(presence("bob", 7, False))
    gateway.open.set()
    assert (await asked)["bob"].version == 7
    watching.pushed(presence("bob", 6))
    known = watching.get("bob")
    assert known is not None
    assert not known.online
    watching.pushed(presence("stranger", 1))
    assert [(each.user, each.version) for each in changes] == [("bob", 7)]


async def test_a_new_link_may_know_lower_versions() -> None:
    gateway = Gateway()
    watching, changes, _ = watched(gateway)
    gateway.known["bob"] = presence("bob", 50)
    await watching.watch("bob")
    # A store that has begun anew counts from the start.
    gateway.known["bob"] = presence("bob", 1, False)
    watching.link_changed()
    await eventually(lambda: changes)
    assert (changes[0].version, changes[0].online) == (1, False)
    watching.stop()


async def test_many_are_watched_in_several_commands_and_again_after_a_refusal() -> None:
    gateway = Gateway()
    watching, _, errors = watched(gateway)
    users = [f"user{number}" for number in range(AT_ONCE + 50)]
    assert set(await watching.watch(users)) == set(users)
    assert [len(asked) for _, asked in gateway.asked] == [AT_ONCE, 50]
    gateway.refusals = 1
    gateway.asked.clear()
    watching.link_changed()
    await eventually(lambda: len(gateway.asked) == 3)
    assert [len(asked) for _, asked in gateway.asked] == [AT_ONCE, AT_ONCE, 50]
    assert len(errors) == 1
    watching.stop()


async def test_who_could_not_be_watched_is_not() -> None:
    gateway = Gateway()
    watching, changes, _ = watched(gateway)
    gateway.refusals = 1
    try:
        await watching.watch("bob")
    except NoSuchUser:
        watching.pushed(presence("bob", 1))
    assert (changes, watching.get("bob"), gateway.refusals) == ([], None, 0)
