"""The app's own server, as seen from here: signed requests, a deadline each."""

from __future__ import annotations

import asyncio
import hashlib
import random
from urllib.parse import quote

from gateway import __version__
from gateway.config import Credentials
from gateway.services.clock import Clock
from gateway.services.posting import Address, Answer, Broken, Poster

AWAY_STATUSES = frozenset({429, 502, 503, 504})
"""What a proxy in front of a server that is away says, and one that wants to be left alone: no answer of the app's."""

NONCE_MAX = 10**18 - 1


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
        self._poster = Poster()
        self._addresses: dict[str, Address] = {}
        self._headers = (
            "Content-Type: application/json; charset=utf-8\r\n"
            "Accept: application/json\r\n"
            f"User-Agent: gateway/{__version__}\r\n"
            f"App-Key: {credentials.app_key}\r\n"
        )

    async def post(self, url: str, body: bytes) -> Answer:
        """One request, signed anew.

        Raises:
            Unanswered: No answer, within the time or at all.
        """
        address = self._addresses.get(url)
        if address is None:
            address = self._addresses[url] = Address.of(url)
        nonce, timestamp = str(random.randint(1, NONCE_MAX)), str(self._clock.wall_ms())
        signed = f"{self._credentials.app_secret}{nonce}{timestamp}".encode()
        signature = hashlib.sha1(signed, usedforsecurity=False).hexdigest()
        key = quote(self._credentials.app_key, safe="")
        query = f"appKey={key}&nonce={nonce}&timestamp={timestamp}&signature={signature}"
        headers = f"{self._headers}Nonce: {nonce}\r\nTimestamp: {timestamp}\r\nSignature: {signature}\r\n"
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._poster.post(address, query, headers, body)
        except TimeoutError:
            raise Unanswered(f"no answer within {self._timeout_s:g} s") from None
        except Broken as error:
            raise Unanswered(str(error)) from None
        except OSError as error:
            # By its kind alone: what it says may quote the address, in which secrets may stand.
            raise Unanswered(type(error).__name__) from None
        if answer.status in AWAY_STATUSES:
            raise Unanswered(f"HTTP {answer.status}")
        return answer

    async def close(self) -> None:
        """Ends all connections."""
        self._poster.close()
        # Their ends are told in the next turn of the loop.
        await asyncio.sleep(0)
