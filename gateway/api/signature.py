"""The signature of section 1 of the Server API: who may call at all.

``Signature`` is the lower-case hex SHA-1 of app secret + nonce + timestamp. It covers neither path nor body: that is
the vendor's design, which is why the admin port listens on loopback unless told otherwise and why ``bearer.py`` exists.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

from gateway.api.errors import SIGNATURE_INVALID, Problem
from gateway.config import Secret

HEADERS = ("app-key", "nonce", "timestamp", "signature")
"""Lower-case; each may also come as ``rc-…``, for proxies that drop the plain names."""

NONCE_LENGTH_MAX = 64
SECONDS_BELOW = 10**11
"""A timestamp below this counts seconds (older client libraries), from here on milliseconds."""

_TIMESTAMP = re.compile(rb"[1-9][0-9]{9,12}").fullmatch


class Signatures:
    """Verifies signed requests for one app.

    Args:
        app_key: the one app key there is.
        secrets: the present secret first, then those that rotation left valid until a date.
        window_s: how far a timestamp may be from now, either way; 0 = not checked.
    """

    def __init__(self, app_key: str, secrets: tuple[Secret, ...], window_s: float) -> None:
        self._app_key = app_key.encode()
        self._secrets = secrets
        self._window_ms = int(window_s * 1000)

    def verify(self, headers: Mapping[bytes, bytes], now_ms: int) -> str:
        """Returns the signature (40 lower-case hex digits) when it is by a secret of this app, now.

        Args:
            headers: of the request, names in lower case.
            now_ms: Unix ms.

        Raises:
            Problem: 1004 for whatever fails.
        """
        app_key, nonce, timestamp, signature = (_header(headers, name) for name in HEADERS)
        if not 1 <= len(nonce) <= NONCE_LENGTH_MAX:
            raise _failed(f"Nonce must have 1 to {NONCE_LENGTH_MAX} characters")
        if not _TIMESTAMP(timestamp):
            raise _failed("Timestamp must be a Unix time of 10 to 13 digits")
        # All is computed and compared whatever came before, so that time tells nothing about which part is wrong.
        matched = hmac.compare_digest(app_key, self._app_key)
        signed = False
        for secret in self._secrets:
            expected = (
                hashlib.sha1(secret.value.encode() + nonce + timestamp, usedforsecurity=False).hexdigest().encode()
            )
            signed |= hmac.compare_digest(signature.lower(), expected) and secret.valid(now_ms)
        if not (matched and signed):
            raise _failed("signature verification failed")
        # Only somebody who knows the secret gets this far, so only they learn about the clock.
        self._check_time(int(timestamp), now_ms)
        return signature.lower().decode()

    def _check_time(self, timestamp: int, now_ms: int) -> None:
        stated_ms = timestamp * 1000 if timestamp < SECONDS_BELOW else timestamp
        if self._window_ms and abs(now_ms - stated_ms) > self._window_ms:
            raise _failed(f"Timestamp is more than {self._window_ms // 1000} s away from the server's clock")


def _header(headers: Mapping[bytes, bytes], name: str) -> bytes:
    value = headers.get(name.encode()) or headers.get(b"rc-" + name.encode())
    if not value:
        raise _failed(f"header {name.title()} is missing")
    return value


def _failed(message: str) -> Problem:
    return Problem(SIGNATURE_INVALID, message)
