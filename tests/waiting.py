"""Waiting in tests: a condition polled until a deadline, never a bare sleep."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

PAUSE_S = 0.005


async def eventually(condition: Callable[[], Any | Awaitable[Any]], deadline_s: float = 5.0) -> Any:
    """Await until the condition (a plain or a coroutine function) is true; return what it returned.

    An AssertionError inside the condition counts as "not yet" and is raised when the deadline passes.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        late = time.monotonic() > deadline
        try:
            outcome = condition()
            if inspect.isawaitable(outcome):
                outcome = await outcome
            if outcome:
                return outcome
        except AssertionError:
            if late:
                raise
        if late:
            raise AssertionError(f"not true within {deadline_s:g} s: {_text(condition)}")
        await asyncio.sleep(PAUSE_S)


def wait_until(condition: Callable[[], Any], deadline_s: float = 5.0) -> Any:
    """The same for tests without a loop."""
    deadline = time.monotonic() + deadline_s
    while not (outcome := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {deadline_s:g} s: {_text(condition)}")
        time.sleep(PAUSE_S)
    return outcome


def _text(condition: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):
        return repr(condition)
