from __future__ import annotations

import pytest

from gateway.api.errors import SIGNATURE_INVALID, Problem
from gateway.api.signature import Signatures
from gateway.config import Secret
from tests.nodes import CREDENTIALS

from .signing import signed

NOW_MS = 1_790_000_000_000
PREVIOUS = "the-secret-before-0123456789abcd"
UNTIL_MS = NOW_MS + 60_000


def verifier(window_s: float = 300) -> Signatures:
    secrets = (Secret(CREDENTIALS.app_secret), Secret(PREVIOUS, UNTIL_MS))
    return Signatures(CREDENTIALS.app_key, secrets, window_s)


def raw(headers: dict[str, str]) -> dict[bytes, bytes]:
    return {name.lower().encode(): value.encode() for name, value in headers.items()}


@pytest.mark.parametrize(
    ("headers", "now_ms"),
    [
        pytest.param(signed(timestamp=str(NOW_MS)), NOW_MS, id="milliseconds"),
        pytest.param(signed(timestamp=str(NOW_MS // 1000)), NOW_MS, id="seconds"),
        pytest.param(signed(timestamp=str(NOW_MS), prefix="RC-"), NOW_MS, id="prefixed"),
        pytest.param(signed(timestamp=str(NOW_MS), prefix="rc-"), NOW_MS, id="prefixed, lower case"),
        pytest.param(signed(timestamp=str(NOW_MS - 300_000)), NOW_MS, id="oldest"),
        pytest.param(signed(timestamp=str(NOW_MS + 300_000)), NOW_MS, id="clock ahead"),
        pytest.param(signed(timestamp=str(NOW_MS), nonce="n"), NOW_MS, id="shortest nonce"),
        pytest.param(signed(timestamp=str(NOW_MS), nonce="n" * 64), NOW_MS, id="longest nonce"),
        pytest.param(signed(timestamp=str(NOW_MS), nonce="0.12345678901234567890"), NOW_MS, id="nonce of a fraction"),
        pytest.param(signed(timestamp=str(NOW_MS), secret=PREVIOUS), NOW_MS, id="previous secret"),
        pytest.param(signed(timestamp=str(NOW_MS), secret=PREVIOUS), UNTIL_MS - 1, id="previous secret, last moment"),
    ],
)
def test_accepts(headers: dict[str, str], now_ms: int) -> None:
    verifier().verify(raw(headers), now_ms)


def test_plain_and_prefixed_names_may_be_mixed() -> None:
    plain = raw(signed(timestamp=str(NOW_MS)))
    mixed = {(b"rc-" + name if name in {b"nonce", b"signature"} else name): value for name, value in plain.items()}
    verifier().verify(mixed, NOW_MS)


GOOD = signed(timestamp=str(NOW_MS))


@pytest.mark.parametrize(
    ("headers", "now_ms", "says"),
    [
        pytest.param({}, NOW_MS, "App-Key", id="none"),
        *[
            pytest.param({k: v for k, v in GOOD.items() if k != name}, NOW_MS, name, id=f"no {name}")
            for name in ("App-Key", "Nonce", "Timestamp", "Signature")
        ],
        *[pytest.param(GOOD | {name: ""}, NOW_MS, name, id=f"empty {name}") for name in GOOD],
        pytest.param(signed(timestamp=str(NOW_MS), app_key="another"), NOW_MS, "verification", id="other app"),
        pytest.param(signed(timestamp=str(NOW_MS), secret="another"), NOW_MS, "verification", id="other secret"),
        pytest.param(GOOD | {"Nonce": "20261123"}, NOW_MS, "verification", id="other nonce"),
        pytest.param(GOOD | {"Timestamp": str(NOW_MS + 1)}, NOW_MS, "verification", id="other time"),
        pytest.param(GOOD | {"Signature": "0" * 40}, NOW_MS, "verification", id="other hash"),
        pytest.param(GOOD | {"Signature": GOOD["Signature"][:-1]}, NOW_MS, "verification", id="short hash"),
        pytest.param(GOOD | {"Signature": "é"}, NOW_MS, "verification", id="not ASCII"),
        pytest.param(signed(timestamp=str(NOW_MS), nonce="n" * 65), NOW_MS, "Nonce", id="long nonce"),
        pytest.param(signed(timestamp="0790000000000"), NOW_MS, "Timestamp", id="leading zero"),
        pytest.param(signed(timestamp="179000000"), NOW_MS, "Timestamp", id="9 digits"),
        pytest.param(signed(timestamp="17900000000000"), NOW_MS, "Timestamp", id="14 digits"),
        pytest.param(signed(timestamp="-1790000000000"), NOW_MS, "Timestamp", id="negative"),
        pytest.param(signed(timestamp="1790000000.5"), NOW_MS, "Timestamp", id="fraction"),
        pytest.param(signed(timestamp="١٧٩٠٠٠٠٠٠٠"), NOW_MS, "Timestamp", id="other digits"),
        pytest.param(signed(timestamp=str(NOW_MS - 300_001)), NOW_MS, "300 s", id="stale"),
        pytest.param(signed(timestamp=str(NOW_MS + 300_001)), NOW_MS, "300 s", id="from the future"),
        pytest.param(signed(timestamp=str(NOW_MS // 1000 - 301)), NOW_MS, "300 s", id="stale seconds"),
        pytest.param(
            signed(timestamp=str(UNTIL_MS), secret=PREVIOUS), UNTIL_MS, "verification", id="previous secret, too late"
        ),
    ],
)
def test_refuses(headers: dict[str, str], now_ms: int, says: str) -> None:
    with pytest.raises(Problem, match=says) as refusal:
        verifier().verify(raw(headers), now_ms)
    assert (refusal.value.code, refusal.value.status) == (SIGNATURE_INVALID, 401)


def test_a_window_of_zero_takes_any_time() -> None:
    verifier(window_s=0).verify(raw(signed(timestamp="1000000000000")), NOW_MS)


def test_the_clock_is_told_only_to_who_knows_the_secret() -> None:
    with pytest.raises(Problem, match="verification failed"):
        verifier().verify(raw(signed(timestamp="1000000000000", secret="a guess")), NOW_MS)


def test_without_a_cache_a_signature_is_good_for_the_window() -> None:
    signatures = verifier()
    for _ in range(2):
        signatures.verify(raw(GOOD), NOW_MS)


def test_tells_the_signature_in_one_spelling() -> None:
    spelled = raw(GOOD | {"Signature": GOOD["Signature"].upper()})
    assert verifier().verify(spelled, NOW_MS) == GOOD["Signature"]
