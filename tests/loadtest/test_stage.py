"""What a stage makes of what was seen: of made-up looks, so that each figure is known beforehand."""

from __future__ import annotations

from tests.loadtest.staged import Staged


async def test_what_samples_in_the_service_does_so_in_the_measured_time() -> None:
    stage = Staged()
    told: list[tuple[str, float]] = []

    class Within:
        def begin(self) -> None:
            told.append(("begin", stage.now))

        def end(self) -> None:
            told.append(("end", stage.now))

    stage.service.sampler = Within()
    stage.now = 3.0
    await stage.begin_measuring()
    stage.now = 8.0
    await stage.end_measuring()
    await stage.settle()
    await stage.end_measuring()
    assert told == [("begin", 3.0), ("end", 8.0)]
