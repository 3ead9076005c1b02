"""The protocol half of `gateway connect`: one user's socket, kept up; what is asked and what is answered."""

from __future__ import annotations

import asyncio
import random
import ssl
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from gateway.config.rules import is_loopback
from gateway.protocol import PATH, SUBPROTOCOL
from gateway.protocol.codes import Code

ANSWER_WAIT_S = 10.0
BACKOFF_S = 0.5
BACKOFF_MAX_S = 20.0
STOP_FROM = 4500
"""Close codes from here on: reconnecting cannot help without a person or a new token."""

REMEMBERED = 1000
"""Message ids kept to recognise what a resume brings twice."""

Answer = dict[str, Any]
Tell = Callable[[Answer], None]


class Ended(Exception):
    """The conversation is over.

    Attributes:
        code: the close code or, before the upgrade, the HTTP status.
        reason: what the gateway said: `code`, `reason`, `until`.
    """

    def __init__(self, code: int, reason: Answer) -> None:
        super().__init__(f"{code}: {reason.get('reason', '')}")
        self.code = code
        self.reason = reason


class Unreachable(Exception):
    """Nobody answers there."""


class Unanswered(Exception):
    """A command got no answer: not connected, or too late."""


class Peer(NamedTuple):
    """Where to connect, and as what.

    Attributes:
        url: of the client port, with or without the socket path.
        token: gives an access token, asked before every connect.
        device: the device id, under which acks are kept.
        tls: for wss.
    """

    url: str
    token: Callable[[], Awaitable[str]]
    device: str
    tls: ssl.SSLContext | None = None


