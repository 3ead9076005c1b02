"""How much work is done at a stretch, in calls of functions: a figure that a busy machine does not change."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Self


class Calls:
    """Counts the calls of functions, Python's own and those in C, that this thread makes inside ``with``.

    Attributes:
        count: of them, so far.
    """

    def __init__(self) -> None:
        self.count = 0

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            self.count += 1

    def __enter__(self) -> Self:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *raised: object) -> None:
        sys.setprofile(None)


class Turns(Calls):
    """The same for each turn of the running event loop.

    Attributes:
        most: calls in one turn.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self.most = max(self.most, self.count)
        self.count = 0
        self._next = self._loop.call_soon(self._turn)

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        self._next.cancel()


def calls(function: Callable[[], object]) -> int:
    """Of one call of it."""
    with Calls() as made:
        function()
    return made.count
