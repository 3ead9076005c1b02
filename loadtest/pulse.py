"""The open loop: messages go out at their own times, whatever the service does."""

from __future__ import annotations

import asyncio
import random
import time

from loadtest.crowd import Crowd

TICK_S = 0.001
"""What a timer of the loop can tell apart; each message waits half of it on the average, which is in its latency."""

BEHIND_US = 5_000_000
"""Messages that are further behind are left out, and counted: the generator stood still."""


class Pulse:
    """Sends what is due every few ms; each message bears the time at which it was to go out.

    Counts ``left_out``: messages of users who were cut off, who have too many without an answer, or that are too late.
    """

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._order = list(crowd.users.values())
        random.Random(len(self._order)).shuffle(self._order)
        self._place = 0
        self._gap = 0.0
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def beat(self, per_s: float) -> None:
        """From now on so many a second; 0 = none."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if per_s > 0:
            self._gap = 1e6 / per_s
            # Processes must not send in step.
            self._next = time.monotonic_ns() / 1000 + random.random() * self._gap
            self._tick()

    def _tick(self) -> None:
        crowd = self._crowd
        now = time.monotonic_ns() / 1000
        if self._next < now - BEHIND_US:
            skipped = int((now - BEHIND_US - self._next) / self._gap) + 1
            crowd.count("left_out", skipped)
            self._next += skipped * self._gap
        most = crowd.scenario.unanswered_max
        order, users = self._order, len(self._order)
        while self._next <= now:
            at = int(self._next)
            self._next += self._gap
            # Who went on purpose is passed over: the others say as much as was asked for.
            for _ in range(users):
                user = order[self._place]
                self._place = (self._place + 1) % users
                if user.wanted:
                    break
            wire = user.wires[0]
            if wire is not None and wire.welcomed and len(wire.waiting) < most:
                crowd.say(wire, at)
            else:
                crowd.count("left_out")
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
