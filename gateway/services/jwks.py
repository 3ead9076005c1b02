"""The app's own public keys, fetched in the background from a JWKS URL."""

from __future__ import annotations

import asyncio
import time

import httpx
import jwt
import orjson
import structlog

from gateway.core.claims import Key, Verifier

log = structlog.get_logger(__name__)

BYTES_MAX = 256 * 1024
TIMEOUT_S = 5.0
REFRESH_S = 300.0
"""How often keys are fetched when nothing asks for it; also the longest a retired key may still be accepted."""


class Jwks:
    """Keeps a verifier's keys as a JWKS URL has them.

    An unknown key id is refused at once; it only wakes the next fetch, which is never sooner than ``least_s`` after
    the last one, so that strangers cannot make the gateway fetch.
    """

    def __init__(self, verifier: Verifier, url: str, algorithms: frozenset[str], least_s: float) -> None:
        self._verifier = verifier
        self._url = url
        self._algorithms = algorithms
        self._least_s = least_s
        self._fixed = verifier.keys
        self.fault: str | None = "the keys have not been fetched yet"

    async def run(self) -> None:
        """Fetches for ever; a failed fetch leaves the last good keys."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client:
            while True:
                wait = max(self._least_s, REFRESH_S)
                try:
                    await self.fetch(client)
                except (httpx.HTTPError, ValueError) as error:
                    self.fault = str(error) or type(error).__name__
                    log.warning("the app's keys could not be fetched", url=self._url, reason=self.fault)
                    wait = self._least_s
                started = time.monotonic()
                known = self._verifier.unknown_kids
                while time.monotonic() - started < wait:
                    await asyncio.sleep(1.0)
                    if self._verifier.unknown_kids != known and time.monotonic() - started >= self._least_s:
                        break

    async def fetch(self, client: httpx.AsyncClient) -> None:
        """One fetch. Raises httpx.HTTPError, or ValueError where the answer is no usable JWKS."""
        body = bytearray()
        async with client.stream("GET", self._url) as response:
            response.raise_for_status()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > BYTES_MAX:
                    raise ValueError(f"the JWKS is larger than {BYTES_MAX} bytes")
        listed = orjson.loads(body)
        if not isinstance(listed, dict) or not isinstance(listed.get("keys"), list):
            raise ValueError("the JWKS is not a JSON object with a list of keys")
        keys = (_key(each, self._algorithms) for each in listed["keys"])
        usable = tuple(key for key in keys if key is not None)
        if not usable:
            raise ValueError("the JWKS has no key for the configured algorithms")
        self._verifier.keys = (*self._fixed, *usable)
        self.fault = None


def _key(each: object, algorithms: frozenset[str]) -> Key | None:
    """One entry of the set; None where it is none that may sign here, or none that can be understood."""
    if not isinstance(each, dict):
        return None
    try:
        parsed = jwt.PyJWK(each)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, LookupError):
        return None
    # A key serves the one algorithm it names (or its type implies), and never as an HMAC secret.
    if parsed.algorithm_name not in algorithms or parsed.algorithm_name.startswith("HS"):
        return None
    if parsed.public_key_use not in (None, "sig"):
        return None
    return Key(parsed.key, frozenset({parsed.algorithm_name}), foreign=True, kid=parsed.key_id)
