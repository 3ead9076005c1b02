"""Spreads work over the event loop's turns, so that what comes all at once does not hold up what comes between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any


class Turns:
    """Lets so many pieces of work begin in one turn of the loop; the others follow in order, a turn later each.

    Between two turns the loop reads its sockets: a relay waits for a turn, not for all that was waiting before it.

    Args:
        most: pieces a turn.
    """

    def __init__(self, most: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._left = most
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._turning = False

    def take(self) -> bool:
        """Takes a place in this turn; False where there is none, or others wait for one."""
        if not self._left:
            return False
        self._left -= 1
        if not self._turning:
            self._turning = True
            self._loop.call_soon(self._turn)
        return True

    def do(self, act: Callable[..., None], *arguments: Any) -> None:
        """Calls ``act``, which must not raise, in this turn or a later one."""
        if self.take():
            act(*arguments)
        else:
            self._waiting.append((act, arguments))

    def _turn(self) -> None:
        idle = self._left == self._most
        self._left = self._most
        while self._waiting and self._left:
            self._left -= 1
            act, arguments = self._waiting.popleft()
            act(*arguments)
        self._turning = not idle
        if self._turning:
            self._loop.call_soon(self._turn)
