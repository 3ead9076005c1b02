"""Looks at processes: CPU that never goes back, memory, and gauges over all workers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from loadtest.sampling import Sampler, _Meter, children, cpu_s, read_gauges, resident_bytes
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


FORKING = """
import os, sys, time
def burn(seconds):
    while time.process_time() < seconds:
        pass
for line in sys.stdin:
    if not (child := os.fork()):
        burn(0.1)
        print("half", flush=True)
        sys.stdin.readline()
        burn(0.2)
        os._exit(0)
    os.waitpid(child, 0)
    print("whole", flush=True)
"""
"""Like a store that rewrites its file: at every line a child uses CPU, and at half of its 0.2 s it waits for one."""


@contextmanager
def forking() -> Iterator[tuple[Target, Callable[[], str]]]:
    """Such a process as a store whose parent is the service's first one; and what has it go on until it says so."""
    with subprocess.Popen(
        ["valkey-server", "-c", FORKING],
        executable=sys.executable,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        output = process.stdout

        def go_on() -> str:
            print(file=process.stdin, flush=True)
            return output.readline().strip()

        yield Target("ws://127.0.0.1:1/", root=process.pid), go_on
        process.stdin.close()


async def test_what_a_store_forks_is_the_store() -> None:
    with forking() as (target, go_on):
        assert go_on() == "half"
        pids = target.pids()
        assert pids.keys() == {"store"}
        assert children(pids["store"])
        assert target.resident_bytes()["store"] == resident_bytes(pids["store"])
        assert target.cpu_s()["store"] >= 0.1
        go_on()


async def test_cpu_of_what_a_store_forks_counts_once() -> None:
    with forking() as (target, go_on):
        assert go_on() == "half"
        assert go_on() == "whole"
        sampler = Sampler(target.pids, list)
        assert sampler.store_seen
        for expected in (0.1, 0.2, 0.3, 0.4):
            go_on()
            await sampler.look()
            assert expected - 0.03 < sampler.store_s < expected + 0.05
        assert sampler.gateway_s == 0
        await sampler.close()


def test_a_store_that_is_looked_at_in_the_wrong_moment_counts_nothing_twice() -> None:
    totals = iter((1.0, 2.0, 1.5, 2.25))
    meter = _Meter(lambda _: next(totals))
    assert [meter.look([1]) for _ in range(4)] == [0.0, 1.0, 0.0, 0.25]


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
        assert not sampler.store_seen
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


async def test_a_process_that_comes_counts_from_its_start() -> None:
    pids: dict[str, int] = {}
    sampler = Sampler(lambda: pids, list)
    script = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        pids["gateway"] = other.pid
        await sampler.look()
        assert sampler.gateway_s >= 0.2
        # One that is missed once, and seen again, is not new.
        pids.clear()
        await sampler.look()
        pids["gateway"] = other.pid
        await sampler.look()
        assert sampler.gateway_s < 0.3
        other.communicate(b"\n")
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
