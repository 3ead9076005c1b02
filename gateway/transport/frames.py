"""RFC 6455 as spoken here: the library's Sans-I/O protocol, and by hand what a message costs time for.

In: a text frame that is whole, final, masked, uncompressed and outside a fragmented message is cut out and unmasked
here; everything else goes to the library, whole frame by whole frame, or at once where its header alone condemns it.
Out: the header in front of a message.
"""

from __future__ import annotations

import struct

from websockets.frames import Frame
from websockets.protocol import OPEN, State
from websockets.server import ServerProtocol
from websockets.typing import LoggerLike

try:
    from websockets.speedups import apply_mask
except ImportError:  # the library was installed without its C part
    from websockets.utils import apply_mask

from gateway.core.close import Closing
from gateway.protocol import codes
from gateway.protocol.codes import CloseCode

_TEXT = 0x81
"""RFC 6455 section 5.2: FIN and opcode 1; a server does not mask (section 5.1)."""

_PONG = 0x8A
"""FIN and opcode 10: RFC 6455 section 5.5.3 has nobody answer it."""

_OPCODES = frozenset((0, 1, 2, 8, 9, 10))

PING = b"\x89\x00"
"""An unmasked ping without a payload."""

_ANSWER = b"\x8a\x80"
"""How a client begins the answer to it; a mask of four bytes follows, and nothing else."""

_CLOSES_BY_PARSER = {
    code.code: code for code in (codes.PROTOCOL_ERROR, codes.INVALID_DATA, codes.TOO_BIG, codes.INTERNAL_ERROR)
}


def close_by_parser(code: int) -> CloseCode:
    """What a close that the library decides on is called here."""
    return _CLOSES_BY_PARSER.get(code, codes.PROTOCOL_ERROR)


class Protocol(ServerProtocol):
    """The library's protocol, but the closes that it decides on carry this gateway's JSON reason as well.

    Once the connection is open its bytes come in through ``take``, and through nothing else.

    Args:
        max_size: bytes of a message; ``take`` cannot do without a limit.
        logger: the library's.
    """

    is_open = False
    """Whether ``state`` is OPEN, at the price of an attribute: each message asks."""

    shut = False
    """Whether the close has been said and the socket's end with it: nothing that is written now may go out."""

    _held: bytearray | None = None
    """A frame that is not whole yet; at most its header and ``max_message_size`` bytes."""

    _wanted = 0
    """How many bytes it takes until there is more to know of it."""

    @property
    def state(self) -> State:
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        self.is_open = state is OPEN

    def __init__(self, *, max_size: int, logger: LoggerLike) -> None:
        super().__init__(max_size=max_size, logger=logger)

    def fail(self, code: int, reason: str = "") -> None:
        super().fail(code, Closing.of(close_by_parser(code), reason).payload())

    def end(self) -> None:
        """The socket is gone. The parser and what it raised refer to this: only a collection would free them."""
        self.parser.close()
        self.parser_exc = self.handshake_exc = None

    def forget_request(self) -> None:
        """The upgrade is answered: lets go of the request, 2.7 KB with the token in it.

        The parser that has read it would hold it as long as the connection lives; a new one reads frames alone.
        """
        if self.parser_exc is None and not self.reader.eof and not self.reader.buffer:
            self.parser.close()
            self.parser = self.parse()
            next(self.parser)

    def is_pong(self, data: bytes) -> bool:
        """Whether these six bytes from the socket are the answer to ``PING``, which need not be taken."""
        return data[:2] == _ANSWER and self._held is None

    def take(self, data: bytes) -> list[bytes | Frame]:
        """Takes what the socket brought.

        Returns:
            In their order: text messages that came in one frame, unmasked and not yet known to be UTF-8, and whatever
            else the library has to tell. It has judged all of ``data`` when the first message is looked at.

        Raises:
            EOFError: ``receive_eof`` was called before.
        """
        held = self._held
        if held is not None:
            held += data
            if len(held) < self._wanted and self.is_open:
                return []
            data = bytes(held)
            self._held = None
        if not self.is_open:
            return self._judged(data)
        messages: list[bytes | Frame] = []
        size, most, at = len(data), self.max_message_size or 0, 0
        while at + 6 <= size and self.current_size is None:
            length = data[at + 1] - 0x80
            start = at + 6
            if length == 126 and start + 2 <= size:
                length = data[at + 2] << 8 | data[at + 3]
                start += 2
            elif not 0 <= length < 126:
                break
            end = start + length
            if end > size or length > most:
                break
            if data[at] == _TEXT:
                messages.append(apply_mask(data[start:end], data[start - 4 : start]))
            elif data[at] != _PONG or length > 125:
                break
            at = end
            if at == size:
                return messages
        return self._mixed(data, at, messages)

    def _mixed(self, data: bytes, at: int, messages: list[bytes | Frame]) -> list[bytes | Frame]:
        """Where ``data`` holds more behind the ``messages``, from ``at`` on: all of it, but what is still to come."""
        end, wanted = at, 0
        while not wanted and end < len(data):
            reach, wanted = self._reach(data, end, 0)
            end = reach or end
        if wanted < 0:
            return messages + self._judged(data[at:])
        if end > at:
            messages += self._judged(data[at:end])
        rest = data[end:]
        if rest and self.is_open:
            # Again: what a message may still hold depends on the fragments of it that the library has just seen.
            _, self._wanted = self._reach(rest, 0, self.current_size or 0)
            if self._wanted < 0:
                return messages + self._judged(rest)
            self._held = bytearray(rest)
        return messages

    def _reach(self, data: bytes, at: int, before: int) -> tuple[int, int]:
        """How far the frame at ``at`` goes.

        Args:
            before: bytes of the same message in the fragments before it.

        Returns:
            (where it ends, 0) of a frame that is whole; else 0 and how many bytes it must have before more is known,
            or -1 where the library fails it as soon as it has seen what there is.
        """
        size = len(data) - at
        if size < 2:
            return 0, 2
        if data[at] & 0x0F not in _OPCODES or data[at + 1] < 0x80:
            return 0, -1
        length, header = data[at + 1] - 0x80, 6
        if length > 125:
            header += 2 if length == 126 else 8
            if size < header - 4:
                return 0, header - 4
            length = int.from_bytes(data[at + 2 : at + header - 4], "big")
        if length > (self.max_message_size or 0) - before:
            return 0, -1
        return (0, header + length) if size < header + length else (at + header + length, 0)

    def _judged(self, data: bytes) -> list[bytes | Frame]:
        self.receive_data(data)
        return self.events_received()  # type: ignore[return-value]  # the request came before the connection opened


def _header(length: int) -> bytes:
    if length < 126:
        return bytes((_TEXT, length))
    if length < 65536:
        return struct.pack("!BBH", _TEXT, 126, length)
    return struct.pack("!BBQ", _TEXT, 127, length)


_HEADERS = tuple(_header(length) for length in range(1024))


def framed(payloads: list[bytes]) -> bytes:
    """Text messages as unfragmented, uncompressed frames from a server (RFC 6455 section 5.2)."""
    frames = []
    for payload in payloads:
        length = len(payload)
        frames.append(_HEADERS[length] if length < 1024 else _header(length))
        frames.append(payload)
    return b"".join(frames)
