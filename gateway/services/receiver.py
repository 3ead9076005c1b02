"""The app's own server, as seen from here: signed requests, a deadline each, answers of bounded size."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import NamedTuple

import httpx

from gateway import __version__
from gateway.config import Credentials
from gateway.services.clock import Clock

ANSWER_BYTES_MAX = 1024 * 1024
"""Of an answer; a body that replaces a message's may be that long."""

AWAY_STATUSES = frozenset({429, 502, 503, 504})
"""What a proxy in front of a server that is away says, and one that wants to be left alone: no answer of the app's."""

NONCE_MAX = 10**18 - 1

_HEADERS = {
    "Content-Type": "application/json; charset=utf-8",
    "Accept": "application/json",
    "User-Agent": f"gateway/{__version__}",
}


class Unanswered(Exception):
    """Nobody answered: not reached, too late, cut off, or a status that says so. Names no URL."""


class Answer(NamedTuple):
    """What the app's server said."""

    status: int
    body: bytes


class Receiver:
    """Posts to the app's server.

    Args:
        credentials: signs every request.
        clock: time.
        timeout_s: for one request, from connecting to the answer's last byte.
        connections_max: requests under way at the same time.
    """

    def __init__(self, credentials: Credentials, clock: Clock, timeout_s: float, connections_max: int) -> None:
        self._credentials = credentials
        self._clock = clock
        self._timeout_s = timeout_s
        # Certificates are verified, redirects are not followed: a signature is for the configured server only.
        self._client = httpx.AsyncClient(
            timeout=None,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=connections_max, max_keepalive_connections=connections_max),
            headers=_HEADERS,
        )

    async def post(self, url: str, body: bytes) -> Answer:
        """One request, signed anew.

        Raises:
            Unanswered: No answer, within the time or at all.
        """
        signature = self._sign()
        target = httpx.URL(url).copy_merge_params(signature)
        headers = {"App-Key": signature["appKey"], **signature}
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._client.stream("POST", target, content=body, headers=headers) as response:
                    answer = Answer(response.status_code, await _read(response))
        except TimeoutError:
            raise Unanswered(f"no answer within {self._timeout_s:g} s") from None
        except httpx.HTTPError as error:
            # By its kind alone: what it says may quote the URL, in which a password may stand.
            raise Unanswered(type(error).__name__) from None
        if answer.status in AWAY_STATUSES:
            raise Unanswered(f"HTTP {answer.status}")
        return answer

    def _sign(self) -> dict[str, str]:
        nonce, timestamp = str(random.randint(1, NONCE_MAX)), str(self._clock.wall_ms())
        signed = f"{self._credentials.app_secret}{nonce}{timestamp}".encode()
        return {
            "appKey": self._credentials.app_key,
            "nonce": nonce,
            "timestamp": timestamp,
            "signature": hashlib.sha1(signed, usedforsecurity=False).hexdigest(),
        }

    async def close(self) -> None:
        await self._client.aclose()


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > ANSWER_BYTES_MAX:
            raise httpx.ReadError("the answer is too long")
    return bytes(body)
