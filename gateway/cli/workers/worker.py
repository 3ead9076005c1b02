"""One worker as its supervisor sees it: a process that is started again when it ends."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import structlog

from gateway.cli.failure import FAILED, Failed
from gateway.cli.workers.channel import Channel, Message
from gateway.cli.workers.spec import Spec
from gateway.metrics import Measures
from gateway.store.embedded import end_with_parent

log = structlog.get_logger(__name__)

START_S = 120.0
"""How long a worker may take to start; then it is killed, and started again."""

RESTART_WAIT_S = 0.2
"""Before the first restart; twice as long before each further one, up to RESTART_WAIT_MAX_S."""

RESTART_WAIT_MAX_S = 10.0

RESTARTS_MAX = 10
"""Restarts without CALM_S of service in between, about a minute of them: a store that fails over is back by then, and
what is still wrong is nothing that a restart cures."""

CALM_S = 60.0
"""A worker that has served for this long begins anew to count."""

END_S = 5.0
"""How long a worker may take to end once it has hung up, or was told to end at once."""

MEASURE_WAIT_S = 1.0
"""How long its measures are waited for."""


class Worker:
    """One worker.

    Args:
        index: its number.
        spec: makes what it is to be told, at each start.
        siblings: called when it asks for the measures of the others.

    Attributes:
        restarts: how often it was started again.
        admin_port: where it last said that its admin port is.
    """

    def __init__(self, index: int, spec: Callable[[], Spec], siblings: Callable[[], None]) -> None:
        self.index = index
        self.restarts = 0
        self.admin_port = 0
        self._spec = spec
        self._siblings = siblings
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._hearing: asyncio.Future[None] = self._loop.create_future()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._measures: asyncio.Future[Measures | None] | None = None
        self._failure: Failed | None = None
        self._ready_at: float | None = None
        self._failed_starts = 0

    async def start(self) -> None:
        """As ``begin``, for the worker without which the gateway does not start.

        Raises:
            Failed: it cannot be started; says why, as the gateway of one process does.
        """
        await self.begin()
        if not self._ready.done():
            how = await self._ended()
            raise self._failure or Failed(f"worker {self.index} did not start: {how}", status=FAILED)

    async def keep(self) -> str:
        """Starts it again whenever it ends.

        Returns:
            Why it is given up; does not return while there is hope. Cancelled where it is told to end.
        """
        while True:
            await asyncio.wait({self._hearing})
            how = await self._ended()
            if self._ready_at is not None and self._loop.time() - self._ready_at > CALM_S:
                self._failed_starts = 0
            self._failed_starts += 1
            if self._failed_starts > RESTARTS_MAX:
                return f"worker {self.index} has ended {self._failed_starts} times, at last: {how}"
            wait = min(RESTART_WAIT_S * 2 ** (self._failed_starts - 1), RESTART_WAIT_MAX_S)
            log.error("a worker has ended: starting it again", worker=self.index, how=how, wait_s=wait)
            await asyncio.sleep(wait)
            self.restarts += 1
            try:
                await self.begin()
            except OSError as error:
                # Descriptors, memory or processes are lacking. The other workers serve: as with one that has ended.
                self._failure = Failed(f"it could not be started: {error.strerror or error}", status=FAILED)
            if self._ready.done():
                log.warning("a worker runs again", worker=self.index, pid=self.pid)

    @property
    def pid(self) -> int:
        """Of its process, the present or the last one."""
        return self._process.pid if self._process is not None else 0

    def tell(self, what: str, drain_s: float = 0.0) -> None:
        """Says it, where it runs."""
        if self._channel is not None and not self._hearing.done():
            self._channel.tell(what, drain_s=drain_s)

    def tell_siblings(self, found: dict[str, Measures | None], restarts: dict[str, int]) -> None:
        """Answers its question for the others."""
        if self._channel is not None and not self._hearing.done():
            self._channel.tell("siblings", siblings=found, restarts=restarts)

    async def measures(self) -> Measures | None:
        """What it measures now; None where it does not answer in time.

        A worker that stands still is asked once, however often this is called.
        """
        if self._channel is None or self._hearing.done() or not self._ready.done():
            # One that starts leaves the question unanswered, and it is asked once.
            return None
        if self._measures is None or self._measures.done():
            self._measures = self._loop.create_future()
            self._channel.tell("measure")
        answer = self._measures
        await asyncio.wait({answer}, timeout=MEASURE_WAIT_S)
        return answer.result() if answer.done() else None

    async def gone(self, wait_s: float) -> bool:
        """Waits for its end, and kills it where that does not come in time; returns whether it came."""
        if self._process is None:
            return True
        ended, _ = await asyncio.wait({self._hearing}, timeout=wait_s)
        if not ended:
            log.error("a worker does not end: killing it", worker=self.index, waited_s=wait_s)
            self._process.kill()
            await asyncio.wait({self._hearing})
        await self._ended()
        return bool(ended)

    # One life.

    async def begin(self) -> None:
        """Begins a life; returns when it serves, or has ended again."""
        self._failure, self._ready_at, self._ready = None, None, self._loop.create_future()
        ours, theirs = socket.socketpair()
        with theirs:
            # First: where this is broken off meanwhile there is no process yet that nobody hears.
            self._channel = await Channel.over(ours)
            self._process = _spawn(theirs)
        self._hearing = asyncio.ensure_future(self._hear(self._channel))
        self._channel.tell("begin", spec=pickle.dumps(self._spec()))
        done, _ = await asyncio.wait({self._hearing, self._ready}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            log.error("a worker does not start: killing it", worker=self.index, waited_s=START_S)
            self._process.kill()
            await asyncio.wait({self._hearing})

    async def _hear(self, channel: Channel) -> None:
        async for message in channel.heard():
            self._told(message)
        if self._measures is not None and not self._measures.done():
            self._measures.set_result(None)
        await channel.close()

    def _told(self, message: Message) -> None:
        match message.what:
            case "ready":
                self.admin_port = message.admin_port or self.admin_port
                self._ready_at = self._loop.time()
                self._ready.set_result(None)
            case "failed":
                self._failure = Failed(*message.lines, status=message.status)
            case "measures" if self._measures is not None and not self._measures.done():
                self._measures.set_result(message.measures)
            case "siblings":
                self._siblings()

    async def _ended(self) -> str:
        """Reaps the process, which has hung up; returns how it ended."""
        assert self._process is not None
        deadline = self._loop.time() + END_S
        while (status := self._process.poll()) is None:
            if self._loop.time() > deadline:
                self._process.kill()
            await asyncio.sleep(0.005)
        if self._failure is not None:
            return "; ".join(self._failure.lines)
        return f"status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"


def _spawn(end: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *_path_flags(), "-m", "gateway.cli.workers.child", str(end.fileno())],
        stdin=subprocess.DEVNULL,
        pass_fds=(end.fileno(),),
        # Out of the terminal's foreground group: Ctrl-C is for the supervisor alone.
        process_group=0,
        # At once, even where it stands still: the next gateway waits for its ports.
        preexec_fn=end_with_parent(signal.SIGKILL),
    )


def _path_flags() -> list[str]:
    # A worker imports from where its supervisor does: not from the current directory where that did not.
    return [] if {"", os.getcwd()} & set(sys.path) else ["-P"]
