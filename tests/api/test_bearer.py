from __future__ import annotations

from typing import Any

import jwt
import pytest

from gateway.api.bearer import AdminTokens
from gateway.api.errors import SIGNATURE_INVALID, Problem
from gateway.config import Secret
from tests.nodes import CREDENTIALS

NOW_MS = 1_790_000_000_000
NOW_S = NOW_MS // 1000
PREVIOUS = "the-secret-before-0123456789abcd"
CLAIMS: dict[str, Any] = {
    "sub": "ops",
    "aud": f"{CREDENTIALS.app_key}/admin",
    "iat": NOW_S,
    "exp": NOW_S + 60,
    "scope": "read write kick",
}
UNSIGNED = "eyJhbGciOiJub25lIn0"


def admin_tokens() -> AdminTokens:
    secrets = (Secret(CREDENTIALS.app_secret), Secret(PREVIOUS, NOW_MS + 1000))
    return AdminTokens(CREDENTIALS.app_key, secrets, skew_ms=5000, token_bytes_max=4096)


def token(secret: str = CREDENTIALS.app_secret, algorithm: str = "HS256", **claims: Any) -> str:
    chosen = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    return jwt.encode(chosen, secret, algorithm=algorithm)


@pytest.mark.parametrize(
    ("scope", "granted"),
    [("read", {"read"}), ("kick read", {"kick", "read"}), ("read write kick fly", {"read", "write", "kick"})],
)
def test_grants_the_scopes_it_names(scope: str, granted: set[str]) -> None:
    assert admin_tokens().verify(token(scope=scope), NOW_MS) == granted


def test_needs_no_more_than_the_documents_say() -> None:
    assert admin_tokens().verify(token(sub=None, iat=None, scope="read"), NOW_MS) == {"read"}


def test_the_previous_secret_counts_until_its_day() -> None:
    old = token(secret=PREVIOUS)
    assert admin_tokens().verify(old, NOW_MS + 999)
    with pytest.raises(Problem):
        admin_tokens().verify(old, NOW_MS + 1000)


@pytest.mark.parametrize(
    ("bearer", "now_ms"),
    [
        pytest.param("", NOW_MS, id="empty"),
        pytest.param("garbage" * 1500, NOW_MS, id="10 KB of garbage"),
        pytest.param("a.b.c", NOW_MS, id="no JSON"),
        pytest.param(token(secret="another-secret-another-secret-ab"), NOW_MS, id="other secret"),
        pytest.param(token(algorithm="HS512", secret=CREDENTIALS.app_secret * 2), NOW_MS, id="other algorithm"),
        pytest.param(f"{UNSIGNED}.{token().split('.')[1]}.", NOW_MS, id="alg none"),
        pytest.param(token(aud=CREDENTIALS.app_key), NOW_MS, id="a user's token"),
        pytest.param(token(aud="another/admin"), NOW_MS, id="other app"),
        pytest.param(token(aud=None), NOW_MS, id="no audience"),
        pytest.param(token(exp=None), NOW_MS, id="no expiry"),
        pytest.param(token(exp="tomorrow"), NOW_MS, id="expiry is no time"),
        pytest.param(token(), NOW_MS + 60_000, id="expired"),
        pytest.param(token(iat=NOW_S + 6), NOW_MS, id="not yet issued"),
        pytest.param(token(nbf=NOW_S + 6), NOW_MS, id="not yet valid"),
        pytest.param(token(scope=None), NOW_MS, id="no scope"),
        pytest.param(token(scope="fly"), NOW_MS, id="unknown scope"),
        pytest.param(token(scope=["read"]), NOW_MS, id="scope is no string"),
    ],
)
def test_refuses(bearer: str, now_ms: int) -> None:
    with pytest.raises(Problem) as refusal:
        admin_tokens().verify(bearer, now_ms)
    assert (refusal.value.code, refusal.value.status) == (SIGNATURE_INVALID, 401)
    assert refusal.value.headers["WWW-Authenticate"] == "Bearer"
