"""RFC 6455 as spoken here: the library's Sans-I/O protocol, and the header of the frames that are written past it."""

from __future__ import annotations

import struct

from websockets.server import ServerProtocol

from gateway.core.close import Closing
from gateway.protocol import codes
from gateway.protocol.codes import CloseCode

_TEXT = 0x81
"""RFC 6455 section 5.2: FIN and opcode 1; a server does not mask (section 5.1)."""

_CLOSES_BY_PARSER = {
    code.code: code for code in (codes.PROTOCOL_ERROR, codes.INVALID_DATA, codes.TOO_BIG, codes.INTERNAL_ERROR)
}


def close_by_parser(code: int) -> CloseCode:
    """What a close that the library decides on is called here."""
    return _CLOSES_BY_PARSER.get(code, codes.PROTOCOL_ERROR)


class Protocol(ServerProtocol):
    """The library's protocol, but the closes that it decides on carry this gateway's JSON reason as well."""

    def fail(self, code: int, reason: str = "") -> None:
        super().fail(code, Closing.of(close_by_parser(code), reason).payload())


def frame_header(length: int) -> bytes:
    """The header of an unfragmented, uncompressed text frame from a server (RFC 6455 section 5.2)."""
    if length < 126:
        return bytes((_TEXT, length))
    if length < 65536:
        return struct.pack("!BBH", _TEXT, 126, length)
    return struct.pack("!BBQ", _TEXT, 127, length)
