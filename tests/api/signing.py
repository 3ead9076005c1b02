"""Signing as the client libraries do it."""

from __future__ import annotations

import hashlib
import time

from tests.nodes import CREDENTIALS


def signed(
    *,
    app_key: str = CREDENTIALS.app_key,
    secret: str = CREDENTIALS.app_secret,
    nonce: str = "20261122",
    timestamp: str | None = None,
    prefix: str = "",
) -> dict[str, str]:
    """The four headers."""
    stated = str(int(time.time() * 1000)) if timestamp is None else timestamp
    signature = hashlib.sha1(f"{secret}{nonce}{stated}".encode()).hexdigest()
    named = {"App-Key": app_key, "Nonce": nonce, "Timestamp": stated, "Signature": signature}
    return {prefix + name: value for name, value in named.items()}
