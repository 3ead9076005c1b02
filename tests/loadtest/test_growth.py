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


@pytest.mark.parametrize("points", [[], [(1.0, 1.0)] * 3, [(1.0, 1.0)] * 10])
def test_too_little_says_nothing(points: list[tuple[float, float]]) -> None:
    assert growth(points) is None
