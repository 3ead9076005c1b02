"""A stage without processes: what generators tell, what the service uses and what time it is, a test says."""

from __future__ import annotations

import os
from typing import Any, cast

from loadtest.generator import Snapshot
from loadtest.ledger import Page
from loadtest.result import Verdict
from loadtest.sampling import Sampler, Seen
from loadtest.scenario import Scenario
from loadtest.screen import Screen
from loadtest.stage import Stage
from loadtest.tally import Tally
from loadtest.target import Target
from loadtest.team import Team


def snapshot(**values: Any) -> Snapshot:
    """What a generator tells that has seen nothing, but for these."""
    nothing: dict[str, Any] = dict.fromkeys(("connections", "said", "acknowledged", "heard", "waiting"), 0)
    nothing |= {"cpu": 0.0, "counts": {}, "took": {}, "verdict": Verdict(), "failures": []}
    return Snapshot(**(nothing | values))


class Generators:
    """Takes orders; ``said`` is what is answered to which."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.said: dict[str, list[dict[str, Any]]] = {}
        self.kept: list[Page] = []

    async def all(self, order: dict[str, Any]) -> list[dict[str, Any]]:
        """Like ``Team.all``."""
        self.orders.append(order["do"])
        return self.said.get(order["do"], [{}])

    async def pages(self) -> list[Page]:
        """Like ``Team.pages``."""
        return self.kept


class Looks:
    """What the service's processes have used so far."""

    def __init__(self) -> None:
        self.gateway_s = self.store_s = 0.0
        self.store_seen = True

    @property
    def used(self) -> dict[int, float]:
        """By process: the gateway has two, and one of them does three quarters of its work."""
        return {1: self.gateway_s * 3 / 4, 2: self.gateway_s / 4, 3: self.store_s}

    async def look(self) -> Seen:
        """Like ``Sampler.look``."""
        return Seen()


class Service(Target):
    """This process under the name of a gateway, with its store and the memory that a test says."""

    names: tuple[str, ...] = ("gateway", "store")
    resident = 0

    def pids(self) -> dict[str, int]:
        """Its processes."""
        return dict.fromkeys(self.names, os.getpid())

    def resident_bytes(self) -> dict[str, int]:
        """Its memory."""
        return {"gateway": self.resident} if self.resident else {}


class Staged(Stage):
    """A stage of such; ``now`` is the time since its beginning."""

    def __init__(self, scenario: Scenario | None = None) -> None:
        self.now = 0.0
        self.team, self.tally, self.looks, self.service = Generators(), Tally(), Looks(), Service("ws://127.0.0.1:1/")
        super().__init__(
            scenario or Scenario(),
            self.service,
            cast("Team", self.team),
            self.tally,
            cast("Sampler", self.looks),
            Screen("made up", None),
        )

    @property
    def elapsed_s(self) -> float:
        return self.now
