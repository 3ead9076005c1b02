"""One socket of a client: its opening, the frames in and out, and why it ended."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from gateway.client.backoff import status_comes_again
from gateway.client.errors import TooLarge, Unreadable
from gateway.protocol import PATH, SUBPROTOCOL
from gateway.protocol.codes import CLOSE_BY_CODE, Code

CLOSE_S = 2.0
"""How long the other side has to answer a close."""

FRAME_BYTES_MAX = 16 * 1024 * 1024
"""Of a frame that comes in; the longest are pages of lists and users' profiles."""

PONG_S = 10.0
"""Silence after a ping that makes a link dead."""

Fields = dict[str, Any]

_frames = logging.getLogger("gateway.client.frames")
# In its debug lines the library shows the handshake, and in it the token.
_frames.setLevel(logging.INFO)


class NotOpened(Exception):
    """An attempt failed.

    Attributes:
        close_code: the close code that says the same, None where nobody answered.
        status: the HTTP status of the refusal, None where there was none.
        said: the JSON of the refusal.
    """

    def __init__(
        self, reason: str, close_code: int | None = None, status: int | None = None, said: Fields | None = None
    ) -> None:
        super().__init__(reason)
        self.close_code = close_code
        self.status = status
        self.said = said or {"reason": reason}


class Broken(Exception):
    """The link ended before the answer came."""


class Ending(NamedTuple):
    """Why a link ended: the close code (1006 = without one) and the JSON that came with it."""

    close_code: int
    said: Fields


class Link:
    """An open socket that has had its welcome; ``run`` reads it to its end."""

    def __init__(self, socket: ClientConnection, welcome: Fields) -> None:
        self.welcome = welcome
        self._socket = socket
        self._asked: dict[str, asyncio.Future[Fields]] = {}
        self._over = asyncio.Event()
        self._count = 0
        self._frame_bytes_max: int = welcome["limits"]["frame_bytes_max"]

    async def run(
        self,
        take: Callable[[Fields], None],
        fault: Callable[[Exception], None],
        ended: Callable[[], None],
        heartbeat_s: float,
    ) -> Ending:
        """Hands every push to ``take`` until the link ends; what cannot be read is told to ``fault``.

        Args:
            ended: called before those who wait for answers are told.
            heartbeat_s: how often to ask whether the other side is still there.
        """
        beating = asyncio.create_task(self._beat(heartbeat_s))
        try:
            while True:
                data = await self._socket.recv(decode=False)
                try:
                    message = read(data)
                except Unreadable as error:
                    fault(error)
                    continue
                answered = self._asked.pop(message.get("id") or "", None)
                if answered is None:
                    try:
                        take(message)
                    except Exception as error:
                        # One push, by a newer gateway perhaps; the others are as good as before.
                        fault(error)
                elif not answered.done():
                    answered.set_result(message)
        except ConnectionClosed:
            return Ending(self._socket.close_code or 1006, said(self._socket.close_reason))
        finally:
            beating.cancel()
            ended()
            self._over.set()
            for answered in self._asked.values():
                if not answered.done():
                    answered.set_exception(Broken("the connection broke before the answer came"))
                    # Seen here, so that it is nobody's fault when who asked has given up.
                    answered.exception()
            self._asked.clear()

    async def ask(self, type_: str, fields: Mapping[str, Any], answer_s: float) -> Fields:
        """Sends a command and waits for its reply, `error` included.

        Raises:
            TooLarge: the command is over the gateway's limit; it was not sent.
            Broken: the link ended first.
            TimeoutError: no answer in ``answer_s``.
        """
        self._count += 1
        command_id = f"c{self._count}"
        frame = orjson.dumps({"type": type_, "id": command_id, **fields})
        if len(frame) > self._frame_bytes_max:
            raise TooLarge(Code.BODY_TOO_LARGE, f"the command is over {self._frame_bytes_max} bytes")
        answered: asyncio.Future[Fields] = asyncio.get_running_loop().create_future()
        self._asked[command_id] = answered
        try:
            async with asyncio.timeout(answer_s):
                await self._socket.send(frame, text=True)
                return await answered
        except ConnectionClosed:
            # The reader may not have noticed yet; who tries again at once must not find this link again.
            await self._over.wait()
            raise Broken("the connection broke before the answer came") from None
        finally:
            self._asked.pop(command_id, None)

    async def tell(self, type_: str, **fields: Any) -> None:
        """Sends a command that has no reply; where the link has ended, nothing."""
        with suppress(ConnectionClosed):
            await self._socket.send(orjson.dumps({"type": type_, **fields}), text=True)

    async def close(self) -> None:
        """Says goodbye."""
        await self._socket.close()

    def abort(self) -> None:
        """Ends the link now, without a goodbye."""
        self._socket.transport.abort()

    async def _beat(self, heartbeat_s: float) -> None:
        try:
            while True:
                await asyncio.sleep(heartbeat_s)
                async with asyncio.timeout(min(heartbeat_s, PONG_S)):
                    await (await self._socket.ping())
        except TimeoutError:
            self.abort()
        except ConnectionClosed:
            pass


