"""Admin tokens: ``Authorization: Bearer …`` in place of a signature.

A JSON Web Token by the app secret whose ``aud`` is ``<app key>/admin`` (so a user's token is never one), with an
expiry and ``scope``: the words ``read``, ``write`` and ``kick``, separated by spaces. It needs to name nobody.
"""

from __future__ import annotations

from gateway.api.errors import SIGNATURE_INVALID, Problem
from gateway.config import Secret
from gateway.core.claims import (
    TOKEN_ALGORITHM,
    Key,
    Rules,
    Verifier,
    check_audience,
    check_begun,
    milliseconds,
)
from gateway.core.close import Refusal

READ = "read"
WRITE = "write"
KICK = "kick"
SCOPES = frozenset({READ, WRITE, KICK})


def admin_audience(app_key: str) -> str:
    """``aud`` of an admin token."""
    return f"{app_key}/admin"


class AdminTokens:
    """Verifies admin tokens.

    Args:
        app_key: the app key.
        secrets: as for ``Signatures``.
        skew_ms: how far clocks may differ.
        token_bytes_max: longer ones are refused unread.
    """

    def __init__(self, app_key: str, secrets: tuple[Secret, ...], skew_ms: int, token_bytes_max: int) -> None:
        rules = Rules(admin_audience(app_key), skew_ms=skew_ms, token_bytes_max=token_bytes_max)
        algorithms = frozenset({TOKEN_ALGORITHM})
        self._verifier = Verifier(rules, [Key(secret.value, algorithms, until=secret.until_ms) for secret in secrets])

    def verify(self, token: str, now_ms: int) -> frozenset[str]:
        """What the bearer may do.

        Args:
            token: the compact JWS.
            now_ms: Unix ms.

        Raises:
            Problem: 1004 for whatever fails.
        """
        rules = self._verifier.rules
        try:
            claims, _ = self._verifier.signed(token, now_ms)
            check_audience(claims, rules.audience)
            check_begun(claims, "iat", now_ms + rules.skew_ms)
            check_begun(claims, "nbf", now_ms + rules.skew_ms)
            expires_at = milliseconds(claims, "exp")
        except Refusal as refusal:
            raise _failed(refusal.reason) from refusal
        if expires_at is None:
            raise _failed("an admin token must expire (exp)")
        if expires_at <= now_ms:
            raise _failed("the token has expired")
        scope = claims.get("scope")
        granted = SCOPES.intersection(scope.split()) if isinstance(scope, str) else frozenset()
        if not granted:
            raise _failed("the token has no scope of read, write, kick")
        return granted


def _failed(message: str) -> Problem:
    return Problem(SIGNATURE_INVALID, message, {"WWW-Authenticate": "Bearer"})
