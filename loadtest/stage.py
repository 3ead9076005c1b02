"""What an act's conductor side works with: the target, the generators, the clock, and what is to be reported."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from loadtest.breaking import Breaker
from loadtest.calling import Calls
from loadtest.ledger import judged
from loadtest.result import Cost, Mark, Sample, Verdict
from loadtest.sampling import Sampler
from loadtest.scenario import Scenario
from loadtest.screen import Screen
from loadtest.tally import Tally
from loadtest.target import Target
from loadtest.team import Team

FAILURES_MAX = 20
UNAUTHORIZED = "login_refused_401"
QUIET_S = 0.1
QUIET_MAX_S = 1.0
AT_THE_END = frozenset({"run", "look", "measured", "close", "enough", "online"})
"""Orders that are carried out after Ctrl-C as well."""


class Interrupted(Exception):
    """Ctrl-C, where an act waits for something else than time."""


def _us_each(seconds: float | None, count: int) -> float | None:
    return None if seconds is None else seconds / count * 1e6


class Stage:
    """One run, as its act sees it.

    Attributes:
        interrupted: Ctrl-C was pressed, or the run has broken off; what waits for time returns early.
        broken_off: nothing is left to measure, which ``failures`` says.
        failures: why the run failed, in words.
        service_share: of a core, what the service used in the measured time.
        busiest_share: the same of the busiest of its processes.
        verdict: None = the ledgers were not laid side by side.
        excused: counts of what the act's own breaks have caused, by name; what is beyond them is a failure.
    """

    def __init__(
        self, scenario: Scenario, target: Target, team: Team, tally: Tally, sampler: Sampler, screen: Screen
    ) -> None:
        self.scenario, self.target = scenario, target
        self.breaker = Breaker(target)
        self.marks: list[Mark] = []
        self.failures: list[str] = []
        self.cost = Cost()
        self.rates: dict[str, float] = {}
        self.verdict: Verdict | None = None
        self.measured_from_s = self.measured_to_s = 0.0
        self.excused: dict[str, int] = {}
        self.broken_off = False
        self.service_share = self.busiest_share = 0.0
        self._team, self._tally, self._sampler, self._screen = team, tally, sampler, screen
        self._calls = Calls(target)
        self._began = time.monotonic()
        self._stop = asyncio.Event()
        self._hurry = self._measuring = False
        self._before: tuple[dict[str, int], float, float] = ({}, 0.0, 0.0)
        self._used_before: dict[int, float] = {}
        self._weight: tuple[int, int] | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run's beginning."""
        return time.monotonic() - self._began

    @property
    def connections(self) -> int:
        """Sockets that are welcomed, as of the last snapshots."""
        return self._tally.connections

    @property
    def series(self) -> list[Sample]:
        """What was seen so far, twice a second."""
        return self._tally.series

    @property
    def counts(self) -> dict[str, int]:
        """All counts, as of the last snapshots."""
        return self._tally.counts()

    @property
    def waiting(self) -> int:
        """Messages without an answer, as of the last snapshots."""
        return self._tally.waiting

    @property
    def store_known(self) -> bool:
        """Whether what the store uses is seen: a gateway always has one, a peer what its processes say."""
        return self.target.kind != "gateway" or self._sampler.store_seen

    @property
    def interrupted(self) -> bool:
        return self._stop.is_set()

    def interrupt(self) -> None:
        """Ctrl-C: no more load, and what is under way is waited for; the second time it is not."""
        self._hurry = self._stop.is_set()
        self._stop.set()

    def break_off(self, why: str) -> None:
        """Ends the run as a failure: nothing is left to measure."""
        self.fail(why)
        self.broken_off = True
        self._stop.set()

    def watch(self) -> None:
        """Ends the run where the gateway that was started for it is gone, and nobody has broken it."""
        process = self.target.process
        if process is None or self.breaker.at_work or self.broken_off or (status := process.poll()) is None:
            return
        how = f"signal {-status}" if status < 0 else f"status {status}"
        self.break_off(f"the gateway ended ({how}) at {self.elapsed_s:.1f} s")

    def mark(self, what: str) -> None:
        """Something happens, which the charts show."""
        self.marks.append(Mark(t=self.elapsed_s, what=what))

    def phase(self, what: str) -> None:
        """What the run does now."""
        self._screen.phase(what)

    def say(self, line: str) -> None:
        """Tells the person at the terminal something."""
        self._screen.say(line)

    def fail(self, why: str) -> None:
        """The run fails, but goes on."""
        if why not in self.failures and len(self.failures) < FAILURES_MAX:
            self.failures.append(why)

    async def api(self, path: str, asked: object) -> dict[str, Any]:
        """Calls the Server API (signed); see ``Calls.call`` for what it raises."""
        return await self._calls.call(path, asked)

    async def all(self, order: dict[str, Any]) -> list[dict[str, Any]]:
        """The same order to all generators, and what each says.

        Raises:
            GeneratorFault: one cannot.
            Interrupted: Ctrl-C meanwhile.
        """
        asking = asyncio.ensure_future(self._team.all(order))
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            if not self.interrupted:
                await asyncio.wait((asking, stopping), return_when=asyncio.FIRST_COMPLETED)
            elif order["do"] in AT_THE_END:
                await asking
            if not asking.done():
                raise Interrupted
            return await asking
        finally:
            for task in (asking, stopping):
                task.cancel()
            await asyncio.gather(asking, stopping, return_exceptions=True)

    async def hold(self, seconds: float, phase: str = "") -> bool:
        """Lets time pass.

        Returns:
            Whether all of it has; False = interrupted.
        """
        if phase:
            self.phase(phase)
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return True
        return False

    async def connect(self) -> None:
        """All users come online, and have on their blocklists whom they refuse.

        Raises:
            Interrupted: Ctrl-C meanwhile, or nobody was let in.
        """
        self.phase("logins")
        self.mark("logins")
        scenario = self.scenario
        said = await self.all({"do": "open", "per_s": scenario.connections_per_s / scenario.processes})
        came, wanted = sum(each["came"] for each in said), sum(each["of"] for each in said)
        self.mark(f"{came:,} online")
        if came < wanted:
            why = self._refusals({name: words for each in said for name, words in each["refusals"].items()})
            if not came:
                self.break_off(f"nobody was let in: {why}")
                raise Interrupted
            self.fail(f"{wanted - came:,} of {wanted:,} users were not let in: {why}")
        if scenario.refused_share:
            said = await self.all({"do": "lists"})
            listed, asked = sum(each["listed"] for each in said), sum(each["of"] for each in said)
            if listed < asked:
                self.fail(f"{asked - listed:,} of {asked:,} blocklists were not answered for")

    def _refusals(self, told: Mapping[str, str]) -> str:
        """Why users were not let in; of each kind how often, and what one of them was told."""
        kinds = {
            name: count for name, count in self.counts.items() if name.startswith(("login_refused", "unreachable"))
        }
        words = {name: f"{name.replace('_', ' ')}{f' ({told[name]})' if told.get(name) else ''}" for name in kinds}
        why = ", ".join(f"{words[name]}: {count:,}" for name, count in kinds.items()) or "no answer in time"
        return why + ("; are --app-key and --app-secret those of the target?" if UNAUTHORIZED in kinds else "")

    async def talk(self, rate: float | None = None, window: int | None = None) -> None:
        """Users begin to write, as the scenario has it or at this rate over all."""
        scenario = self.scenario
        await self.all(
            {
                "do": "run",
                "rate": (scenario.rate if rate is None else rate) / scenario.processes,
                "window": scenario.window if window is None else window,
            }
        )

    async def quiet(self) -> None:
        """Users stop writing."""
        await self.all({"do": "run", "rate": 0.0, "window": 0})

    async def begin_measuring(self) -> None:
        """From now on latencies, rates and CPU count."""
        await self.all({"do": "look"})
        await self._sampler.look()
        if self.target.sampler is not None:
            self.target.sampler.begin()
        self._tally.measuring = self._measuring = True
        self.measured_from_s = self.elapsed_s
        self._before = (self.counts, self._sampler.gateway_s, self._sampler.store_s)
        self._used_before = self._sampler.used

    async def end_measuring(self) -> None:
        """Until now; latencies of what was to be sent until now count whenever it arrives."""
        if not self._measuring:
            return
        if self.target.sampler is not None:
            self.target.sampler.end()
        await self.all({"do": "measured"})
        await self._sampler.look()
        self.measured_to_s = self.elapsed_s
        self._measuring = False
        took = max(self.measured_to_s - self.measured_from_s, 1e-6)
        before, gateway_s, store_s = self._before
        counts = self.counts
        happened = {name: count - before.get(name, 0) for name, count in counts.items()}
        self.rates |= {name: count / took for name, count in happened.items() if count}
        if self.target.pids():
            gateway_s, store_s = self._sampler.gateway_s - gateway_s, self._sampler.store_s - store_s
            self.service_share = (gateway_s + store_s) / took
            used = (used_s - self._used_before.get(pid, 0.0) for pid, used_s in self._sampler.used.items())
            self.busiest_share = max(used, default=0.0) / took
            self._price(gateway_s, store_s if self.store_known else None, happened)

    def _price(self, gateway_s: float, store_s: float | None, happened: dict[str, int]) -> None:
        """What each message, or else each login, has cost; with a store that is not known, no sum is."""
        used_s = None if store_s is None else gateway_s + store_s
        messages, logins = happened.get("delivered", 0), happened.get("logins", 0)
        if messages:
            self.cost.gateway_us_per_message = gateway_s / messages * 1e6
            self.cost.store_us_per_message = _us_each(store_s, messages)
            self.cost.cpu_us_per_message = _us_each(used_s, messages)
        elif logins:
            self.cost.cpu_us_per_login = _us_each(used_s, logins)

    async def measure(self, seconds: float, phase: str = "measuring") -> None:
        """The measured time."""
        self.mark(phase)
        await self.begin_measuring()
        await self.hold(seconds, phase)
        await self.end_measuring()
        self.mark("measured")

    async def weigh(self) -> None:
        """Looks at the service's memory; the second look tells what each connection between the two takes."""
        await self.all({"do": "look"})
        size, connections = sum(self.target.resident_bytes().values()), self.connections
        if not size or not self.store_known:
            return
        if self._weight is None:
            self._weight = (size, connections)
        elif connections > self._weight[1]:
            self.cost.bytes_per_connection = (size - self._weight[0]) / (connections - self._weight[1])

    async def idle(self, seconds: float, phase: str = "holding") -> None:
        """Lets time pass and keeps what CPU the service uses meanwhile, as rates ``idle_gateway_cpu`` and _store_."""
        await self._sampler.look()
        gateway_s, store_s, began = self._sampler.gateway_s, self._sampler.store_s, self.elapsed_s
        await self.hold(seconds, phase)
        await self._sampler.look()
        took = max(self.elapsed_s - began, 1e-6)
        if self.target.pids():
            self.rates["idle_gateway_cpu"] = (self._sampler.gateway_s - gateway_s) / took
            if self.store_known:
                self.rates["idle_store_cpu"] = (self._sampler.store_s - store_s) / took

    async def settle(self) -> None:
        """Nobody writes any more; waits until all has arrived, and lays the ledgers side by side."""
        self.phase("settling")
        await self._team.all({"do": "run", "rate": 0.0, "window": 0})
        deadline = time.monotonic() + self.scenario.settle_s
        heard, pause = -1, QUIET_S
        while True:
            await self._team.all({"do": "look"})
            # Something may come that should not: nothing is over before it has been quiet for a while.
            quiet, heard = heard == self.counts["delivered"], self.counts["delivered"]
            # To nobody nothing comes any more.
            over = self._hurry or time.monotonic() > deadline or not self.connections
            if over or (quiet and not self.waiting):
                self.verdict = judged(await self._team.pages(), self.scenario.devices)
                if over or not self.verdict.lost:
                    break
                # Ledgers of many users are long: they are not asked for all the time.
                pause = min(2 * pause, QUIET_MAX_S)
            await asyncio.sleep(pause)
        if self.waiting:
            self.fail(f"{self.waiting:,} messages had no answer {self.scenario.settle_s:g} s after the last one")
        self.mark("settled")

    def check_all_stayed(self) -> None:
        """Fails the run where sockets ended by themselves; for acts in which nothing is to end them."""
        if cut := self.counts.get("cut", 0):
            self.fail(f"{cut:,} connections ended, though nobody was to go")

    def check_delivered(self) -> None:
        """Fails the run where nothing was delivered in the measured time."""
        if not self.interrupted and not self.rates.get("delivered"):
            self.fail("no message was delivered in the measured time")

    async def leave(self) -> None:
        """All users go, unless there is no time for that."""
        if self._hurry:
            return
        self.phase("leaving")
        await self._team.all({"do": "close"})

    def close(self) -> None:
        """Lets go of connections of its own; after a second Ctrl-C, of a gateway too that may stand still."""
        self._calls.close()
        if self._hurry and self.target.process is not None:
            self.target.process.kill()
