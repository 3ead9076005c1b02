"""Latencies keep their figures on the way from a generator to the result."""

from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from loadtest.histogram import HIGHEST_US, Histogram, decoded

LATENCIES = st.lists(st.integers(0, 2 * HIGHEST_US), min_size=1, max_size=200)


@given(LATENCIES)
def test_percentiles_are_those_of_hdrhistogram(latencies: list[int]) -> None:
    own, reference = Histogram(), HdrHistogram(1, HIGHEST_US, 3)
    for us in latencies:
        own.add(us)
        reference.record_value(min(max(us, 1), HIGHEST_US))
    found = own.hdr()
    assert own.total == found.get_total_count() == len(latencies)
    for percent in (0.1, 50, 90, 99, 99.9, 100):
        exact = reference.get_value_at_percentile(percent)
        assert abs(found.get_value_at_percentile(percent) - exact) <= exact / 1000


@given(st.lists(LATENCIES, min_size=1, max_size=4))
def test_processes_merged_are_the_same_as_one(parts: list[list[int]]) -> None:
    merged, whole = Histogram(), Histogram()
    for part in parts:
        each = Histogram()
        for us in part:
            each.add(us)
            whole.add(us)
        merged.merge(each.take())
        assert each.total == 0
    assert merged.counts == whole.counts


def test_a_latency_is_read_from_the_result_again() -> None:
    histogram = Histogram()
    for us in range(1, 1001):
        histogram.add(us)
    latency = histogram.latency()
    assert (latency.count, latency.p50_ms, latency.p99_ms, latency.max_ms) == (1000, 0.5, 0.99, 1.0)
    assert decoded(latency.hdr).get_value_at_percentile(50) == 500
    assert histogram.at_ms(0.5, 0.99) == [0.5, 0.99]


def test_nothing_counted_has_no_percentile() -> None:
    assert Histogram().at_ms(0.5, 0.99) == []


def test_minutes_of_waiting_are_told_as_they_were() -> None:
    histogram = Histogram()
    histogram.add(150_000_000)
    assert abs(histogram.latency().max_ms - 150_000) <= 150


def test_the_number_of_counts_is_bounded() -> None:
    histogram = Histogram()
    us = 1.0
    while us < 2 * HIGHEST_US:
        histogram.add(int(us))
        us = max(us + 1, us * 1.0001)
    assert 20_000 < len(histogram.counts) < 24_000
