"""Frames that are read past the library: what comes of them is what the library alone would make of them."""

import itertools
import logging
import struct
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, State
from websockets.server import ServerProtocol

from gateway.transport.frames import Protocol, framed
from tests.transport.wire import BINARY, CLOSE, CONT, PING, PONG, TEXT, frame, upgrade_request

LOGGER = logging.getLogger("gateway.websockets.test")
MOST = 1000


class Library(Protocol):
    """The library's protocol with this gateway's closes, as it is without ``take``."""

    def alone(self, data: bytes) -> list[bytes | Frame]:
        self.receive_data(data)
        return self.events_received()  # type: ignore[return-value]


def opened(kind: type[Protocol], most: int = MOST) -> Protocol:
    protocol = kind(max_size=most, logger=LOGGER)
    (request,) = protocol.take(upgrade_request())
    protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]
    assert protocol.state is OPEN
    protocol.data_to_send()
    return protocol


Event = tuple[str, bytes, bool]
Told = tuple[list[Event], list[bytes], State, str]


def told(protocol: ServerProtocol, events: Sequence[bytes | Frame]) -> Told:
    """What a connection acts on: events (pongs are none), what is to be written, the state, what went wrong."""
    plain: list[Event] = []
    for event in events:
        if isinstance(event, bytes):
            plain.append(("TEXT", event, True))
        elif event.opcode is not Opcode.PONG:
            plain.append((event.opcode.name, bytes(event.data), event.fin))
    return plain, protocol.data_to_send(), protocol.state, repr(protocol.parser_exc)


def pieces_of(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    return [stream[start:end] for start, end in itertools.pairwise(places)]


def compare(pieces: Sequence[bytes], most: int = MOST) -> list[Told]:
    """Gives both the same bytes; what each piece comes to must be equal at once, not only in the end."""
    ours, library = opened(Protocol, most), opened(Library, most)
    assert isinstance(library, Library)
    seen: list[Told] = []
    for piece in pieces:
        expected = told(library, library.alone(piece))
        passed_over = len(piece) == 6 and ours.is_pong(piece)
        found = told(ours, [] if passed_over else ours.take(piece))
        assert found == expected
        assert ours._held is None or len(ours._held) <= most + 14
        seen.append(found)
    return seen


masks = st.sampled_from([b"\0\0\0\0", b"\x01\x02\x03\x04"]) | st.binary(min_size=4, max_size=4)
payloads = (
    st.binary(max_size=130) | st.integers(0, 3 * MOST // 2).map(lambda size: b"x" * size) | st.text().map(str.encode)
)


@st.composite
def good(draw: st.DrawFn) -> bytes:
    """A text, in one frame or in fragments with control frames between, or a control frame."""
    payload, mask = draw(payloads), draw(masks)
    kind = draw(st.integers(0, 9))
    if kind < 6:
        return frame(TEXT, payload, mask=mask)
    if kind < 8:
        return frame(draw(st.sampled_from([PING, PONG, PONG])), payload[:125], mask=mask)
    middle = draw(st.integers(0, len(payload)))
    between = frame(draw(st.sampled_from([PING, PONG])), b"b", mask=mask) if draw(st.booleans()) else b""
    return frame(TEXT, payload[:middle], fin=False, mask=mask) + between + frame(CONT, payload[middle:], mask=mask)


@st.composite
def doubtful(draw: st.DrawFn) -> bytes:
    """Any opcode, bits, mask and length, true or not."""
    opcode = draw(st.integers(0, 15))
    whole = bytearray(frame(opcode, draw(payloads), fin=draw(st.booleans()), mask=draw(st.none() | masks)))
    whole[0] |= draw(st.sampled_from([0, 0, 0, 0x40, 0x20, 0x10]))
    change = draw(st.integers(0, 5))
    if change == 0:
        whole[1] = draw(st.integers(0, 255))
    elif change == 1:
        # A length in more bytes than it needs.
        whole[1:2] = bytes((whole[1] & 0x80 | 126,)) + struct.pack("!H", whole[1] & 0x7F)
    return bytes(whole)


cuts = st.lists(st.integers(0, 100_000), max_size=12)


@given(st.lists(good() | good() | good() | doubtful(), max_size=12), cuts)
@settings(max_examples=400)
@example([frame(TEXT, b"a"), frame(CLOSE, struct.pack("!H", 1000)), frame(TEXT, b"b")], [])
@example([frame(TEXT, b"a" * 600, fin=False), frame(CONT, b"b" * 600)], [])
@example([frame(TEXT, b"a" * 600, fin=False), frame(CONT, b"b" * 600)], [615])
@example([frame(TEXT, b"a"), frame(BINARY, b"b"), frame(TEXT, b"c")], [])
@example([frame(TEXT, b"a", fin=False), frame(TEXT, b"b")], [7])
@example([frame(TEXT, b"a", fin=False), frame(TEXT, b"b")], [8])
@example([frame(TEXT, b"a", fin=False), frame(PONG, b"p"), frame(CONT, b"b"), frame(TEXT, b"c")], [7, 14, 21])
@example([frame(TEXT, b"a"), frame(PONG, b"x" * 126)], [])
@example([frame(TEXT, b"a", fin=False), frame(PONG), frame(PONG), frame(CONT, b"b"), frame(TEXT, b"c")], [7, 13, 19])
@example([frame(TEXT, frame(PONG), mask=bytes(4)), frame(PONG)], [6, 12])
@example([frame(PONG, b"p"), frame(TEXT, b"a")], [6])
@example([frame(CLOSE, struct.pack("!H", 1000)), frame(PONG)], [8])
def test_any_stream_cut_anywhere_is_what_it_is_to_the_library(sent: list[bytes], cuts: list[int]) -> None:
    compare(pieces_of(b"".join(sent), cuts))


@given(st.lists(good(), min_size=1, max_size=4))
@settings(max_examples=30)
def test_a_stream_that_comes_byte_by_byte(sent: list[bytes]) -> None:
    stream = b"".join(sent)
    compare([stream[at : at + 1] for at in range(len(stream))])


@given(st.binary(max_size=200), cuts)
@settings(max_examples=200)
def test_bytes_that_are_no_frames(data: bytes, cuts: list[int]) -> None:
    compare(pieces_of(data, cuts))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 70_000])
