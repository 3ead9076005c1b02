"""Half of the users watch the other half, who come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtest.acts import orders
from loadtest.refusals import TellingCrowd
from loadtest.visiting import VisitingCrowd

if TYPE_CHECKING:
    from loadtest.stage import Stage


class PresenceCrowd(TellingCrowd, VisitingCrowd):
    """Watchers and visitors."""


class Presence:
    """Logins, watches, a while of coming and going, and then everybody must believe what is true."""

    async def run(self, stage: Stage) -> None:
        scenario = stage.scenario
        await stage.connect()
        await orders.until(stage, "watching", "not everybody could watch")
        await stage.talk()
        await stage.hold(scenario.warm_s, "warming up")
        await orders.measured(stage, orders.churn(scenario, scenario.seconds))
        await stage.quiet()
        await orders.judge_presence(stage)
