"""The wheel against a sorted list: never early, at most a tick late, whatever the clock does."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.timers import Timer, TimerWheel

TICK, SLOTS = 0.05, 16
TURN = TICK * SLOTS

deadlines = st.floats(-1.0, 20 * TURN)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("arm"), deadlines),
        st.tuples(st.just("cancel"), st.floats(0, 1)),
        # Mostly ticks; now and then a jump of many turns, or a step back.
        st.tuples(st.just("advance"), st.sampled_from([TICK, TICK / 3, 2 * TICK, TURN, 7 * TURN, -TICK])),
    ),
    max_size=80,
)


@example(
    0.0, [("advance", 0.8), ("advance", -0.05), ("advance", -0.05), ("advance", -0.05), ("arm", 0.0), ("advance", 0.05)]
)
@given(st.floats(0, 1e6), steps)
def test_as_a_sorted_list_would(start: float, plan: list[tuple[str, float]]) -> None:
    wheel = TimerWheel(start, TICK, SLOTS)
    now, latest = start, start
    waiting: dict[int, tuple[float, float, Timer]] = {}
    fired: list[int] = []

    def fire(number: int, at: float) -> None:
        deadline, _, _ = waiting.pop(number)
        assert at == now
        assert deadline <= now, "early"
        fired.append(number)

    for number, (verb, value) in enumerate(plan):
        if verb == "arm":
            deadline = start + value
            waiting[number] = (deadline, latest, wheel.arm(deadline, fire, number))
        elif verb == "cancel":
            if waiting:
                chosen = sorted(waiting)[int(value * (len(waiting) - 1))]
                waiting.pop(chosen)[2].cancel()
        else:
            now += value
            wheel.advance(now)
            latest = max(latest, now)
            for deadline, armed_at, _ in waiting.values():
                # Armed in the past counts from where the wheel stood when it was armed: it does not turn back.
                assert max(deadline, armed_at) > latest - 2 * TICK - 1e-6, "late"
    now = latest + 30 * TURN
    wheel.advance(now)
    assert not waiting
    wheel.advance(now + 2 * TURN)
    assert wheel.armed == 0
    assert len(fired) == len(set(fired))


def calls_of(wheel: TimerWheel, *deadlines: float) -> list[float]:
    called: list[float] = []
    for deadline in deadlines:
        wheel.arm(deadline, lambda argument, now: called.append(argument), deadline)
    return called


def test_a_deadline_of_many_turns_waits_them_all() -> None:
    wheel = TimerWheel(0.0, TICK, SLOTS)
    called = calls_of(wheel, 100 * TURN)
    now = 0.0
    while now < 100 * TURN - TICK:
        now += TURN / 3
        wheel.advance(min(now, 100 * TURN - TICK))
    assert called == []
    wheel.advance(100 * TURN + 1.5 * TICK)
    assert called == [100 * TURN]


def test_what_is_armed_in_the_past_comes_at_the_next_tick() -> None:
    wheel = TimerWheel(10.0, TICK, SLOTS)
    wheel.advance(12.0)
    called = calls_of(wheel, 3.0)
    wheel.advance(12.0)
    assert called == []
    wheel.advance(12.0 + TICK)
    assert called == [3.0]


def test_an_action_may_arm_again_and_cancel_others() -> None:
    wheel = TimerWheel(0.0, TICK, SLOTS)
    called: list[str] = []
    other = wheel.arm(1.0, lambda _, now: called.append("other"))

    def again(_: object, now: float) -> None:
        called.append("again")
        other.cancel()
        if len(called) < 3:
            wheel.arm(now, again)

    wheel.arm(1.0 - TICK / 2, again)
    for step in range(1, 40):
        wheel.advance(1.0 + TICK * step)
    assert called == ["again", "again", "again"]


def test_cancelling_touches_no_slot_and_costs_nothing_later() -> None:
    wheel = TimerWheel(0.0, TICK, SLOTS)
    timers = [wheel.arm(1e9, lambda _, now: None) for _ in range(1000)]
    for timer in timers:
        timer.cancel()
        timer.cancel()
    assert wheel.armed == 1000
    # One turn later they are gone, however far their deadlines were.
    wheel.advance(TURN + 2 * TICK)
    assert wheel.armed == 0


def test_one_failing_action_takes_no_other_with_it() -> None:
    wheel = TimerWheel(0.0, TICK, SLOTS)
    before = calls_of(wheel, 0.2, 0.5)

    def fail(_: object, now: float) -> None:
        raise RuntimeError("a bug")

    wheel.arm(0.5, fail)
    after = calls_of(wheel, 0.5, 0.7)
    with pytest.raises(RuntimeError):
        wheel.advance(1.0)
    wheel.advance(1.0 + TICK)
    assert before + after == [0.2, 0.5, 0.5, 0.7]
    assert wheel.armed == 0
