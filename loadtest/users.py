"""Who the simulated users are, whom they write to, and their tokens."""

from __future__ import annotations

import itertools
import random
import time
from bisect import bisect_left
from collections.abc import Sequence

from gateway.config import Credentials
from gateway.core.claims import ISSUED_AT_MS, sign
from loadtest.scenario import Scenario

CYCLE = 1000
"""Messages after which a user begins its choice of recipients anew."""


def name(run: str, index: int) -> str:
    """A user's id; users of two runs never meet."""
    return f"lt{run}-{index}"


def index(user: str) -> int:
    """The number in a user's id."""
    return int(user.rpartition("-")[2])


def share_of(users: int, processes: int, number: int) -> range:
    """The users of one generator; partners stay together."""
    pairs = -(-users // 2)
    low, high = pairs * number // processes, pairs * (number + 1) // processes
    return range(min(2 * low, users), min(2 * high, users))


def blocker(index: int, users: int) -> int:
    """Who blocks this user, so that its messages there must be refused; each user blocks one other."""
    return (index + 2) % users


def blocked(index: int, users: int) -> int:
    """Whom this user blocks."""
    return (index - 2) % users


def signed(credentials: Credentials, user: str) -> str:
    """A token signed with the app's secret, as an app server would."""
    now_ms = time.time_ns() // 1_000_000
    claims = {
        "sub": user,
        "aud": credentials.app_key,
        "iat": now_ms // 1000,
        ISSUED_AT_MS: now_ms,
        "jti": user,
    }
    return sign(claims, credentials.app_secret)


class Popularity:
    """Zipf's law: the user at place k is chosen with a weight of 1 / (k+1)^s; places are shuffled once for all."""

    def __init__(self, users: int, s: float) -> None:
        self._sums = list(itertools.accumulate(1 / rank**s for rank in range(1, users + 1)))
        self._order = list(range(users))
        random.Random(users).shuffle(self._order)

    def draw(self, dice: random.Random) -> int:
        """Somebody."""
        place = bisect_left(self._sums, dice.random() * self._sums[-1])
        return self._order[min(place, len(self._order) - 1)]


def recipients(scenario: Scenario, sender: int, popularity: Popularity | None) -> list[tuple[int, bool, bool]]:
    """Whom one user writes to, message by message, round and round.

    The same for every run of a scenario.

    Returns:
        (recipient, whether policy must refuse it, whether it is ephemeral)
    """
    if popularity is None and not scenario.refused_share and not scenario.ephemeral_share:
        return [(sender ^ 1, False, False)]
    dice = random.Random(sender)
    known = [sender ^ 1] if popularity is None else contacts(scenario, sender, popularity, dice)
    refusing = blocker(sender, scenario.users)
    cycle: list[tuple[int, bool, bool]] = []
    for refused in _spread(scenario.refused_share, dice):
        ephemeral = dice.random() < scenario.ephemeral_share
        # The first contact is the dearest: two draws, of which the earlier counts.
        to = refusing if refused else known[min(dice.randrange(len(known)), dice.randrange(len(known)))]
        cycle.append((to, refused, ephemeral))
    return cycle


def contacts(scenario: Scenario, sender: int, popularity: Popularity, dice: random.Random) -> Sequence[int]:
    """Up to ``contacts`` others, the popular ones more likely; nobody who blocks the sender."""
    wrong = {sender, blocker(sender, scenario.users)} if scenario.refused_share else {sender}
    wanted = min(scenario.contacts, scenario.users - len(wrong))
    found: dict[int, None] = {}
    for _ in range(50 * wanted):
        if len(found) == wanted:
            break
        found.setdefault(popularity.draw(dice))
        for each in wrong:
            found.pop(each, None)
    return list(found) or [next(each for each in range(scenario.users) if each not in wrong)]


def _spread(share: float, dice: random.Random) -> list[bool]:
    """Exactly that share of a cycle is True, in any order."""
    chosen = [number < round(share * CYCLE) for number in range(CYCLE)]
    dice.shuffle(chosen)
    return chosen
