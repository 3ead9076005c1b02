"""The cache of user info: what is asked for, how often, and what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.client import users as module
from gateway.client.users import BATCH_MAX, CACHED_MAX, FETCHES_MAX, LIFETIME_S, UNKNOWN_LIFETIME_S, UserInfo, Users
from tests.waiting import eventually


class Source:
    """An app's own user info: every id is known but those that begin with ``no``; may be held and may fail."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.fault: Exception | None = None
        self.name = "First"

    async def __call__(self, ids: list[str]) -> list[UserInfo]:
        self.batches.append(ids)
        name = self.name
        await self.open.wait()
        if self.fault is not None:
            raise self.fault
        return [UserInfo(each, f"{name} {each}") for each in reversed(ids) if not each.startswith("no")]


class NoGateway:
    async def ask(self, type_: str, **fields: Any) -> dict[str, Any]:
        raise AssertionError("with a provider set, nobody asks the gateway")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def users(source: Source, clock: Clock) -> AsyncIterator[Users]:
    users = Users(NoGateway(), clock)
    users.set_provider(source)
    yield users
    await users.close()


async def test_somebody_is_asked_for_once_in_a_lifetime(users: Users, source: Source, clock: Clock) -> None:
    assert users.cached("bob") is None
    assert await users.get("bob") == UserInfo("bob", "First bob")
    clock.now += LIFETIME_S - 1
    assert await users.get("bob") == users.cached("bob") == UserInfo("bob", "First bob")
    assert source.batches == [["bob"]]
    clock.now += 1
    assert users.cached("bob") is None
    await users.get("bob")
    assert source.batches == [["bob"], ["bob"]]


async def test_that_somebody_is_unknown_is_kept_for_a_short_time(users: Users, source: Source, clock: Clock) -> None:
    assert await users.get("nobody") is None
    clock.now += UNKNOWN_LIFETIME_S - 1
    assert await users.get("nobody") is None
    assert len(source.batches) == 1
    clock.now += 1
    await users.get("nobody")
    assert len(source.batches) == 2


async def test_those_asked_for_together_travel_together_and_once(users: Users, source: Source) -> None:
    source.open.clear()
    first = asyncio.gather(users.get("a"), users.get("b"), users.get_many(["a", "c", "nobody", "a"]))
    await eventually(lambda: source.batches)
    # On its way already: joined, not asked for again.
    late = asyncio.ensure_future(users.get("a"))
    source.open.set()
    a, b, many = await first
    assert (a, b) == (UserInfo("a", "First a"), UserInfo("b", "First b"))
    assert many == {"a": a, "c": UserInfo("c", "First c"), "nobody": None}
    assert await late == a
    assert source.batches == [["a", "b", "c", "nobody"]]


async def test_many_go_in_batches_of_which_few_are_on_their_way(users: Users, source: Source) -> None:
    source.open.clear()
    wanted = [f"user{index}" for index in range(BATCH_MAX * (FETCHES_MAX + 3) - 1)]
    asking = asyncio.ensure_future(users.get_many(wanted))
    await eventually(lambda: len(source.batches) == FETCHES_MAX)
    await asyncio.sleep(0)
    assert len(source.batches) == FETCHES_MAX
    source.open.set()
    assert [each.user for each in (await asking).values() if each] == wanted
    assert [len(batch) for batch in source.batches] == [BATCH_MAX] * (FETCHES_MAX + 2) + [BATCH_MAX - 1]


async def test_who_was_used_least_lately_goes_first(users: Users, source: Source) -> None:
    await users.get_many(f"user{index}" for index in range(CACHED_MAX))
    await users.get("user0")
    await users.get("one more")
    assert users.cached("user0") is not None
    assert users.cached("user1") is None


async def test_a_refresh_asks_again_even_where_an_older_question_is_on_its_way(users: Users, source: Source) -> None:
    source.open.clear()
    before = asyncio.ensure_future(users.get("bob"))
    await eventually(lambda: len(source.batches) == 1)
    source.name = "Second"
    after = asyncio.ensure_future(users.refresh("bob"))
    await eventually(lambda: len(source.batches) == 2)
    source.open.set()
    assert await before == UserInfo("bob", "First bob")
    assert await after == users.cached("bob") == UserInfo("bob", "Second bob")


async def test_changes_are_told_and_what_stays_is_not(users: Users, source: Source) -> None:
    told: list[tuple[str, UserInfo | None]] = []
    users.on_change(lambda *change: told.append(change))
    await users.get_many(["bob", "nobody"])
    await users.refresh("bob")
    assert told == [("bob", UserInfo("bob", "First bob")), ("nobody", None)]
    source.name = "Second"
    await users.refresh("bob")
    assert told[2:] == [("bob", UserInfo("bob", "Second bob"))]


async def test_a_handler_that_fails_harms_nobody(users: Users, caplog: pytest.LogCaptureFixture) -> None:
    def fail(user: str, found: UserInfo | None) -> None:
        raise RuntimeError("mine")

    users.on_change(fail)
    assert await users.get("bob") == UserInfo("bob", "First bob")
    assert "mine" in caplog.text


async def test_a_failure_is_told_to_all_who_wait_and_not_kept(users: Users, source: Source) -> None:
    source.fault = RuntimeError("away")
    for found in await asyncio.gather(users.get("bob"), users.get_many(["al", "bob"]), return_exceptions=True):
        assert found is source.fault
    source.fault = None
    assert await users.get("bob") == UserInfo("bob", "First bob")


async def test_who_gives_up_waiting_does_not_end_it_for_others(users: Users, source: Source) -> None:
    source.open.clear()
    hasty, patient = asyncio.ensure_future(users.get("bob")), asyncio.ensure_future(users.get("bob"))
    await eventually(lambda: source.batches)
    hasty.cancel()
    await asyncio.wait({hasty})
    source.open.set()
    assert await patient == UserInfo("bob", "First bob")
    assert hasty.cancelled()


async def test_what_another_provider_said_is_forgotten_and_what_it_still_says_not_kept(
    users: Users, source: Source
) -> None:
    await users.get("al")
    source.open.clear()
    asked_before = asyncio.ensure_future(users.get("bob"))
    await eventually(lambda: len(source.batches) == 2)
    other = Source()
    other.name = "Other"
    users.set_provider(other)
    source.open.set()
    assert await asked_before == UserInfo("bob", "First bob")
    assert users.cached("bob") is users.cached("al") is None
    assert await users.get("bob") == UserInfo("bob", "Other bob")


async def test_no_more_wait_than_may(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 3)
    with pytest.raises(module.TooManyWaiting):
        await users.get_many("abcd")
    assert (await users.get_many("abc")).keys() == {"a", "b", "c"}


async def test_a_provider_that_hangs_has_failed(users: Users, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    source.open.clear()
    monkeypatch.setattr(module, "FETCH_S", 0.01)
    with pytest.raises(TimeoutError):
        await users.get("bob")
    source.open.set()
    assert await users.get("bob") == UserInfo("bob", "First bob")


async def test_closing_ends_what_waits(users: Users, source: Source) -> None:
    source.open.clear()
    asking = asyncio.ensure_future(users.get_many(f"user{index}" for index in range(BATCH_MAX * (FETCHES_MAX + 1))))
    await eventually(lambda: len(source.batches) == FETCHES_MAX)
    await users.close()
    with pytest.raises(ConnectionError):
        await asking