async def open_link(url: str, token: str, *, tls: ssl.SSLContext | None, attempt_s: float) -> Link:
    """Opens a socket and waits for its welcome.

    Raises:
        NotOpened: nobody answered, or the gateway refused.
    """
    host = urlsplit(url).hostname or ""
    try:
        async with asyncio.timeout(attempt_s):
            socket = await connect(
                url,
                additional_headers={"Authorization": f"Bearer {token}"},
                subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
                compression=None,
                open_timeout=None,
                close_timeout=CLOSE_S,
                ping_interval=None,
                max_size=FRAME_BYTES_MAX,
                logger=_frames,
                # What runs on this machine is never behind the proxy of the environment.
                proxy=None if _is_loopback(host) else True,
                ssl=(tls or ssl.create_default_context()) if url.startswith("wss:") else None,
            )
            try:
                welcome = read(await socket.recv(decode=False))
            except BaseException:
                socket.transport.abort()
                raise
    except InvalidStatus as error:
        raise _refused(error) from error
    except ConnectionClosed as error:
        why = said(error.rcvd.reason if error.rcvd else None)
        raise NotOpened(
            why.get("reason") or "closed before the welcome", error.rcvd.code if error.rcvd else 1006, said=why
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise NotOpened(f"{host} is not trusted: {error.verify_message}") from error
    except (OSError, WebSocketException, TimeoutError, Unreadable) as error:
        raise NotOpened(_short(error)) from error
    if welcome.get("type") != "welcome":
        socket.transport.abort()
        raise NotOpened(f"the gateway began with {welcome.get('type')}")
    return Link(socket, welcome)


def address(url: str, **query: str | None) -> str:
    """The socket's URL for a gateway's; a path of its own stays (a gateway behind a prefix)."""
    parts = urlsplit(url)
    path = PATH if parts.path in ("", "/") else parts.path
    given = {name: value for name, value in query.items() if value is not None}
    return parts._replace(path=path, query=urlencode(given)).geturl()


def read(data: bytes) -> Fields:
    """One frame.

    Raises:
        Unreadable: not JSON, or no object.
    """
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError:
        # Bodies pass the gateway byte for byte: half a surrogate pair in one is no reason not to hand it over.
        try:
            message = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"a frame of {len(data)} bytes: {error}") from error
    if not isinstance(message, dict):
        raise Unreadable(f"a frame of {len(data)} bytes: no object")
    return message


def said(text: str | None) -> Fields:
    """The JSON of a close's reason or a refusal's body; text that is none as the ``reason``."""
    with suppress(orjson.JSONDecodeError):
        found = orjson.loads(text or "")
        if isinstance(found, dict):
            return found
    return {"reason": text or ""}


def _refused(error: InvalidStatus) -> NotOpened:
    status = error.response.status_code
    answer = said((error.response.body or b"").decode(errors="replace")[:1000])
    if "retry_after_ms" not in answer:
        with suppress(KeyError, ValueError):
            answer["retry_after_ms"] = int(error.response.headers["Retry-After"]) * 1000
    close = CLOSE_BY_CODE.get(answer.get("code", 0))
    if close is None and status != 403 and not status_comes_again(status):
        # Another server's port, the admin port say, or a proxy's own word.
        answer["reason"] = f"that is not a gateway's client port (HTTP status {status})"
    reason = answer.get("reason") or f"HTTP status {status}"
    return NotOpened(reason, close.code if close else None, status=status, said=answer)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _short(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
