"""Breaks of an act: what they cause is excused, and nothing else."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import pytest

from loadtest.acts import orders
from loadtest.breaking import Breaker
from loadtest.conductor import _complaints
from loadtest.generator import Snapshot
from loadtest.scenario import Scenario
from loadtest.screen import Screen
from loadtest.stage import Stage
from loadtest.tally import Tally
from loadtest.target import Target


class _Users:
    """Generators of which nothing is seen but what they count, and a gateway that breaks some of it."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()
        self.tally = Tally()
        self.stage = Stage(Scenario(), Target(""), cast("Any", self), self.tally, cast("Any", None), Screen("", None))

    async def all(self, order: dict[str, Any]) -> list[dict[str, Any]]:
        quiet = dict.fromkeys(("connections", "said", "acknowledged", "heard", "waiting"), 0)
        told = {"counts": dict(self.counts), "took": {}, "verdict": self.stage.verdict, "failures": []}
        self.tally.take(0, Snapshot(**quiet, **told, cpu=0.0))  # type: ignore[arg-type]
        return [{"so": True}]

    async def perform(self, kind: str) -> None:
        self.counts += self.broken

    async def complaints(self) -> list[str]:
        await orders.broken(self.stage, cast("Breaker", self), "kill", 0.0)
        return _complaints(self.stage, self.tally, dict(self.counts))


async def test_what_a_break_causes_is_excused() -> None:
    users = _Users()
    users.broken.update(error_503=7, unforeseen_none=20)
    assert await users.complaints() == []
    assert await users.complaints() == []


@pytest.mark.parametrize("name", ["error_503", "unforeseen_none"])
async def test_what_was_wrong_before_a_break_or_behind_it_is_not(name: str) -> None:
    users = _Users()
    users.broken[name] = 20
    users.counts[name] = 3
    (before,) = await users.complaints()
    assert before.endswith(f"by code: {name.partition('_')[2]}: 3")
    users.counts[name] += 2
    (behind,) = _complaints(users.stage, users.tally, dict(users.counts))
    assert behind.endswith(f"by code: {name.partition('_')[2]}: 5")
