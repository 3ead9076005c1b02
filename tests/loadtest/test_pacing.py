"""Events at a rate, on a clock that the test turns."""

import pytest

from loadtest.pacing import BEHIND_MAX, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_each_event_is_given_once_with_the_time_it_was_meant_for() -> None:
    clock = Clock()
    pace = Pace(4, clock=clock)
    assert pace.due() == [100.0]
    assert pace.due() == []
    clock.now = 100.6
    assert pace.due() == [100.25, 100.5]
    clock.now = 100.75
    assert pace.due() == [100.75]


def test_a_late_loop_does_not_change_the_rate() -> None:
    clock = Clock()
    pace = Pace(8, clock=clock)
    given = 0
    for step in (0.03, 0.7, 0.001, 2.1, 0.169):
        clock.now += step
        given += len(pace.due())
    assert given == int(3.0 * 8) + 1


def test_what_a_standstill_left_undone_is_counted() -> None:
    clock = Clock()
    pace = Pace(100, clock=clock)
    clock.now += 60
    assert len(pace.due()) <= BEHIND_MAX + 1
    assert pace.skipped == pytest.approx(6000 - BEHIND_MAX, abs=2)
    clock.now += 1
    assert len(pace.due()) == 100


def test_processes_that_begin_at_once_take_turns() -> None:
    clock = Clock()
    paces = [Pace(4, phase, clock) for phase in (0.0, 0.5)]
    clock.now += 0.5
    assert [pace.due() for pace in paces] == [[100.0, 100.25, 100.5], [100.125, 100.375]]


async def test_events_end_with_their_time() -> None:
    seen = [at async for at in Pace(1000).events(0.05)]
    assert seen
    assert seen == sorted(set(seen))
    assert seen[-1] - seen[0] <= 0.05


def test_no_pace_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Pace(0)
