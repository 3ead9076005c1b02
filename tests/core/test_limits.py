"""The token bucket."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.limits import TokenBucket


def test_a_burst_at_once_and_then_the_rate() -> None:
    bucket = TokenBucket(10.0, 5.0, 100.0)
    assert [bucket.take(1.0, 100.0) for _ in range(5)] == [0.0] * 5
    assert bucket.take(1.0, 100.0) == 0.1
    assert bucket.take(1.0, 100.05) > 0.0
    assert bucket.take(1.0, 100.15) == 0.0


def test_a_refused_take_takes_nothing() -> None:
    bucket = TokenBucket(1.0, 2.0, 0.0)
    for _ in range(10):
        assert bucket.take(3.0, 0.0) == 1.0
    assert bucket.take(2.0, 0.0) == 0.0


def test_it_holds_no_more_than_the_burst() -> None:
    bucket = TokenBucket(1.0, 2.0, 0.0)
    assert bucket.take(2.0, 1e6) == 0.0
    assert bucket.take(1.0, 1e6) > 0.0


def test_a_rate_of_zero_allows_everything() -> None:
    bucket = TokenBucket(0.0, 1.0, 0.0)
    assert all(bucket.take(1000.0, 0.0) == 0.0 for _ in range(100))
    assert bucket.full(0.0)


def test_full_again_when_nothing_was_taken_lately() -> None:
    bucket = TokenBucket(10.0, 5.0, 0.0)
    assert bucket.full(0.0)
    bucket.take(5.0, 0.0)
    assert not bucket.full(0.4)
    assert bucket.full(0.5)


@given(
    st.floats(0.1, 1000),
    st.floats(1, 1000),
    st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 20)), max_size=50),
)
def test_never_more_than_burst_and_rate(rate: float, burst: float, takes: list[tuple[float, float]]) -> None:
    bucket = TokenBucket(rate, burst, 0.0)
    now = taken = 0.0
    for pause, cost in takes:
        now += pause
        wait = bucket.take(cost, now)
        if wait == 0.0:
            taken += cost
        assert wait >= 0.0
        assert taken <= burst + rate * now + 1e-6
