"""The gateway goes away and comes again: how the wave of users comes back, and that nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtest.acts import orders
from loadtest.refusals import TellingCrowd
from loadtest.returning import ReturningCrowd

if TYPE_CHECKING:
    from loadtest.stage import Stage


class ReconnectCrowd(TellingCrowd, ReturningCrowd):
    """Users who come back."""


class Reconnect:
    """Logins, talk, then one break after another, each with an equal part of the time."""

    async def run(self, stage: Stage) -> None:
        scenario = stage.scenario
        await stage.connect()
        await stage.talk()
        await stage.hold(scenario.warm_s, "warming up")
        await stage.begin_measuring()
        for kind in scenario.breaks:
            if not stage.interrupted:
                await orders.broken(stage, stage.breaker, kind, scenario.seconds / len(scenario.breaks))
        await stage.end_measuring()
        await stage.quiet()
        await orders.until(stage, "back", "not everybody came back")
