"""The app's own server, as seen from here: signed requests, a deadline each."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import NamedTuple
from urllib.parse import quote

import aiohttp
from yarl import URL

from gateway import __version__
from gateway.config import Credentials
from gateway.services.clock import Clock

ANSWER_BYTES_MAX = 1024 * 1024

CONNECTIONS_MAX = 256
"""Senders and checks have limits of their own; a request beyond this one waits, within its own time."""

AWAY_STATUSES = frozenset({429, 502, 503, 504})
"""What a proxy in front of a server that is away says, and one that wants to be left alone: no answer of the app's."""

NONCE_MAX = 10**18 - 1


class Answer(NamedTuple):
    """What was said."""

    status: int
    body: bytes


class Unanswered(Exception):
    """Nobody answered: not reached, too late, cut off, or a status that says so. Names no address."""


class Receiver:
    """Posts to the app's server.

    Args:
        credentials: signs every request.
        clock: time.
        timeout_s: for one request, from connecting to the answer's last byte.
    """

    def __init__(self, credentials: Credentials, clock: Clock, timeout_s: float) -> None:
        self._credentials = credentials
        self._clock = clock
        self._timeout_s = timeout_s
        # No proxies and no .netrc of the environment: secrets of the URL go where the URL says.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            trust_env=False,
            auto_decompress=False,
            headers={
                "Content-Type": "application/json; charset=utf-8",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": f"gateway/{__version__}",
                "App-Key": credentials.app_key,
            },
        )

    async def post(self, url: str, body: bytes) -> Answer:
        """One request, signed anew.

        Raises:
            Unanswered: No answer, within the time or at all.
        """
        nonce, timestamp = str(random.randint(1, NONCE_MAX)), str(self._clock.wall_ms())
        signed = f"{self._credentials.app_secret}{nonce}{timestamp}".encode()
        signature = hashlib.sha1(signed, usedforsecurity=False).hexdigest()
        key = quote(self._credentials.app_key, safe="")
        query = f"appKey={key}&nonce={nonce}&timestamp={timestamp}&signature={signature}"
        target = URL(f"{url}{'&' if '?' in url else '?'}{query}", encoded=True)
        headers = {"Nonce": nonce, "Timestamp": timestamp, "Signature": signature}
        try:
            async with self._session.post(target, data=body, headers=headers, allow_redirects=False) as response:
                answer = Answer(response.status, await _read(response))
        except TimeoutError:
            raise Unanswered(f"no answer within {self._timeout_s:g} s") from None
        except aiohttp.ClientSSLError:
            raise Unanswered("the certificate is not trusted, or TLS failed") from None
        except (aiohttp.ClientError, OSError) as error:
            # By its kind alone: what it says may quote the address, in which secrets may stand.
            raise Unanswered(type(error).__name__) from None
        if answer.status in AWAY_STATUSES:
            raise Unanswered(f"HTTP {answer.status}")
        return answer

    async def close(self) -> None:
        """Ends all connections."""
        await self._session.close()
        # Their ends are told in the next turn of the loop.
        await asyncio.sleep(0)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > ANSWER_BYTES_MAX:
            raise Unanswered("the answer is too long")
    return bytes(body)
