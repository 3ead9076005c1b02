"""One process of the load generator: takes orders on stdin, answers and tells what it sees on stdout, as JSON lines.

    python -m loadtest.generator        started by the conductor, not by hand

The first line is the plan. An order is ``{"order": 3, "do": "open", …}``; its answer is ``{"answer": 3, "said": {…}}``
or ``{"answer": 3, "fault": "…"}``. Snapshots come unasked, twice a second.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import signal
import sys
import time
from typing import Any, cast

import msgspec
import uvloop

from loadtest import acts
from loadtest.crowd import User
from loadtest.dialect import Dialect
from loadtest.ledger import Page
from loadtest.plan import Plan
from loadtest.pulse import Pulse
from loadtest.refusals import TellingCrowd
from loadtest.result import Verdict

SNAPSHOT_S = 0.5
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals after which a run reports what there is; its terminal may be closed meanwhile."""
LINE_BYTES_MAX = 256 * 1024 * 1024


class Snapshot(msgspec.Struct, kw_only=True):
    """What one process tells twice a second: counts since its beginning, latencies since the last one.

    Attributes:
        waiting: messages without an answer.
        took: for each latency, how often each µs was seen.
        cpu: of this process since the last one, in cores.
    """

    connections: int
    said: int
    acknowledged: int
    heard: int
    waiting: int
    cpu: float
    counts: dict[str, int]
    took: dict[str, dict[int, int]]
    verdict: Verdict
    failures: list[str]


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A line to the conductor: a snapshot, an answer, or both."""

    answer: int = 0
    said: dict[str, Any] = {}
    fault: str = ""
    page: Page | None = None
    snapshot: Snapshot | None = None


class Generator:
    """Carries orders out, one task each; orders that take long do not keep others waiting."""

    def __init__(self, plan: Plan) -> None:
        module, _, name = plan.dialect.partition(":")
        dialect = cast("Dialect", getattr(importlib.import_module(module), name)(plan.url))
        self.crowd: TellingCrowd = acts.crowd_of(plan.scenario.act)(plan, dialect)
        self.crowd.prepare()
        self._pulse = Pulse(self.crowd)
        self._cpu = time.process_time()
        self._at = time.monotonic()
        self._encode = msgspec.json.Encoder().encode
        self._leaving = False
        self._tasks: set[asyncio.Task[None]] = set()

    def tell(self, answer: Answer) -> None:
        """Writes a line. Blocks where the conductor does not read: its figures would be worthless anyway."""
        sys.stdout.buffer.write(self._encode(answer) + b"\n")
        sys.stdout.buffer.flush()

    def snapshot(self) -> Snapshot:
        """What there is to tell now."""
        crowd = self.crowd
        cpu, at = time.process_time(), time.monotonic()
        share = (cpu - self._cpu) / max(at - self._at, 1e-6)
        self._cpu, self._at = cpu, at
        took = {name: histogram.take() for name, histogram in crowd.histograms.items() if histogram.counts}
        return Snapshot(
            connections=crowd.connections,
            said=crowd.said,
            acknowledged=crowd.acknowledged,
            heard=crowd.heard,
            waiting=crowd.waiting(),
            cpu=share,
            counts=crowd.counts,
            took=took,
            verdict=crowd.ledger.verdict,
            failures=crowd.failures,
        )

    def take(self, order: dict[str, Any]) -> None:
        """Begins to carry an order out."""
        task = asyncio.create_task(self._carry_out(order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, order: dict[str, Any]) -> None:
        number = order.get("order", 0)
        try:
            page, said = None, {}
            if order["do"] == "page":
                page = self.crowd.page()
            else:
                said = await self._do(order)
            self.tell(Answer(answer=number, said=said, page=page, snapshot=self.snapshot()))
        except Exception as error:
            self.tell(Answer(answer=number, fault=f"{order['do']}: {type(error).__name__}: {error}"))

    async def _do(self, order: dict[str, Any]) -> dict[str, Any]:
        match order["do"]:
            case "open":
                return await self._open(order)
            case "lists":
                return await self._lists()
            case "run":
                self._run(order.get("rate", 0.0), order.get("window", 0))
                return {}
            case "look":
                return {}
            case "measured":
                self.crowd.measured()
                return {}
            case "close":
                self._leaving = True
                await asyncio.gather(*(self.crowd.close(user) for user in self.crowd.users.values()))
                return {}
        return await self.crowd.do(order)

    async def _open(self, order: dict[str, Any]) -> dict[str, Any]:
        """Brings users online: all of this process, or ``users``; ``per_s`` of them a second, or as fast as it goes."""
        crowd = self.crowd
        chosen = [crowd.users[index] for index in order["users"]] if "users" in order else list(crowd.users.values())
        per_s = order.get("per_s", 0.0)
        free = asyncio.Semaphore(crowd.scenario.logins_in_flight)
        came = 0

        async def come(user: User, at: float) -> None:
            nonlocal came
            try:
                let_in = await crowd.open(user, int(at * 1e6))
                came += let_in
            finally:
                free.release()

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for place, user in enumerate(chosen):
                if self._leaving:
                    break
                at = began + place / per_s if per_s else 0.0
                if (wait := at - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                await free.acquire()
                # In an open loop the time of waiting for a free place counts.
                group.create_task(come(user, at or time.monotonic()))
        gc.freeze()
        return {"came": came, "of": len(chosen), "refusals": crowd.refusals}

    async def _lists(self) -> dict[str, Any]:
        """Each user blocks the one whose messages it must not get."""
        return await self.crowd.block_all()

    def _run(self, rate: float, window: int) -> None:
        self.crowd.window = window
        self._pulse.beat(rate)
        if window:
            for user in self.crowd.users.values():
                self.crowd.begin(user)


async def serve() -> None:
    """Takes orders until stdin ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    generator = Generator(msgspec.json.decode(await reader.readline(), type=Plan))
    generator.tell(Answer(said={"pid": os.getpid()}))
    ticking = asyncio.create_task(_tick(generator))
    try:
        while line := await reader.readline():
            generator.take(msgspec.json.decode(line))
    finally:
        ticking.cancel()
        transport.close()


async def _tick(generator: Generator) -> None:
    while True:
        await asyncio.sleep(SNAPSHOT_S)
        generator.tell(Answer(snapshot=generator.snapshot()))


def main() -> None:
    """Runs it."""
    # What becomes of a run that is to end the conductor says; a generator ends with its input.
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    # Garbage that is in cycles is rare here, and a full collection with 20,000 users is a pause that would be measured.
    gc.set_threshold(50_000, 50, 50)
    try:
        uvloop.run(serve())
    except BrokenPipeError:
        # The conductor is gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
