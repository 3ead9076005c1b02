"""One timer wheel a worker.

A timer costs one list entry; arming, cancelling and re-arming are O(1) whatever the number of connections
(Varghese and Lauck, "Hashed and hierarchical timing wheels", 1987). The shell owns the only real timer and calls
``advance`` every tick.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any


class Timer:
    """A deadline with what to call then. ``cancel`` is idempotent and may come at any time."""

    __slots__ = ("action", "argument", "deadline")

    def __init__(self, deadline: float, action: Callable[[Any, float], None] | None, argument: Any) -> None:
        self.deadline = deadline
        self.action = action
        self.argument = argument

    def cancel(self) -> None:
        self.action = None
        self.argument = None


class TimerWheel:
    """Calls timers at most one tick late, never early.

    Args:
        now: the present, in seconds on the clock that ``advance`` will use.
        tick: resolution in seconds.
        slots: ticks in one turn; a later deadline waits for more than one turn.
    """

    __slots__ = ("_due", "_position", "_slots", "_start", "armed", "tick")

    def __init__(self, now: float, tick: float = 0.05, slots: int = 1024) -> None:
        self.tick = tick
        self.armed = 0
        self._slots: list[list[Timer]] = [[] for _ in range(slots)]
        self._start = now
        self._position = 0
        self._due: deque[Timer] = deque()

    def arm(self, deadline: float, action: Callable[[Any, float], None], argument: Any = None) -> Timer:
        """Arms ``action(argument, now)`` for ``deadline``."""
        timer = Timer(deadline, action, argument)
        self._place(timer)
        return timer

    def rearm(self, timer: Timer, deadline: float, action: Callable[[Any, float], None], argument: Any = None) -> None:
        """Arms a timer again that has been called; what many connections do all the time makes no object then."""
        timer.deadline, timer.action, timer.argument = deadline, action, argument
        self._place(timer)

    def _place(self, timer: Timer) -> None:
        position = int((timer.deadline - self._start) / self.tick) + 1
        if position <= self._position:
            position = self._position + 1
        self._slots[position % len(self._slots)].append(timer)
        self.armed += 1

    def advance(self, now: float) -> None:
        """Calls every timer whose deadline has come. A jump of the clock costs one turn at the most."""
        target = int((now - self._start) / self.tick)
        count = len(self._slots)
        first = max(self._position + 1, target - count + 1)
        self._position = max(self._position, target)
        for position in range(first, target + 1):
            slot = position % count
            timers = self._slots[slot]
            if not timers:
                continue
            self._slots[slot] = []
            for timer in timers:
                if timer.action is None or timer.deadline <= now:
                    self._due.append(timer)
                else:
                    self.armed -= 1
                    self._place(timer)
        # Taken one by one: an action that fails leaves the others here for the next call.
        while self._due:
            timer = self._due.popleft()
            self.armed -= 1
            action, timer.action = timer.action, None
            if action is not None:
                action(timer.argument, now)
