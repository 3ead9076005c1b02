"""Access tokens: which key may sign, which claims must stand, what they mean at ``now``.

PyJWT checks signatures; its own time checks are off because it reads the wall clock itself, and ours take ``now``.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from hmac import compare_digest, digest
from typing import Any, Literal

import jwt
import msgspec
from msgspec import Struct

from gateway.core.close import Refusal
from gateway.protocol.codes import Code

TOKEN_ALGORITHM = "HS256"
"""What the gateway's own tokens are signed with."""

ISSUED_AT_MS = "iat_ms"
"""The issue time in milliseconds: ``iat`` counts seconds, too coarse to judge a token against a cut-off instant."""

HEADERS_MAX = 16
"""Token headers that are remembered as accepted; a deployment has one a key."""

SECONDS_MAX = 10**12
"""Times in tokens beyond it, some 30,000 years, are nonsense."""


class Claims(Struct, frozen=True):
    """What a valid token says.

    Attributes:
        user: the user id.
        issued_at: Unix ms.
        expires_at: Unix ms, None = never.
        jti: the token's id, "" when it has none.
        foreign: whether the app signed it itself.
    """

    user: str
    issued_at: int
    expires_at: int | None
    jti: str
    foreign: bool


class Key(Struct, frozen=True):
    """A key that may sign tokens, bound to its algorithms.

    Attributes:
        material: what PyJWT's algorithm object verifies with.
        algorithms: the only ones it may be used with (a public key is never tried as an HMAC secret).
        foreign: whether it is the app's key and not the gateway's own.
        kid: the key id it answers to; None = any.
        until: Unix ms after which it is no longer accepted; None = no end.
    """

    material: Any
    algorithms: frozenset[str]
    foreign: bool = False
    kid: str | None = None
    until: int | None = None


class Rules(Struct, frozen=True):
    """What tokens are held to.

    Attributes:
        audience: the app key: ``aud`` of the gateway's own tokens.
        foreign_audience: ``aud`` of the app's own tokens; None = the app key as well.
        foreign_issuer: their ``iss``; None = not checked.
        foreign_user_claim: which claim names the user.
        skew_ms: how far clocks may differ.
        token_bytes_max: longer ones are refused unread.
        user_pattern: what a user id looks like.
    """

    audience: str
    foreign_audience: str | None = None
    foreign_issuer: str | None = None
    foreign_user_claim: str = "sub"
    skew_ms: int = 5_000
    token_bytes_max: int = 4_096
    user_pattern: str = r"[A-Za-z0-9+=_.@-]{1,64}"


