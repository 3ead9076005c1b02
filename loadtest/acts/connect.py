"""A storm of logins, then everybody stays and says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loadtest.stage import Stage


class Connect:
    """The logins are measured, then the memory and the CPU of those who stay."""

    async def run(self, stage: Stage) -> None:
        await stage.weigh()
        await stage.begin_measuring()
        await stage.connect()
        await stage.end_measuring()
        await stage.hold(stage.scenario.warm_s, "coming to rest")
        await stage.weigh()
        await stage.idle(stage.scenario.seconds)
        stage.check_all_stayed()
