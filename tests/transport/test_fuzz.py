"""Hostile bytes: the connection answers or closes, the process never errs, and others are served throughout."""

import asyncio
import itertools
import json
import multiprocessing
import socket
import struct
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import orjson
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from websockets.sync.client import connect

from gateway.protocol import examples, schema
from tests.nodes import running_node
from tests.servers import Server
from tests.transport.wire import CLOSE, TEXT, frame, upgrade_request
from tests.waiting import wait_until

DEADLINE_S = 10.0
PONG = b'"type":"pong"'
LAST = frame(TEXT, b'{"type":"ping","id":"last"}')


class State(NamedTuple):
    """What the node's process tells when asked: what went wrong, how many connections, whose sessions."""

    faults: list[str]
    connections: int
    users: list[str]


async def serve(url: str, pipe: Connection) -> None:
    """A node in a process of its own: hypothesis minds other users of the random module."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    faults: list[str] = []
    loop.set_exception_handler(lambda _, context: faults.append(repr(context)))
    # No gap can come from a slow machine, or a session would be held up in the middle of an example.
    with capture_logs() as events:
        async with running_node(url, role="edge", gap_ms=10_000, lease_s=60) as node:
            tokens = [await node.services.tokens.issue(user, user.title()) for user in ("mallory", "healthy")]
            pipe.send((node.listener.port, *tokens))

            def answer() -> None:
                if pipe.recv() == "stop":
                    stopped.set()
                    return
                errors = [repr(event) for event in events if event["log_level"] in ("error", "critical")]
                users = [session.user for session in node.hub]
                pipe.send(State(faults + errors, len(node.listener.connections), users))

            loop.add_reader(pipe.fileno(), answer)
            await stopped.wait()
            loop.remove_reader(pipe.fileno())


def process(url: str, pipe: Connection) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(url, pipe))


class Fuzzed:
    """That node, and a healthy client on it."""

    def __init__(self, url: str) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=process, args=(url, theirs))

    def __enter__(self) -> "Fuzzed":
        self._process.start()
        assert self._pipe.poll(30)
        self._port, self.token, healthy = self._pipe.recv()
        headers = {"Authorization": f"Bearer {healthy}"}
        uri = f"ws://127.0.0.1:{self._port}/v1/connect"
        self._connecting = connect(uri, additional_headers=headers, compression=None, proxy=None)
        self._healthy = self._connecting.__enter__()
        assert json.loads(self._healthy.recv(DEADLINE_S))["type"] == "welcome"
        return self

    def __exit__(self, *error: Any) -> None:
        self._connecting.__exit__(None, None, None)
        self._pipe.send("stop")
        self._process.join(DEADLINE_S)
        ended = self._process.exitcode
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()
        assert ended == 0

    def state(self) -> State:
        self._pipe.send("state")
        assert self._pipe.poll(DEADLINE_S)
        state: State = self._pipe.recv()
        return state

    def check(self) -> None:
        """The node has raised nothing and serves the healthy client."""
        self._healthy.send('{"type":"ping","id":"h"}')
        while PONG.decode() not in str(self._healthy.recv(DEADLINE_S)):
            # What the others send it.
            pass
        assert self.state().faults == []

    def dial(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self._port), DEADLINE_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def session(self) -> socket.socket:
        client = self.dial()
        client.sendall(upgrade_request("/v1/connect?platform=web", self.token))
        seen = b""
        while b'"type":"welcome"' not in seen:
            chunk = client.recv(65536)
            assert chunk, seen
            seen += chunk
        return client


@pytest.fixture(scope="module")
def fuzzed(valkey_process: Server) -> Iterator[Fuzzed]:
    valkey_process.empty()
    with Fuzzed(valkey_process.url) as running:
        yield running


def deliver(client: socket.socket, pieces: list[bytes]) -> bool:
    """Sends the pieces; False when the peer has had enough."""
    try:
        for piece in pieces:
            client.sendall(piece)
    except OSError:
        return False
    return True


def until_end(client: socket.socket, sign: bytes | None = None) -> bytes:
    """What comes until the sign or the end. Waiting longer than the deadline raises TimeoutError and fails the test."""
    seen = bytearray()
    try:
        while sign is None or sign not in seen:
            chunk = client.recv(65536)
            if not chunk:
                break
            seen += chunk
    except ConnectionError:
        pass
    return bytes(seen)


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    return [stream[start:end] for start, end in itertools.pairwise(places)]


cuts = st.lists(st.integers(0, 100_000), max_size=20)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
known = st.sampled_from([schema.example(each) for each in examples.COMMANDS])
names = st.sampled_from(
    ["id", "to", "body", "users", "page", "limit", "cursor", "token", "key", "retry", "type", "session"]
)
users = st.sampled_from(["mallory", "healthy", "nobody", "a\nb", "", "é" * 64, "x" * 65])


@st.composite
def commands(draw: st.DrawFn) -> bytes:
    """A command of the protocol with fields replaced, added and left out, or its JSON with bytes changed."""
    command = dict(draw(known))
    for name in draw(st.lists(names, max_size=3)):
        command[name] = draw(users | values | st.lists(users, max_size=4))
    for name in draw(st.lists(st.sampled_from(sorted(command)), max_size=1)):
        command.pop(name)
    text = bytearray(json.dumps(command, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2, 5]))):
        at = draw(st.integers(0, max(len(text) - 1, 0)))
        text[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(text)


@given(st.lists(commands(), max_size=12), cuts, st.booleans())
@settings(max_examples=100)
def test_mutated_commands_cut_anywhere_are_answered_or_close(
    fuzzed: Fuzzed, payloads: list[bytes], cuts: list[int], fragmented: bool
) -> None:
    with fuzzed.session() as client:
        stream = b""
        for payload in payloads:
            middle = len(payload) // 2
            if fragmented and middle:
                stream += frame(TEXT, payload[:middle], fin=False) + frame(0, payload[middle:])
            else:
                stream += frame(TEXT, payload)
        deliver(client, pieces_of(stream + LAST, cuts))
        seen = until_end(client, b'"id":"last"')
        assert b'"id":"last"' in seen or b"\x88" in seen
    fuzzed.check()


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Frames with any bits, masks and lengths, whether true or not, and bytes that are no frame."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=40))
    payload = draw(st.binary(max_size=200) | st.just(b'{"type":"ping","id":"1"}') | st.just(b"x" * 70_000))
    whole = bytearray(
        frame(
            draw(st.integers(0, 15)),
            payload,
            fin=draw(st.booleans()),
            mask=draw(st.none() | st.binary(min_size=4, max_size=4)),
        )
    )
    whole[0] |= draw(st.sampled_from([0, 0, 0, 0, 0x40, 0x20, 0x10]))
    if draw(st.integers(0, 9)) == 0:
        whole[1] = draw(st.integers(0, 255))
    return bytes(whole)


@given(st.lists(frames(), max_size=10), cuts)
@settings(max_examples=150)
def test_random_frames_are_answered_or_close(fuzzed: Fuzzed, sent: list[bytes], cuts: list[int]) -> None:
    with fuzzed.session() as client:
        if deliver(client, pieces_of(b"".join(sent), cuts)):
            try:
                client.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        until_end(client)
    fuzzed.check()


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """An opening handshake with lines changed, left out, doubled, or with other bytes in it."""
    lines = upgrade_request(token=draw(st.sampled_from([None, "x.y.z", "e30.e30.e30"]))).split(b"\r\n")
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        lines[at] = draw(st.sampled_from([b"", lines[0], lines[at][:9], lines[at] * 2]) | st.binary(max_size=30))
    text = bytearray(draw(st.sampled_from([b"\r\n", b"\n"])).join(lines))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        text[at : at + draw(st.integers(0, 5))] = draw(st.binary(max_size=5))
    return bytes(text)


@given(st.binary(max_size=300) | requests(), st.binary(max_size=50), cuts)
@settings(max_examples=150)
def test_random_openings_are_answered_or_close(fuzzed: Fuzzed, head: bytes, rest: bytes, cuts: list[int]) -> None:
    with fuzzed.dial() as client:
        if deliver(client, pieces_of(head + rest, cuts)):
            try:
                client.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        seen = until_end(client)
        status, _, _ = seen.partition(b"\r\n")
        assert seen == b"" or status.startswith(b"HTTP/1.1 ")
    fuzzed.check()


@given(st.text(max_size=100) | st.binary(max_size=100).map(lambda raw: orjson.dumps(raw.hex()).decode()))
@settings(max_examples=30)
def test_any_token_is_refused_by_a_close(fuzzed: Fuzzed, token: str) -> None:
    with fuzzed.dial() as client:
        client.sendall(upgrade_request())
        until_end(client, b"\r\n\r\n")
        client.sendall(frame(TEXT, json.dumps({"type": "auth", "token": token}).encode()) + LAST)
        seen = until_end(client, b'"id":"last"')
        # An empty token is a bad command; any other is judged, and ends the connection.
        assert (b'"code":400' in seen) if b'"id":"last"' in seen else seen[:1] == b"\x88"
    fuzzed.check()


def test_nothing_is_left_of_all_that(fuzzed: Fuzzed) -> None:
    wait_until(lambda: fuzzed.state().connections == 1)
    assert fuzzed.state().users == ["healthy"]
    with fuzzed.session() as client:
        client.sendall(frame(CLOSE, struct.pack("!H", 1000)))
        assert until_end(client).endswith(struct.pack("!BBH", 0x88, 2, 1000))
    fuzzed.check()
