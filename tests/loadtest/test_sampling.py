"""Looks at processes: CPU that never goes back, memory, and gauges over all workers."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from loadtest.sampling import Sampler, cpu_s, read_gauges, resident_bytes
from loadtest.target import Target

EXPOSITION = """# TYPE gateway_connections gauge
gateway_connections{worker="0"} 3
gateway_connections{worker="1"} 4
# TYPE gateway_ready gauge
gateway_ready 1
# TYPE gateway_frames_total counter
gateway_frames_total 9
# TYPE gateway_lag gauge
gateway_lag{worker="0",kind="x"} 7
"""


def burn(seconds: float) -> None:
    """Uses CPU."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_gauges_are_summed_over_workers_and_nothing_else_is_taken() -> None:
    assert read_gauges(EXPOSITION) == {"gateway_connections": 7.0, "gateway_ready": 1.0}
    with pytest.raises(ValueError):
        read_gauges("what is {this")


def test_cpu_is_the_schedulers_own_account() -> None:
    before, own = cpu_s(os.getpid()), time.process_time()
    burn(0.05)
    after = cpu_s(os.getpid())
    assert before is not None
    assert after is not None
    assert after - before >= 0.9 * (time.process_time() - own) - 0.005
    assert resident_bytes(os.getpid())


async def test_a_process_that_is_replaced_takes_no_cpu_back() -> None:
    pids = {"gateway": os.getpid()}
    sampler = Sampler(lambda: pids, list)
    try:
        burn(0.05)
        seen = await sampler.look()
        used = sampler.gateway_s
        assert used >= 0.04
        assert seen.gateway_cpu is not None
        assert seen.store_cpu is None
        assert seen.gateway_bytes
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:  # noqa: ASYNC220
            pids["gateway"] = other.pid
            await sampler.look()
            assert sampler.gateway_s >= used
            other.communicate(b"\n")
        pids.clear()
        assert (await sampler.look()).gateway_bytes is None
        assert sampler.gateway_s >= used
    finally:
        await sampler.close()


async def test_a_service_that_gives_no_gauges_is_looked_at_all_the_same() -> None:
    target = Target("ws://127.0.0.1:1/", root=os.getpid())
    sampler = Sampler(target.pids, lambda: [os.getpid()], "http://127.0.0.1:1/metrics")
    try:
        seen = await sampler.look()
        assert seen.gauges == {}
        assert seen.generator_cpu is not None
    finally:
        await sampler.close()
