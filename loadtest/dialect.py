"""How a server is spoken to: what goes into the frames. The gateway's dialect; those of peers are beside them."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import quote, urlsplit

import orjson

from loadtest import stamp
from loadtest.wire import Wire, frame, request


class Dialect(Protocol):
    """One for all wires of a process; what it has to remember of a wire it keeps in ``wire.kept``."""

    def opening(self, wire: Wire) -> bytes:
        """The opening handshake's request; ``wire.user`` says who comes, ``wire.device`` which of its devices."""
        ...

    def opened(self, wire: Wire) -> None:
        """The handshake is through: say who you are, where the handshake did not."""
        ...

    def message(self, to: str, body: bytes, id: bytes, *, ephemeral: bool = False) -> bytes:
        """A message's payload: holds ``id`` and, behind it, ``body``, each once and as they are."""
        ...

    def received(self, wire: Wire, payload: bytes) -> None:
        """A message of the server came; tells ``wire.crowd`` what it means.

        That is one of ``welcomed(wire)``, ``sent(wire, id)``, ``refused(wire, id, code, reason)``,
        ``delivered(wire, stream, n, at_us)`` (of ``stamp.read``), ``pushed(wire, payload)``.
        """
        ...

    def block(self, wire: Wire, users: list[str]) -> bytes | None:
        """What puts users on the wire's user's blocklist, with id "lists"; None = no such thing."""
        ...

    def ack(self, wire: Wire) -> bytes | None:
        """What says that everything so far was taken over; None = no such thing."""
        ...


PLATFORMS = ("other", "ios", "android", "web", "desktop", "mini")


class GatewayDialect:
    """The gateway's own protocol (subprotocol gateway.v1), the token in the header."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._path = parts.netloc, parts.path or "/v1/connect"
        # By stream, how its pushes name the sender.
        self._named: dict[bytes, bytes] = {}

    def opening(self, wire: Wire) -> bytes:
        since = wire.user.since[wire.device]
        # By default a newer session of the same class of platforms takes over.
        query = f"?device=d{wire.device}&platform={PLATFORMS[wire.device]}" + (
            f"&since={quote(since)}" if since else ""
        )
        return request(
            self._host,
            self._path + query,
            f"Authorization: Bearer {wire.user.token}",
            "Sec-WebSocket-Protocol: gateway.v1",
        )

    def opened(self, wire: Wire) -> None:
        pass

    def message(self, to: str, body: bytes, id: bytes, *, ephemeral: bool = False) -> bytes:
        extra = b'"ephemeral":true,' if ephemeral else b""
        return b'{"type":"send","id":"%b","to":"%b",%b"body":%b}' % (id, to.encode(), extra, body)

    def received(self, wire: Wire, payload: bytes) -> None:
        # `{"type":"message"` and `{"type":"sent"`: told apart by one byte each.
        kind = payload[9:13]
        if kind == b"mess":
            stamped = stamp.read(payload)
            if stamped is None:
                wire.crowd.pushed(wire, payload)
                return
            if payload[18:25] == b'"cursor':
                wire.cursor = payload
            stream = stamped[0]
            named = self._named.get(stream)
            if named is None:
                named = self._named[stream] = b'"from":"%b"' % stamp.sender(stream)
            # For every message: ``in`` takes half as long again.
            if payload.find(named) < 0:
                wire.crowd.misnamed(wire, stream, stamped[1])
            wire.crowd.delivered(wire, *stamped)
        elif kind == b"sent":
            wire.crowd.sent(wire, int(payload[21:29]), online=b'"online":true' in payload)
        elif kind == b"welc":
            said = orjson.loads(payload)
            if not said.get("recovered", True):
                self._from(wire, said["cursor"])
            wire.user.since[wire.device] = wire.user.since[wire.device] or said["cursor"]
            wire.crowd.welcomed(wire)
        elif kind == b"erro":
            said = orjson.loads(payload)
            number = str(said.get("id", ""))
            if number.isdigit():
                wire.crowd.refused(wire, int(number), said["code"], said["reason"])
            else:
                wire.crowd.pushed(wire, payload)
        elif kind == b"resy":
            self._from(wire, orjson.loads(payload)["cursor"])
        else:
            wire.crowd.pushed(wire, payload)

    def _from(self, wire: Wire, place: str) -> None:
        """The inbox goes on in another epoch: what was not acked comes again, which is promised and no fault."""
        wire.repeated = {}
        wire.came_us = wire.crowd.now
        wire.user.since[wire.device], wire.cursor = place, b""

    def block(self, wire: Wire, users: list[str]) -> bytes | None:
        return frame(orjson.dumps({"type": "blocklist.add", "id": "lists", "users": users}))

    def ack(self, wire: Wire) -> bytes | None:
        place = cursor(wire.cursor)
        return frame(b'{"type":"ack","cursor":"%b"}' % place) if place else None


def cursor(push: bytes) -> bytes:
    """The place in the inbox of a message push; empty where it has none."""
    parts = push.split(b'"', 8)
    return parts[7] if len(parts) > 8 and parts[5] == b"cursor" else b""


POLICY = frozenset({405, 407, 20106, 20113, 21501, 25469})
"""Codes that say that policy refused a message."""
