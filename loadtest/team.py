"""The generator processes as the conductor has them: started, told what to do, listened to."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import Any

import msgspec

from loadtest.generator import LINE_BYTES_MAX, Answer, Snapshot
from loadtest.ledger import Page
from loadtest.plan import Plan

STOP_S = 10.0


class GeneratorFault(Exception):
    """A generator could not do what it was told, or has died."""


class Member:
    """One generator process."""

    def __init__(
        self, number: int, process: Process, heard: Callable[[int, Snapshot], None], ended: Callable[[str], None]
    ) -> None:
        self.number, self.pid = number, process.pid
        self._process, self._began = process, time.monotonic()
        self._heard, self._ended = heard, ended
        self._why = f"generator {number} has ended"
        self._wanted = False
        self._orders = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._ready: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answers[0] = self._ready
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(
        cls, plan: Plan, core: int | None, heard: Callable[[int, Snapshot], None], ended: Callable[[str], None]
    ) -> Member:
        """Starts one and gives it the plan."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "loadtest.generator",
            stdin=PIPE,
            stdout=PIPE,
            limit=LINE_BYTES_MAX,
            # What ends the group of processes is for the conductor, also before a generator can ignore it.
            start_new_session=True,
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
        )
        member = cls(plan.number, process, heard, ended)
        await member._write(msgspec.json.encode(plan))
        await member._ready
        member._wanted = True
        return member

    async def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
            await self._process.stdin.drain()
        except (ConnectionError, RuntimeError):
            # The latter is what uvloop says of a pipe that is closed.
            await self._listening
            raise GeneratorFault(self._why) from None

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        decode = msgspec.json.Decoder(Answer).decode
        try:
            while line := await self._process.stdout.readline():
                answer = decode(line)
                if answer.snapshot is not None:
                    self._heard(self.number, answer.snapshot)
                    if not answer.answer:
                        continue
                waiting = self._answers.pop(answer.answer, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
        finally:
            self._why = await self._end()
            if self._wanted:
                self._ended(self._why)
            for waiting in self._answers.values():
                if not waiting.done():
                    waiting.set_exception(GeneratorFault(self._why))
                    # Somebody may have given up waiting.
                    waiting.exception()
            self._answers.clear()

    async def _end(self) -> str:
        """How the process ended, in words."""
        status, after = await self._process.wait(), f"after {time.monotonic() - self._began:.1f} s"
        if status < 0:
            return f"generator {self.number} was ended by signal {-status} {after}"
        return f"generator {self.number} has ended {after}; see its words above"

    async def ask(self, order: dict[str, Any]) -> Answer:
        """Gives an order and waits until it is carried out.

        Raises:
            GeneratorFault: it cannot be.
        """
        if self._listening.done():
            raise GeneratorFault(self._why)
        number = next(self._orders)
        waiting = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._write(msgspec.json.encode({**order, "order": number}))
        answer: Answer = await waiting
        if answer.fault:
            raise GeneratorFault(f"generator {self.number}: {answer.fault}")
        return answer

    async def stop(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._wanted = False
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await asyncio.gather(self._listening, return_exceptions=True)


class Team:
    """All generators of a run.

    Args:
        heard: takes what each of them tells.
        ended: is told why one has ended that nobody has stopped.
    """

    def __init__(self, heard: Callable[[int, Snapshot], None], ended: Callable[[str], None]) -> None:
        self._heard, self._ended = heard, ended
        self.members: list[Member] = []

    async def start(self, plans: list[Plan], cores: list[int]) -> None:
        """Starts a process for each plan, on these cores in turn (none: anywhere)."""
        for place, plan in enumerate(plans):
            core = cores[place % len(cores)] if cores else None
            self.members.append(await Member.start(plan, core, self._heard, self._ended))

    @property
    def pids(self) -> list[int]:
        """The generators' processes."""
        return [member.pid for member in self.members]

    async def all(self, order: dict[str, Any]) -> list[dict[str, Any]]:
        """The same order to all; what they answer, in their order."""
        answers = await asyncio.gather(*(member.ask(order) for member in self.members))
        return [answer.said for answer in answers]

    async def pages(self) -> list[Page]:
        """All ledgers."""
        answers = await asyncio.gather(*(member.ask({"do": "page"}) for member in self.members))
        return [answer.page for answer in answers if answer.page is not None]

    async def stop(self) -> None:
        """Ends all of them."""
        await asyncio.gather(*(member.stop() for member in self.members))
