"""Admins throw users out while they talk: how long it takes, and that who is out stays out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtest.acts import orders
from loadtest.dropping import DroppingCrowd
from loadtest.refusals import TellingCrowd

if TYPE_CHECKING:
    from loadtest.stage import Stage


class KickCrowd(TellingCrowd, DroppingCrowd):
    """Users who are thrown out and come back."""


class Kick:
    """Logins, talk, drops one after another under that load, and everybody back in the end."""

    async def run(self, stage: Stage) -> None:
        scenario = stage.scenario
        await stage.connect()
        await stage.talk()
        await stage.hold(scenario.warm_s, "warming up")
        await orders.measured(stage, orders.drops(stage, scenario.seconds))
        await stage.quiet()
        await orders.until(stage, "back", "not everybody came back")
