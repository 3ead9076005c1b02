"""How peers are spoken to. Each signs its own token: who comes is checked everywhere but in the bare relay."""

from __future__ import annotations

import base64
import time
from typing import Any
from urllib.parse import urlsplit

import jwt

from loadtest import stamp
from loadtest.peers.ejabberd import HOST
from loadtest.peers.peer import SECRET
from loadtest.wire import Wire, frame, request

TOKEN_S = 86_400


def token(user: str, **claims: Any) -> str:
    """What a peer accepts as this user's."""
    return jwt.encode({"sub": user, "exp": int(time.time()) + TOKEN_S, **claims}, SECRET, algorithm="HS256")


class _Peer:
    """What peers have in common: neither blocklists nor an inbox."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.netloc
        self.path = parts.path + (f"?{parts.query}" if parts.query else "")

    def block(self, wire: Wire, users: list[str]) -> bytes | None:
        return None

    def ack(self, wire: Wire) -> bytes | None:
        return None

    def opened(self, wire: Wire) -> None:
        pass


class PlainDialect(_Peer):
    """The gateway's ``send``, ``message`` and ``sent`` and nothing else: of the FastAPI server and the bare relay."""

    def opening(self, wire: Wire) -> bytes:
        bearer = f"Authorization: Bearer {token(wire.user.name)}"
        return request(self.host, self.path, bearer, "Sec-WebSocket-Protocol: gateway.v1")

    def message(self, to: str, body: bytes, id: bytes, *, ephemeral: bool = False) -> bytes:
        return b'{"type":"send","id":"%b","to":"%b","body":%b}' % (id, to.encode(), body)

    def received(self, wire: Wire, payload: bytes) -> None:
        kind = payload[9:13]
        stamped = stamp.read(payload) if kind == b"mess" else None
        if stamped is not None:
            wire.crowd.delivered(wire, *stamped)
        elif kind == b"sent":
            wire.crowd.sent(wire, int(payload[21:29]), online=True)
        elif kind == b"welc":
            wire.crowd.welcomed(wire)
        else:
            wire.crowd.pushed(wire, payload)


class SocketioDialect(_Peer):
    """Socket.IO 5 over Engine.IO 4 on WebSocket; a message asks for an acknowledgement."""

    def opening(self, wire: Wire) -> bytes:
        return request(self.host, self.path)

    def message(self, to: str, body: bytes, id: bytes, *, ephemeral: bool = False) -> bytes:
        return b'42%b["send","%b",%b]' % (id, to.encode(), body)

    def received(self, wire: Wire, payload: bytes) -> None:
        kind = payload[:2]
        stamped = stamp.read(payload) if kind == b"42" else None
        if stamped is not None:
            wire.crowd.delivered(wire, *stamped)
        elif kind == b"43":
            wire.crowd.sent(wire, int(payload[2 : payload.index(b"[")]), online=True)
        elif kind == b"2":
            wire.frame(frame(b"3"))
        elif kind == b"40":
            wire.crowd.welcomed(wire)
        elif kind[:1] == b"0":
            wire.frame(frame(b'40{"token":"%b"}' % token(wire.user.name).encode()))
        else:
            wire.crowd.pushed(wire, payload)


class XmppDialect(_Peer):
    """XMPP over WebSocket (RFC 7395) with SASL PLAIN, where the password is a token.

    XMPP does not answer messages. What the recipient gets counts as the answer to its sender, which both must be in
    one process for; the server has the less to do.

    Quotes would be escaped by the server and make a body longer than it is elsewhere: on the wire they are backticks.
    """

    _OPEN = f'<open xmlns="urn:ietf:params:xml:ns:xmpp-framing" to="{HOST}" version="1.0"/>'.encode()
    _BIND = (
        b'<iq xmlns="jabber:client" type="set" id="bind"><bind xmlns="urn:ietf:params:xml:ns:xmpp-bind">'
        b"<resource>device</resource></bind></iq>"
    )

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._wires: dict[bytes, Wire] = {}

    def opening(self, wire: Wire) -> bytes:
        return request(self.host, self.path, "Sec-WebSocket-Protocol: xmpp")

    def opened(self, wire: Wire) -> None:
        wire.frame(frame(self._OPEN))

    def message(self, to: str, body: bytes, id: bytes, *, ephemeral: bool = False) -> bytes:
        text = body.replace(b'"', b"`")
        return b'<message xmlns="jabber:client" id="%b" to="%b@%b" type="chat"><body>%b</body></message>' % (
            *(id, to.encode(), HOST.encode()),
            text,
        )

    def received(self, wire: Wire, payload: bytes) -> None:
        if payload.startswith(b"<message"):
            stamped = stamp.read(payload.replace(b"`", b'"'))
            if stamped is None:
                wire.crowd.pushed(wire, payload)
                return
            wire.crowd.delivered(wire, *stamped)
            sender = self._wires.get(_attribute(payload, b" from='").partition(b"@")[0])
            if sender is not None:
                sender.crowd.sent(sender, int(_attribute(payload, b" id='")), online=True)
        elif not wire.welcomed:
            self._log_in(wire, payload)
        else:
            wire.crowd.pushed(wire, payload)

    def _log_in(self, wire: Wire, payload: bytes) -> None:
        """Each of the server's words is answered by the next step."""
        name = wire.user.name
        if payload.startswith(b"<stream:features"):
            secret = f"\0{name}\0{token(name, jid=f'{name}@{HOST}')}"
            auth = b'<auth xmlns="urn:ietf:params:xml:ns:xmpp-sasl" mechanism="PLAIN">%b</auth>'
            known = b"urn:ietf:params:xml:ns:xmpp-bind" in payload
            wire.frame(frame(self._BIND if known else auth % base64.b64encode(secret.encode())))
        elif payload.startswith(b"<success"):
            wire.frame(frame(self._OPEN))
        elif payload.startswith(b"<iq"):
            wire.frame(frame(b'<presence xmlns="jabber:client"/>'))
        elif payload.startswith(b"<presence"):
            self._wires[name.encode()] = wire
            wire.crowd.welcomed(wire)
        elif not payload.startswith(b"<open"):
            wire.crowd.pushed(wire, payload)


def _attribute(element: bytes, before: bytes) -> bytes:
    start = element.find(before) + len(before)
    return element[start : element.find(b"'", start)]
