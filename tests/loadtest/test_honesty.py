"""A service that is slow does not look better for it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from loadtest.result import read
from tests.cli.processes import Gateway
from tests.loadtest.runs import LIFTED, against, finished, start

RATE, SECONDS = 100, 2


def test_a_gateway_that_stands_still_until_the_end_is_seen_in_the_latencies(tmp_path: Path) -> None:
    written = tmp_path / "result.json"
    flags = ("--users", "10", "--rate", str(RATE), "--seconds", str(SECONDS), "--warm-s", "0.5", "--plain")
    with Gateway(tmp_path, *LIFTED) as gateway:
        process = start("run", "chat", *flags, *against(gateway), "--json", str(written))
        assert process.stdout is not None
        for line in process.stdout:
            if "measuring" in line:
                os.kill(gateway.process.pid, signal.SIGSTOP)
            elif "settling" in line:
                os.kill(gateway.process.pid, signal.SIGCONT)
                break
        finished(process)
    result = read(written)
    for name in ("delivery", "sent"):
        latency = result.latencies[name]
        # What was to be sent in the measured time, though hardly any of it arrived in it.
        assert latency.count >= 0.9 * RATE * SECONDS
        assert latency.max_ms >= 0.9 * SECONDS * 1000
    assert result.rates.get("delivered", 0) < RATE
    assert result.limit.what != "rate"
    assert result.verdict.faults == 0
