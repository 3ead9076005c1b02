"""Handshakes read past the library: what is accepted here the library accepts, and answers in the same words."""

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.http11 import Request
from websockets.uri import parse_uri

from gateway.protocol import PATH, SUBPROTOCOL
from gateway.transport import upgrade
from gateway.transport.frames import Protocol
from gateway.transport.handshake import query_of
from tests.transport.conftest import Edge
from tests.transport.test_frames import LOGGER
from tests.transport.wire import raw_socket, upgrade_request
from tests.waiting import eventually

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
LINE = f"GET {PATH} HTTP/1.1"
NEEDED = [
    "Host: gw.example",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
]
CHROME = [
    *NEEDED[:3],
    "Pragma: no-cache",
    "Cache-Control: no-cache",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36",
    "Origin: https://gw.example",
    "Sec-WebSocket-Version: 13",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-GB,en;q=0.9",
    "Cookie: a=b; c=d",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    f"Sec-WebSocket-Protocol: {SUBPROTOCOL}, gateway.bearer.a.b.c",
]
FIREFOX = [
    "Host: gw.example",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
    "Accept: */*",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Sec-WebSocket-Version: 13",
    "Origin: https://gw.example",
    "Sec-WebSocket-Extensions: permessage-deflate",
    f"Sec-WebSocket-Key: {KEY}",
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
]


def request(lines: list[str], first: str = LINE, ending: str = "\r\n") -> bytes:
    return ending.join([first, *lines, "", ""]).encode("latin-1", "replace")


def compare(data: bytes) -> bool:
    """Holds what is read here against the library; returns whether it was read here."""
    found = upgrade.read(data)
    if found is None:
        return False
    protocol = Protocol(max_size=1000, logger=LOGGER)
    (asked,) = protocol.take(data)
    assert isinstance(asked, Request)
    assert (protocol.handshake_exc, protocol.parser_exc, bytes(protocol.reader.buffer)) == (None, None, b"")
    assert found.path == asked.path
    assert list(found.fields.items()) == [(name.lower(), value) for name, value in asked.headers.raw_items()]
    for subprotocol in (None, SUBPROTOCOL):
        response = protocol.accept(asked)
        assert response.status_code == 101
        # The Date is the second of either: the one in which the library's was made is among them.
        around = [found.answer(subprotocol)]
        theirs = upgrade.answer_of(response, subprotocol)
        assert theirs in [*around, found.answer(subprotocol)]
    return True


def of_the_library() -> bytes:
    client = ClientProtocol(parse_uri(f"ws://gw.example{PATH}?device=a"))
    client.send_request(client.connect())
    return b"".join(client.data_to_send())


@pytest.mark.parametrize(
    "data",
    [request(NEEDED), request(CHROME), request(FIREFOX), of_the_library(), upgrade_request(token="a.b.c")],
    ids=["least", "chrome", "firefox", "websockets", "token"],
)
def test_what_clients_send_is_read_here(data: bytes) -> None:
    assert compare(data)


ENDS = [
    "", " ", "\t", "x", ", x", ",", "\x00", "\x7f", "\x80", "\xff", "\r", "\n", "\r\n", "\r\n ", ":", "=",
]  # fmt: skip
field = st.tuples(
    st.sampled_from(
        [
            *("Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol"),
            *("Sec-WebSocket-Extensions", "Origin", "Content-Length", "Transfer-Encoding", "X", "x", "", "a b", "\xe4"),
        ]
    ),
    st.sampled_from(["", " ", "\t ", "  "]),
    st.sampled_from(
        [
            *("websocket", "WebSocket", "upgrade", "keep-alive, Upgrade", "keep-alive", KEY, KEY[:-3] + "B==", "short"),
            *("13", "8", "0", "5", "chunked", SUBPROTOCOL, f"{SUBPROTOCOL}, x", "a,b", "a, , b", "a b", "a;b"),
        ]
    )
    | st.text(st.characters(max_codepoint=255), max_size=8),
    st.sampled_from(ENDS),
).map(lambda parts: f"{parts[0]}:{parts[1]}{parts[2]}{parts[3]}")


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request that is right but for a few things, or for none."""
    lines = list(draw(st.sampled_from([NEEDED, CHROME, FIREFOX])))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 4)):
            case 0:
                del lines[place]
            case 1:
                lines.insert(place, draw(field))
            case 2:
                lines[place] += draw(st.sampled_from(ENDS))
            case 3:
                lines[place] = lines[place].swapcase()
            case _:
                name = lines[place].partition(":")[0]
                lines[place] = name + ":" + draw(field).partition(":")[2]
    first = draw(
        st.just(LINE)
        | st.sampled_from([LINE[:-1] + "0", "PUT" + LINE[3:], LINE + " ", "GET  " + LINE[4:], LINE.lower()])
        | st.text(st.characters(min_codepoint=32, max_codepoint=128), max_size=9).map(
            lambda query: f"GET {PATH}?{query} HTTP/1.1"
        )
    )
    data = bytearray(request(lines, first, draw(st.sampled_from(["\r\n", "\r\n", "\r\n", "\n"]))))
    if draw(st.booleans()) and draw(st.booleans()):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data) + draw(st.sampled_from([b"", b"", b"", b"\x81", b"\r\n", b"GET "]))


@given(requests())
@settings(max_examples=800)
@example(request(NEEDED) + b"\x81")
@example(request([*NEEDED, "Content-Length: 5"]))
@example(request([*NEEDED, "Transfer-Encoding: chunked"]))
@example(request([*NEEDED, "Origin: a", "Origin: b"]))
@example(request([*NEEDED, "Sec-WebSocket-Protocol: a b"]))
@example(request([*NEEDED, *(f"X-{each}: y" for each in range(123))]))
@example(request([*NEEDED, *(f"X-{each}: y" for each in range(124))]))
def test_what_is_read_here_the_library_accepts(data: bytes) -> None:
    compare(data)


@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    compare(data)


def test_a_long_request_is_the_librarys() -> None:
    longest = request([*NEEDED, "X: "])
    longest = longest.replace(b"X: ", b"X: " + b"x" * (upgrade.REQUEST_BYTES_MAX - len(longest)))
    assert compare(longest)
    assert upgrade.read(longest.replace(b"X: ", b"X: x")) is None


query = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40) | st.lists(
    st.sampled_from(["device=a", "device=", "device", "=", "", "since=1-2", "since=%31", "a=b=c", "a+b=c", "a#b", ";"])
).map("&".join)


@given(query)
@settings(max_examples=500)
def test_a_query_is_what_it_is_to_the_standard_library(query: str) -> None:
    path = f"{PATH}?{query}"
    parsed = parse_qs(urlsplit(path).query, keep_blank_values=True)
    assert query_of(path) == {name: values[0] for name, values in parsed.items()}


async def test_a_whole_request_behind_the_beginning_of_another_is_none(edge: Edge) -> None:
    async with edge() as node, raw_socket(node) as client:
        client.send(f"{LINE}\r\n".encode())
        await eventually(lambda: any(connection.asked for connection in node.listener.connections))
        client.send(upgrade_request())
        assert (await client.response()).status == 400
