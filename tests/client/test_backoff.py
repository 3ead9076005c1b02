"""How long a client waits, and after what it does not come again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.client.backoff import CAP_S, FIRST_S, Backoff, comes_again, status_comes_again
from gateway.client.errors import GatewayError, Stopped, refusal, stop
from gateway.protocol import codes
from gateway.protocol.codes import Code


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def chances(*values: float) -> Iterator[float]:
    yield from values


def test_waits_are_anything_between_nothing_and_a_bound_that_doubles() -> None:
    always = Backoff(Clock(), lambda: 1.0)
    assert [always.next_s() for _ in range(9)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    drawn = chances(0.0, 0.5)
    some = Backoff(Clock(), lambda: next(drawn))
    assert [some.next_s() for _ in range(2)] == [0.0, FIRST_S]
    many = Backoff(Clock(), lambda: 1.0)
    assert [many.next_s() for _ in range(2000)][-1] == CAP_S


def test_a_success_begins_anew() -> None:
    backoff = Backoff(Clock(), lambda: 1.0)
    for _ in range(5):
        backoff.next_s()
    backoff.succeeded()
    assert backoff.next_s() == FIRST_S


def test_nobody_comes_before_the_moment_that_was_asked_for() -> None:
    clock = Clock()
    backoff = Backoff(clock, lambda: 0.0)
    backoff.hold(3000)
    backoff.hold(1000)
    assert backoff.next_s() == 3.0
    clock.now += 2.0
    assert backoff.next_s() == 1.0
    clock.now += 2.0
    assert backoff.next_s() == 0.0


@pytest.mark.parametrize("close", codes.CLOSE_CODES, ids=lambda close: close.name)
def test_the_range_of_a_close_code_says_what_to_do(close: codes.CloseCode) -> None:
    stops = close.code >= 4500 or close.code in (1002, 1003, 1007, 1009)
    assert comes_again(close.code) is not stops


@pytest.mark.parametrize("code", [1005, 1006, 1012, 1013, 4321])
def test_codes_without_a_name_go_by_their_range(code: int) -> None:
    assert comes_again(code)
    assert not comes_again(4999)


def test_a_status_says_the_same() -> None:
    assert [status for status in range(400, 600) if status_comes_again(status)] == [408, 425, 429, *range(500, 600)]


def test_every_refusal_has_a_type_or_is_plain() -> None:
    kinds = {code: type(refusal({"type": "error", "code": int(code), "reason": "why"})) for code in Code}
    assert len(set(kinds.values())) >= 15
    assert all(issubclass(kind, GatewayError) for kind in kinds.values())
    odd = refusal({"type": "error", "code": 99999, "reason": ""})
    assert (odd.code, str(odd)) == (99999, "refused (99999)")


def test_every_end_has_a_type_of_its_own() -> None:
    ends = [each.code for each in codes.CLOSE_CODES if each.code >= codes.STOP_FROM]
    kinds = {type(stop(code, {})) for code in ends}
    assert len(kinds) == len(ends)
    assert Stopped not in kinds
    unknown = stop(4777, {"reason": "new", "code": 1, "until": 5})
    assert (type(unknown), unknown.close_code, unknown.code, unknown.until) == (Stopped, 4777, 1, 5)
