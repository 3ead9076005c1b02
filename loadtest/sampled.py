"""The gateway with a sampler in its event loop: how late its timers are, and how much of that is its own work.

python -m loadtest.sampled FILE serve …    SIGUSR1 begins to sample, SIGUSR2 writes the figures to FILE

On a machine that others use a loop is late because somebody else had the core. What a turn of the loop costs itself
shows in its thread's CPU time: a timer is never later *by our own doing* than the CPU that was used since it was set.
A loop that stands still is not sampled once for it, but once for every timer that would have been due meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from loadtest.probe import spread
from loadtest.target import Target, TargetFault, started

GAP_S = 0.002
WRITTEN_S = 10.0


class Samples:
    """What the sampler in a gateway that was started for it sees; a run begins and ends it with its measured time."""

    def __init__(self, target: Target, file: Path) -> None:
        self._target, self._file = target, file

    def begin(self) -> None:
        """Samples from now on."""
        self._file.unlink(missing_ok=True)
        self._tell(signal.SIGUSR1)

    def end(self) -> None:
        """Until now."""
        self._tell(signal.SIGUSR2)

    def figures(self) -> dict[str, float]:
        """``lag_ms`` and ``own_lag_ms``, of each ``_p50``, ``_p99`` and ``_max``, of that time; blocks for moments.

        Raises:
            TargetFault: the sampler does not write.
        """
        deadline = time.monotonic() + WRITTEN_S
        while not self._file.exists():
            if time.monotonic() > deadline:
                raise TargetFault("the sampler in the gateway has written nothing")
            time.sleep(0.01)
        figures: dict[str, float] = orjson.loads(self._file.read_bytes())
        return figures

    def _tell(self, what: signal.Signals) -> None:
        assert self._target.root is not None
        os.kill(self._target.root, what)


@contextmanager
def sampled(core: int | None, *flags: str) -> Iterator[tuple[Target, Samples]]:
    """Starts a gateway with a sampler in its event loop.

    Args:
        core: where it and its store run; None = anywhere.
        flags: of ``serve``, further ones.
    """
    with tempfile.TemporaryDirectory(prefix="gateway-sampled-") as directory:
        file = Path(directory) / "samples.json"
        command = [sys.executable, "-m", "loadtest.sampled", str(file), "serve", *flags]
        with started(shlex.join(command), core) as target:
            samples = target.sampler = Samples(target, file)
            yield target, samples


def overslept(late: float) -> list[float]:
    """How late a timer is, and how late those are that were due every ``GAP_S`` since."""
    return [late - number * GAP_S for number in range(1 + max(0, int(late / GAP_S)))]


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
        used = time.thread_time() - cpu
        for late in overslept(time.perf_counter() - set_at - GAP_S):
            self._lag.append(late * 1000)
            self._own.append(min(late, used) * 1000)
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
    from gateway.cli.app import run
    from gateway.node import Node

    file, start = Path(sys.argv[1]), Node.start

    async def sampled(node: Node) -> None:
        _Sampler(file)
        await start(node)

    Node.start = sampled  # type: ignore[method-assign,assignment]
    sys.exit(run(sys.argv[2:]))


if __name__ == "__main__":
    main()
