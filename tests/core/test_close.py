"""Closes and refusals as values."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.close import REASON_BYTES_MAX, Closing, Refusal
from gateway.protocol import codes
from gateway.protocol.codes import CLOSE_BY_CODE, CLOSE_CODES, HTTP_STATUS, Code

times = st.none() | st.integers(0, 10**15)


@given(st.sampled_from(CLOSE_CODES), st.integers(0, 99_999), st.text(), times, times)
def test_any_reason_fits_a_close_frame_as_json(
    close_code: codes.CloseCode, code: int, reason: str, until: int | None, retry_after_ms: int | None
) -> None:
    payload = Closing(close_code, code, reason, until, retry_after_ms).payload()
    assert len(payload.encode()) <= REASON_BYTES_MAX
    said = json.loads(payload)
    assert said["code"] == code
    assert reason.startswith(said["reason"])
    assert (said.get("until"), said.get("retry_after_ms")) == (until, retry_after_ms)


@pytest.mark.parametrize("character", ["x", "\n", '"', "é", "€", "😀", "\x00"])
def test_a_long_reason_is_cut_no_shorter_than_it_must(character: str) -> None:
    closing = Closing.of(codes.KICKED, character * 500)
    payload = closing.payload()
    cost = len(json.dumps(character, ensure_ascii=False).encode()) - 2
    assert REASON_BYTES_MAX - len(payload.encode()) < max(cost, 1)


def test_a_short_reason_is_kept() -> None:
    payload = Closing(codes.BANNED, 31011, "spam", until=5).payload()
    assert payload == '{"code":31011,"reason":"spam","until":5}'


def test_a_close_that_needs_no_words_says_its_name() -> None:
    assert json.loads(Closing.of(codes.SLOW_CONSUMER).payload()) == {"code": 4001, "reason": "slow_consumer"}


@pytest.mark.parametrize("code", sorted(HTTP_STATUS))
def test_what_has_an_http_status_has_a_close_code(code: int) -> None:
    refusal = Refusal(code, "no", until=3, retry_after_ms=4)
    assert refusal.http_status == HTTP_STATUS[code]
    closing = refusal.closing()
    assert closing.close_code is CLOSE_BY_CODE[code]
    assert json.loads(refusal.body()) == json.loads(closing.payload())


@pytest.mark.parametrize("close_code", CLOSE_CODES, ids=lambda each: each.name)
def test_every_close_can_be_said_before_the_upgrade(close_code: codes.CloseCode) -> None:
    refusal = Closing.of(close_code, "so be it", retry_after_ms=9).refusal()
    assert refusal.http_status == (403 if close_code.code >= 4500 else 503)
    assert json.loads(refusal.body()) == {"code": close_code.code, "reason": "so be it", "retry_after_ms": 9}


def test_a_ban_heard_before_the_upgrade_keeps_its_code_and_end() -> None:
    refusal = Closing(codes.BANNED, Code.BANNED_WHILE_CONNECTED, "spam", until=5, revocation=True).refusal()
    assert refusal.http_status == 403
    assert json.loads(refusal.body()) == {"code": 31011, "reason": "spam", "until": 5}
