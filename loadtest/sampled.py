"""The gateway with a sampler in its event loop: how late its timers are, and how much of that is its own work.

python -m loadtest.sampled FILE serve …    SIGUSR1 begins to sample, SIGUSR2 writes the figures to FILE

On a machine that others use a loop is late because somebody else had the core. What a turn of the loop costs itself
shows in its thread's CPU time: a timer is never later *by our own doing* than the CPU that was used since it was set.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

import orjson

from gateway.cli.app import run
from gateway.node import Node
from loadtest.probe import spread

GAP_S = 0.002


class _Sampler:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._lag: list[float] = []
        self._own: list[float] = []
        self._loop.add_signal_handler(signal.SIGUSR1, self._begin)
        self._loop.add_signal_handler(signal.SIGUSR2, self._write)

    def _begin(self) -> None:
        self._lag, self._own = [], []
        self._set()

    def _set(self) -> None:
        self._timer = self._loop.call_later(GAP_S, self._due, time.perf_counter(), time.thread_time())

    def _due(self, set_at: float, cpu: float) -> None:
        lag = time.perf_counter() - set_at - GAP_S
        self._lag.append(lag * 1000)
        self._own.append(min(lag, time.thread_time() - cpu) * 1000)
        self._set()

    def _write(self) -> None:
        self._timer.cancel()
        figures = {f"lag_ms_{point}": value for point, value in spread(self._lag).items()}
        figures |= {f"own_lag_ms_{point}": value for point, value in spread(self._own).items()}
        draft = self._file.with_suffix(".draft")
        draft.write_bytes(orjson.dumps(figures))
        draft.replace(self._file)


def main() -> None:
    """Runs the command line with it."""
    file, start = Path(sys.argv[1]), Node.start

    async def sampled(node: Node) -> None:
        _Sampler(file)
        await start(node)

    Node.start = sampled  # type: ignore[method-assign,assignment]
    sys.exit(run(sys.argv[2:]))


if __name__ == "__main__":
    main()