@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4, 9, 10, 13, 14, 15])
def test_every_way_to_write_a_length(size: int, cut: int) -> None:
    stream = frame(TEXT, b"x" * size) + frame(TEXT, b"last")
    seen = compare([piece for piece in (stream[:cut], stream[cut:]) if piece], most=66_000)
    if size <= 66_000:
        assert [event[1] for events, _, _, _ in seen for event in events] == [b"x" * size, b"last"]
    else:
        assert seen[-1][2] is not OPEN


def test_what_is_whole_does_not_reach_the_library() -> None:
    protocol = opened(Protocol)

    def fed(data: bytes | bytearray) -> None:
        raise AssertionError("the library was asked")

    protocol.receive_data = fed  # type: ignore[method-assign]
    stream = frame(TEXT, b"a") + frame(PONG, b"") + frame(TEXT, b"b" * 500) + frame(TEXT, b"c")
    assert protocol.take(stream) == [b"a", b"b" * 500, b"c"]
    # Held until it is whole, also over several pieces.
    found = [protocol.take(stream[at : at + 7]) for at in range(0, len(stream), 7)]
    assert [message for messages in found for message in messages] == [b"a", b"b" * 500, b"c"]


def test_a_frame_in_many_pieces_is_copied_once() -> None:
    # Quadratic work would let one client with a slow, large frame stop the node.
    protocol = opened(Protocol, 1_000_000)
    stream = frame(TEXT, b"x" * 1_000_000)
    protocol.take(stream[:20])
    held = protocol._held
    for at in range(20, len(stream) - 1, 1000):
        assert protocol.take(stream[at : min(at + 1000, len(stream) - 1)]) == []
        assert protocol._held is held
    assert told(protocol, protocol.take(stream[-1:]))[0] == [("TEXT", b"x" * 1_000_000, True)]
    assert protocol._held is None


@pytest.mark.parametrize("size", [0, 1, 125, 126, 1023, 1024, 65535, 65536])
def test_headers_of_messages_are_the_librarys(size: int) -> None:
    payload = b"x" * size
    assert framed([payload, b"x"]) == Frame(Opcode.TEXT, payload).serialize(mask=False) + b"\x81\x01x"
