"""Everybody writes: pairs or as popularity has it, at a rate or as fast as they are answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loadtest.stage import Stage


class Chat:
    """Logins, lists, a while of warming up, the measured time, the settling."""

    async def run(self, stage: Stage) -> None:
        scenario = stage.scenario
        await stage.connect()
        await stage.talk()
        await stage.hold(scenario.warm_s, "warming up")
        await stage.measure(scenario.seconds)
        stage.check_all_stayed()
        stage.check_delivered()
