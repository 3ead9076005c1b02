"""Hours of an ordinary load: whether memory, or anything that is counted, grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loadtest.acts import orders
from loadtest.growth import growth
from loadtest.refusals import TellingCrowd
from loadtest.result import Sample
from loadtest.visiting import VisitingCrowd

if TYPE_CHECKING:
    from loadtest.stage import Stage

GROWTH_MAX = 0.1
"""Of memory over the measured time, above which a soak fails, where it stands out of the noise."""

JUDGED_FROM_S = 600.0
"""Shorter runs are told of, not judged: caches and allocators fill up at first."""


class SoakCrowd(TellingCrowd, VisitingCrowd):
    """Users who talk; some come and go."""


class Soak:
    """Logins, talk with comings and goings for as long as is asked for, and a line through the memory of that time."""

    async def run(self, stage: Stage) -> None:
        scenario = stage.scenario
        await stage.connect()
        await orders.until(stage, "watching", "not everybody could watch")
        await stage.talk()
        await stage.hold(scenario.warm_s, "warming up")
        await orders.measured(stage, orders.churn(scenario, scenario.seconds))
        await stage.quiet()
        await orders.until(stage, "back", "not everybody came back")
        rates, failures = grown([sample for sample in stage.series if stage.measured_from_s <= sample.t])
        stage.rates |= rates
        for failure in failures:
            stage.fail(failure)
        await orders.judge_presence(stage)


def grown(series: Sequence[Sample]) -> tuple[dict[str, float], list[str]]:
    """How memory grew over these samples.

    Returns:
        Rates for the result (bytes a second), and what is wrong, in words.
    """
    rates: dict[str, float] = {}
    failures: list[str] = []
    lines = {
        "gateway": [(each.t, float(each.gateway_bytes)) for each in series if each.gateway_bytes is not None],
        "store": [(each.t, float(each.store_bytes)) for each in series if each.store_bytes is not None],
    }
    for name, points in lines.items():
        found = growth(points)
        if found is None:
            continue
        rates[f"{name}_growth_bytes"] = found.per_h / 3600
        # The store keeps what was sent until it is acked or its time is over: it may grow.
        judged = name == "gateway" and points[-1][0] - points[0][0] >= JUDGED_FROM_S
        if judged and found.certain and found.share > GROWTH_MAX:
            failures.append(f"the {name}'s memory grew by {found.share:.0%} ({found.per_h / 1e6:,.1f} MB an hour)")
    return rates, failures
