"""Makes and ends friendships, which have two halves in two partitions, and finishes what others left half done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from gateway.store import friends
from gateway.store.call import text
from gateway.store.friends import Clearing, Hold, Intent, Pair
from gateway.store.store import Store

INTENT_AGE_MS = 5_000
"""A half-done change of friends older than this was left by a process that died; whoever sweeps finishes it."""

PACE = 20
"""Pairs of one pipeline: packing and parsing more than that would hold the event loop up for milliseconds."""

SWEEP_PARTITIONS = 16
SWEEP_INTENTS = 50
"""How many partitions one pipeline of a sweep looks into, and how many intents it takes from each at a time."""


class Verdict(NamedTuple):
    """How an attempt to make friends ended: code 0 = they are; else why not, and whose side said so."""

    code: int
    user: str


class Pairs:
    """The two halves, kept in step.

    Args:
        store: where they are.
        limit: friends that one user may have.
    """

    def __init__(self, store: Store, limit: int) -> None:
        self._store = store
        self._limit = limit

    async def make(self, pair: Pair, version: str) -> Verdict:
        """Makes two users friends if their pair still has the version that was looked at.

        Returns:
            25460 friends already, 25467 a list is full, 31029 an account has ended, CONFLICT the pair has changed.
        """
        code = await self._store.execute(friends.hold(self._store.keys, pair, version, self._limit))
        if code:
            return Verdict(int(code), pair.larger)
        decided = await self._store.execute(friends.befriend(self._store.keys, pair, version, self._limit))
        code, intent = friends.parse_decision(pair, "add", decided)
        if intent is None:
            await self._settle(Hold(pair, version, ""))
            return Verdict(code, pair.smaller)
        return await self._finish(intent)

    async def end(self, pairs: Sequence[tuple[Pair, bool]]) -> None:
        """Ends friendships.

        Args:
            pairs: with each, whether the larger id's list is known to say that they are friends; then it is cleared
                even if the other half denies it.
        """
        keys = self._store.keys
        for start in range(0, len(pairs), PACE):
            some = pairs[start : start + PACE]
            replies = await self._store.execute_all(
                [friends.unfriend(keys, pair, other_half=known) for pair, known in some]
            )
            decisions = (
                friends.parse_decision(pair, "remove", reply) for (pair, _), reply in zip(some, replies, strict=True)
            )
            intents = [intent for _, intent in decisions if intent is not None]
            if intents:
                await self._store.execute_all([friends.half(keys, intent) for intent in intents])
                await self._store.execute_all([friends.befriended(keys, intent) for intent in intents])
            await asyncio.sleep(0)

    async def clear(self, user: str, ended: Callable[[list[str]], Awaitable[None]] | None = None) -> None:
        """Ends all friendships that a user has now. What a process that dies leaves is finished by a sweep.

        Args:
            ended: gets the friends, some at a time, as they cease to be it.
        """
        last = text(await self._store.execute(friends.clear(self._store.keys, user)))
        await self._clear(Clearing(user, last, ""), ended)

    async def _clear(self, clearing: Clearing, ended: Callable[[list[str]], Awaitable[None]] | None = None) -> None:
        keys, user = self._store.keys, clearing.user
        for held in friends.parse_held(user, await self._store.execute(friends.held_places(keys, user))):
            await self._settle(held)
        after = "-inf"
        while True:
            reply = await self._store.execute(friends.oldest(keys, user, after, clearing.last, PACE))
            entries = friends.parse_oldest(reply)
            pairs = [Pair.of(user, other) for other, _ in entries]
            await self.end([(pair, pair.larger == user) for pair in pairs])
            if ended is not None:
                await ended([other for other, _ in entries])
            if len(entries) < PACE:
                break
            # Whatever becomes of an entry, the walk goes on behind it.
            after = f"({entries[-1][1]}"
        await self._store.execute(friends.cleared(keys, clearing))

    async def _finish(self, intent: Intent) -> Verdict:
        keys = self._store.keys
        if await self._store.execute(friends.half(keys, intent)) == friends.ENDED:
            await self.end([(intent.pair, False)])
            return Verdict(friends.ACCOUNT_ENDED, intent.pair.larger)
        await self._store.execute(friends.befriended(keys, intent))
        return Verdict(0, "")

    async def _settle(self, held: Hold) -> None:
        """Lets a held place go that is not wanted any more, or that is left by a process that died."""
        keys = self._store.keys
        waiting = friends.parse_void(held.pair, await self._store.execute(friends.void(keys, held)))
        if waiting is not None:
            await self._finish(waiting)
        await self._store.execute(friends.release(keys, held))

    async def sweep(self, now_ms: int) -> int:
        """Finishes what was left half done; returns how many."""
        keys = self._store.keys
        finished = 0
        for start in range(0, keys.partitions, SWEEP_PARTITIONS):
            partitions = range(start, min(start + SWEEP_PARTITIONS, keys.partitions))
            calls = [friends.todo(keys, partition, SWEEP_INTENTS) for partition in partitions]
            for reply in await self._store.execute_all(calls):
                for left in friends.parse_todo(reply):
                    if int(left.at) // 1000 + INTENT_AGE_MS <= now_ms:
                        await self._take_over(left)
                        finished += 1
        return finished

    async def _take_over(self, left: Intent | Hold | Clearing) -> None:
        if isinstance(left, Intent):
            await self._finish(left)
        elif isinstance(left, Hold):
            await self._settle(left)
        else:
            await self._clear(left)
