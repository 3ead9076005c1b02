"""A line through what was seen."""

import random

import pytest

from loadtest.growth import growth


def test_a_line_is_found() -> None:
    found = growth([(t, 1000 + 2.0 * t) for t in range(0, 500, 10)])
    assert found is not None
    assert found.per_h == pytest.approx(7200)
    assert found.rise == pytest.approx(980)
    assert found.share == pytest.approx(0.98)
    assert found.certain


def test_noise_without_a_slope_is_not_growth() -> None:
    chance = random.Random(5)
    found = growth([(t, 1000 + chance.uniform(-50, 50)) for t in range(500)])
    assert found is not None
    assert not found.certain


def test_a_leak_in_noise_is_growth() -> None:
    chance = random.Random(5)
    found = growth([(t, 1000 + t + chance.uniform(-50, 50)) for t in range(500)])
    assert found is not None
    assert found.certain
    assert found.per_h == pytest.approx(3600, rel=0.05)


@pytest.mark.parametrize("at", [0.5, 0.8, 0.85, 0.9, 0.94])
def test_what_doubles_late_has_grown(at: float) -> None:
    chance = random.Random(5)
    found = growth([(t, (1000 if t < at * 3600 else 2000) + chance.uniform(-50, 50)) for t in range(3600)])
    assert found is not None
    assert found.certain
    assert found.share > 0.8


def test_what_falls_has_not_grown() -> None:
    chance = random.Random(5)
    found = growth([(t, (2000 if t < 3200 else 1000) + chance.uniform(-50, 50)) for t in range(3600)])
    assert found is not None
    assert found.share < 0


def test_a_few_points_at_both_ends_are_chance() -> None:
    found = growth([(t, 1000 if t < 15 else 1200) for t in range(19)] + [(19, 1000)])
    assert found is not None
    assert not found.certain


@pytest.mark.parametrize("points", [[], [(1.0, 1.0)] * 3, [(1.0, 1.0)] * 10])
def test_too_little_says_nothing(points: list[tuple[float, float]]) -> None:
    assert growth(points) is None