class Verifier:
    """Verifies tokens against a set of keys that may be exchanged while it runs (rotation, JWKS).

    Attributes:
        unknown_kids: how often a token named a key id that no key has: a sign that the app has rotated its keys.
    """

    def __init__(self, rules: Rules, keys: Iterable[Key]) -> None:
        self.rules = rules
        self.keys: tuple[Key, ...] = tuple(keys)
        self.unknown_kids = 0
        self._user = re.compile(rules.user_pattern).fullmatch
        # Encoded headers that the library has accepted a token under, with the key that had signed it.
        self._accepted: dict[str, tuple[Key, bytes]] = {}

    def verify(self, token: str, now_ms: int) -> Claims:
        """What a user's token says.

        Args:
            token: the compact JWS.
            now_ms: Unix ms.

        Raises:
            Refusal: 31004 malformed, wrong signature, wrong app or not yet valid; 31020 expired.
        """
        claims, foreign = self.signed(token, now_ms)
        return self._judge(claims, foreign, now_ms)

    def signed(self, token: str, now_ms: int) -> tuple[dict[str, Any], bool]:
        """The claims of a token that a key of this app has signed, and whether the key is the app's own.

        Raises:
            Refusal: 31004 malformed, or signed by nobody known.
        """
        if len(token) > self.rules.token_bytes_max:
            raise _invalid(f"the token is longer than {self.rules.token_bytes_max} bytes")
        again = self._signed_again(token, now_ms)
        if again is not None:
            return again
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise _invalid("the token is not a JSON Web Token") from error
        algorithm = header.get("alg")
        if not isinstance(algorithm, str):
            raise _invalid("the token names no algorithm (alg)")
        kid = header.get("kid")
        candidates = [
            key
            for key in self.keys
            if algorithm in key.algorithms
            and (key.kid is None or kid == key.kid)
            and (key.until is None or now_ms < key.until)
        ]
        if not candidates:
            self.unknown_kids += kid is not None
            raise _invalid("no key of this app signs with this algorithm and key id")
        for key in candidates:
            claims = self._signed_by(key, token, algorithm)
            if claims is not None:
                self._accept_again(token, algorithm, key)
                return claims, key.foreign
        raise _invalid("the token's signature does not match")

    def _accept_again(self, token: str, algorithm: str, key: Key) -> None:
        if algorithm == TOKEN_ALGORITHM and isinstance(key.material, str):
            if len(self._accepted) >= HEADERS_MAX:
                self._accepted.clear()
            self._accepted[token.partition(".")[0]] = (key, key.material.encode())

    def _signed_again(self, token: str, now_ms: int) -> tuple[dict[str, Any], bool] | None:
        """The same for a token under a header that was accepted before: what is left is its signature and its payload.

        The library examines key and header each time, which was a quarter of a login. Whatever does not stand here is
        the library's to judge: None.
        """
        header, _, _ = token.partition(".")
        known = self._accepted.get(header)
        if known is None or not token.isascii():
            return None
        key, secret = known
        if key not in self.keys or (key.until is not None and now_ms >= key.until):
            return None
        signed, _, signature = token.encode().rpartition(b".")
        if not compare_digest(urlsafe_b64encode(digest(secret, signed, "sha256")).rstrip(b"="), signature):
            return None
        payload = signed[len(header) + 1 :]
        try:
            decoded = urlsafe_b64decode(payload + b"==")
            claims = msgspec.json.decode(decoded)
        except (ValueError, RecursionError):
            return None
        # RFC 7515 section 2: neither padding, nor line breaks, nor other characters.
        if not isinstance(claims, dict) or urlsafe_b64encode(decoded).rstrip(b"=") != payload:
            return None
        return claims, key.foreign

    def _signed_by(self, key: Key, token: str, algorithm: str) -> dict[str, Any] | None:
        try:
            return jwt.decode(token, key.material, algorithms=[algorithm], options=_NO_CLAIM_CHECKS)
        except jwt.InvalidSignatureError:
            return None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise _invalid("the token is malformed") from error

    def _judge(self, claims: Mapping[str, Any], foreign: bool, now_ms: int) -> Claims:
        rules = self.rules
        audience = (rules.foreign_audience or rules.audience) if foreign else rules.audience
        check_audience(claims, audience)
        if foreign and rules.foreign_issuer is not None and claims.get("iss") != rules.foreign_issuer:
            raise _invalid("the token is from another issuer (iss)")
        user = claims.get(rules.foreign_user_claim if foreign else "sub")
        if not isinstance(user, str) or not self._user(user):
            raise _invalid("the token names no valid user")
        expires_at = milliseconds(claims, "exp")
        if expires_at is None and foreign:
            raise _invalid("the token has no expiry (exp)")
        issued_at = claims.get(ISSUED_AT_MS)
        if not isinstance(issued_at, int) or isinstance(issued_at, bool) or abs(issued_at) > SECONDS_MAX * 1000:
            issued_at = milliseconds(claims, "iat")
        if issued_at is None:
            raise _invalid("the token has no issue time (iat)")
        if issued_at > now_ms + rules.skew_ms:
            raise _invalid("the token is not valid yet (iat)")
        check_begun(claims, "nbf", now_ms + rules.skew_ms)
        if expires_at is not None and expires_at + rules.skew_ms * foreign <= now_ms:
            raise Refusal(Code.TOKEN_EXPIRED, "the token has expired")
        jti = claims.get("jti", "")
        if not isinstance(jti, str) or len(jti) > 128:
            raise _invalid("the token's id (jti) is not a short string")
        if not _encodes(user) or not _encodes(jti):
            raise _invalid("the token holds half a character")
        return Claims(user, issued_at, expires_at, jti, foreign)


_NO_CLAIM_CHECKS: Any = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


def sign(claims: Mapping[str, Any], secret: str) -> str:
    """Signs the gateway's own token."""
    return jwt.encode(dict(claims), secret, algorithm=TOKEN_ALGORITHM)


def _invalid(reason: str) -> Refusal:
    return Refusal(Code.TOKEN_INVALID, reason)


def _encodes(value: str) -> bool:
    """JSON may escape a lone surrogate, which no UTF-8 can hold: the store could not be sent it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_audience(claims: Mapping[str, Any], audience: str) -> None:
    """Raises Refusal 31004 where ``aud`` is or holds something else."""
    stated = claims.get("aud")
    if audience not in (stated if isinstance(stated, list) else [stated]):
        raise _invalid("the token is for another app (aud)")


def check_begun(claims: Mapping[str, Any], name: Literal["iat", "nbf"], now_ms: int) -> None:
    """Raises Refusal 31004 where a time that is stated is yet to come."""
    begins_at = milliseconds(claims, name)
    if begins_at is not None and begins_at > now_ms:
        raise _invalid(f"the token is not valid yet ({name})")


def milliseconds(claims: Mapping[str, Any], name: Literal["exp", "iat", "nbf"]) -> int | None:
    """A time in a token as Unix ms; None where it is not there. Raises Refusal 31004 where it is no time."""
    value = claims.get(name)
    if value is None:
        return None
    # Written so that NaN fails it too; a JSON integer may be too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= SECONDS_MAX:
        raise _invalid(f"the token's {name} is not a time in seconds")
    return int(value * 1000)
