"""The machine that figures are measured on, and who has which core of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def pinned() -> int | None:
    """Says what machine this is and puts the load generator on a core of its own.

    Returns:
        The core for the service; None where there is only one core for everything.
    """
    cores = sorted(os.sched_getaffinity(0))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    if len(cores) < 2:
        print("ONE core for everything: not comparable")
        return None
    os.sched_setaffinity(0, {cores[1]})
    print("service on one core, generator on another")
    return cores[0]


@contextmanager
def apart(cores: Sequence[int]) -> Iterator[None]:
    """Keeps this process, and those that it starts meanwhile, on these cores; none = wherever the system likes."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