class Conversation:
    """A user's socket. Pushes go to ``on_push``, changes of the connection to ``on_state``.

    Args:
        peer: where to.
        on_push: gets every push, a message once.
        on_state: gets a sentence.
    """

    def __init__(self, peer: Peer, on_push: Tell, on_state: Callable[[str], None]) -> None:
        self._peer = peer
        self._on_push = on_push
        self._on_state = on_state
        self._socket: ClientConnection | None = None
        self._live = asyncio.Event()
        self._welcomed = asyncio.Event()
        self._asked: dict[str, asyncio.Future[Answer]] = {}
        self._asked_count = 0
        self._cursor: str | None = None
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._not_before_s = 0.0

    async def run(self) -> None:
        """Connects, and reconnects with full-jitter back-off, until there is no point in it.

        Raises:
            Ended: refused or closed for good.
            Unreachable: nobody answered the first time.
        """
        failures = 0
        while True:
            try:
                why = await self._connected_once()
                failures = 0
            except Unreachable as error:
                if self._cursor is None and not failures:
                    raise
                why = str(error)
            wait = max(random.uniform(0, min(BACKOFF_MAX_S, BACKOFF_S * 2**failures)), self._not_before_s)
            self._not_before_s = 0.0
            failures += 1
            self._on_state(f"{why}; connecting again in {wait:.1f} s")
            await asyncio.sleep(wait)

    async def ask(self, type_: str, **fields: Any) -> Answer:
        """Sends a command and waits for its reply, `ok`, `sent` or `error`.

        Raises:
            Unanswered: no connection, or no answer in time.
        """
        self._asked_count += 1
        command_id = f"c{self._asked_count}"
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ANSWER_WAIT_S):
                await self._live.wait()
                self._asked[command_id] = answered
                assert self._socket is not None
                await self._socket.send(orjson.dumps({"type": type_, "id": command_id, **fields}).decode())
                return await answered
        except TimeoutError:
            raise Unanswered("no answer in time") from None
        except ConnectionClosed:
            raise Unanswered("the connection broke before the answer came") from None
        finally:
            self._asked.pop(command_id, None)

    async def send(self, to: str, body: Any) -> Answer:
        """Sends a direct message; where the outcome is unknown, once more with the same key.

        Raises:
            Unanswered: still unknown.
        """
        fields = {"to": to, "body": body, "key": uuid.uuid4().hex}
        with suppress(Unanswered):
            answer = await self.ask("send", **fields)
            if answer.get("code") != Code.OUTCOME_UNKNOWN:
                return answer
        return await self.ask("send", **fields, retry=True)

    async def welcomed(self) -> None:
        """Waits for the first welcome; where it never comes, ``run`` says why."""
        await self._welcomed.wait()

    async def close(self) -> None:
        """Says goodbye."""
        if self._socket is not None:
            await self._socket.close()

    async def _connected_once(self) -> str:
        """One connection from beginning to end; returns why it ended, where it makes sense to come again."""
        socket = await self._open()
        self._socket = socket
        try:
            async for text in socket:
                await self._received(orjson.loads(text))
        except ConnectionClosed:
            pass
        finally:
            self._live.clear()
            for answered in self._asked.values():
                if not answered.done():
                    answered.set_exception(Unanswered("the connection broke before the answer came"))
        code, reason = socket.close_code or 1006, _reason_of(socket.close_reason)
        if code >= STOP_FROM or code in (1000, 1002, 1003, 1007, 1009):
            raise Ended(code, reason)
        self._not_before_s = max(self._not_before_s, reason.get("retry_after_ms", 0) / 1000)
        return reason.get("reason") or f"the connection broke ({code})"

    async def _open(self) -> ClientConnection:
        token = await self._peer.token()
        url = address(self._peer.url, self._peer.device, self._cursor)
        host = urlsplit(url).hostname or ""
        try:
            return await connect(
                url,
                additional_headers={"Authorization": f"Bearer {token}"},
                subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
                compression=None,
                open_timeout=ANSWER_WAIT_S,
                close_timeout=2,
                max_size=None,
                # What runs on this machine is never behind the proxy of the environment.
                proxy=None if is_loopback(host) else True,
                ssl=(self._peer.tls or ssl.create_default_context()) if url.startswith("wss:") else None,
            )
        except InvalidStatus as error:
            status, reason = (
                error.response.status_code,
                _reason_of((error.response.body or b"").decode(errors="replace")),
            )
            if status not in (429, 503):
                raise Ended(status, reason) from error
            self._not_before_s = reason.get("retry_after_ms", 1000) / 1000
            raise Unreachable(reason.get("reason", f"HTTP status {status}")) from error
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(f"{self._peer.url} is not trusted: {error.verify_message}") from error
        except (OSError, InvalidHandshake, TimeoutError) as error:
            raise Unreachable(
                f"nobody answers at {self._peer.url} ({_short(error)}): is the gateway running?"
            ) from error

    async def _received(self, message: Answer) -> None:
        answered = self._asked.get(message.get("id") or "")
        if answered is not None and not answered.done():
            answered.set_result(message)
            return
        kind = message.get("type")
        if kind == "message":
            await self._message(message)
            return
        if kind == "welcome":
            # `since` where it was honoured, else what holds instead.
            self._cursor = message["cursor"]
            self._on_push(message)
            self._live.set()
            self._welcomed.set()
            return
        if kind == "going_away":
            self._not_before_s = message["reconnect_after_ms"] / 1000
        self._on_push(message)
        if kind in ("recalled", "updated"):
            await self._ack(message["cursor"])

    async def _message(self, message: Answer) -> None:
        # A resume may bring again what was already shown.
        if message["mid"] not in self._seen:
            self._seen[message["mid"]] = None
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
            self._on_push(message)
        await self._ack(message.get("cursor"))

    async def _ack(self, cursor: str | None) -> None:
        if cursor is not None and self._socket is not None:
            self._cursor = cursor
            await self._socket.send(orjson.dumps({"type": "ack", "cursor": cursor}).decode())


def address(url: str, device: str, since: str | None) -> str:
    """The socket's URL for a gateway's."""
    parts = urlsplit(url)
    path = PATH if parts.path in ("", "/") else parts.path
    query: Mapping[str, str] = {"platform": "desktop", "device": device} | ({"since": since} if since else {})
    return parts._replace(path=path, query=urlencode(query)).geturl()


def _reason_of(text: str | None) -> Answer:
    with suppress(orjson.JSONDecodeError):
        found = orjson.loads(text or "")
        if isinstance(found, dict):
            return found
    return {"reason": text or ""}


def _short(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ssl.SSLError):
        return getattr(error, "verify_message", None) or error.reason or str(error)
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
