"""A day of a chat app, squeezed: phases with their shares of users, talk, comings and goings, drops and breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtest.acts import orders
from loadtest.dropping import DroppingCrowd
from loadtest.refusals import TellingCrowd
from loadtest.scenario import Phase

if TYPE_CHECKING:
    from loadtest.stage import Stage

MOVING_SHARE = 0.5
"""Of a phase's time in which users come or go until as many are online as it asks for."""


class MixedCrowd(TellingCrowd, DroppingCrowd):
    """Users who talk, watch, come and go, are thrown out and come back."""


class Mixed:
    """Everybody logs in once, then the day begins; in the end all come for what is still waiting for them."""

    async def run(self, stage: Stage) -> None:
        scenario = stage.scenario
        await stage.connect()
        await orders.until(stage, "watching", "not everybody could watch")
        hours = sum(phase.hours for phase in scenario.phases)
        await stage.begin_measuring()
        for phase in scenario.phases:
            if not stage.interrupted:
                await self._phase(stage, phase, scenario.seconds * phase.hours / hours)
        await stage.quiet()
        await stage.end_measuring()
        await stage.all(orders.online(scenario, 1.0, scenario.connections_per_s))
        await orders.until(stage, "back", "not everybody came back")
        await orders.judge_presence(stage)

    async def _phase(self, stage: Stage, phase: Phase, seconds: float) -> None:
        scenario = stage.scenario
        stage.mark(phase.name)
        stage.phase(phase.name)
        await stage.talk(rate=scenario.rate * phase.rate, window=0)
        together = [orders.online(scenario, phase.online, scenario.users / max(seconds * MOVING_SHARE, 0.1))]
        if scenario.churn_per_s * phase.churn:
            together.append(orders.churn(scenario, seconds, phase.churn))
        if scenario.drops_per_s * phase.drops:
            together.append(orders.drops(stage, seconds, phase.drops))
        async with orders.beside(stage, together):
            if phase.break_ is not None:
                await orders.broken(stage, stage.breaker, phase.break_, seconds)
            else:
                await stage.hold(seconds)
