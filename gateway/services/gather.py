"""Waits for several answers without a task: the last one calls on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.store.bus import Bus
from gateway.store.call import Call


class Gather:
    """Collects replies in order; ``done(replies)`` once all are there, failed ones as exceptions."""

    __slots__ = ("_done", "_missing", "_replies")

    def __init__(self, count: int, done: Callable[[list[Any]], None]) -> None:
        self._replies: list[Any] = [None] * count
        self._missing = count
        self._done = done

    @classmethod
    def calls(cls, bus: Bus, calls: Sequence[Call], done: Callable[[list[Any]], None]) -> None:
        """Sends calls and waits for all of them."""
        gather = cls(len(calls), done)
        for index, call in enumerate(calls):
            bus.call(call, gather.put, index)

    def put(self, index: int, reply: Any) -> None:
        """A link's callback."""
        self._replies[index] = reply
        self._missing -= 1
        if self._missing == 0:
            self._done(self._replies)


def fault_among(replies: Sequence[Any]) -> Exception | None:
    """The first reply that is a fault."""
    for reply in replies:
        if isinstance(reply, Exception):
            return reply
    return None
