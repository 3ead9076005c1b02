"""The sampler in a gateway's event loop: a loop that stands still is as late as it was."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import orjson
import pytest

from loadtest.sampled import GAP_S, _Sampler, overslept


def test_each_timer_that_was_due_meanwhile_is_late() -> None:
    assert overslept(0.0001) == [0.0001]
    assert overslept(-0.0001) == [-0.0001]
    assert overslept(2.5 * GAP_S) == pytest.approx([2.5 * GAP_S, 1.5 * GAP_S, 0.5 * GAP_S])


async def test_a_standstill_counts_for_as_long_as_it_was(tmp_path: Path) -> None:
    sampler = _Sampler(tmp_path / "samples.json")
    sampler._begin()
    await asyncio.sleep(0.3)
    # One sample in more than a hundred, but the tenth part of the time.
    time.sleep(0.05)  # noqa: ASYNC251
    await asyncio.sleep(0.01)
    sampler._write()
    late = orjson.loads((tmp_path / "samples.json").read_bytes())
    assert late["lag_ms_p99"] >= 40
    # Asleep, it had no CPU: nothing of that is its own doing.
    assert late["own_lag_ms_max"] < 25
