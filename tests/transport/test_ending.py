"""How connections end: cuts that wait for nobody, clients that do not read, and polite goodbyes."""

import asyncio
import fcntl
import json
import select
import socket
import ssl
import struct
import termios
import time
from pathlib import Path

import orjson
import pytest

from gateway.core.close import Closing
from gateway.core.session import Session
from gateway.metrics import METRICS
from gateway.node import Node
from gateway.protocol import codes
from gateway.services.control import Control
from gateway.transport.connection import Connection
from tests.certificates import self_signed
from tests.nodes import Client, login, open_socket
from tests.servers import Server
from tests.transport.conftest import Edge
from tests.transport.wire import CLOSE, PING, TEXT, Ended, frame, raw_session, raw_socket, upgrade_request
from tests.waiting import eventually

KIB = 1024


def connection_of(node: Node, user: str = "alice") -> Connection:
    (session,) = node.hub.of(user)
    connection = session.wire
    assert isinstance(connection, Connection)
    return connection


async def kick(node: Node, user: str = "alice") -> None:
    control: Control = node.services.control
    acknowledged = await control.kick(users=[user], reason="enough")
    assert acknowledged.sessions_closed == 1
    assert acknowledged.nodes_silent == []


async def fill(node: Node, sender: Client, to: str = "alice", body: str = "x" * 32 * KIB) -> int:
    """Sends until nothing more goes into the recipient's socket; how many messages it took."""
    connection = connection_of(node, to)
    count = 0
    while not connection.blocked_at or count < 10:
        count += 1
        assert (await sender.send(to, {"n": count, "filler": body}))["type"] == "sent"
        assert count < 2000
    return count


class TestCut:
    async def test_a_client_that_stays_silent_is_gone_in_a_tenth_of_a_second(self, edge: Edge) -> None:
        async with edge() as node, raw_session(node) as client:
            began = time.monotonic()
            kicked = asyncio.create_task(kick(node))
            code, reason = await client.closed()
            assert (code, reason) == (4505, {"code": 4505, "reason": "enough"})
            # It does not answer the close; its TCP connection ends all the same.
            assert await client.ended() == b""
            took = time.monotonic() - began
            await kicked
            assert took < 0.1 + 0.4
            await eventually(lambda: not node.listener.connections)

    async def test_it_has_left_before_its_socket_is_gone(self, edge: Edge) -> None:
        async with edge(close_linger_ms=60_000) as node, raw_session(node) as client:
            client.text(b"{" * 10)
            for _ in range(9):
                client.text(b"{")
            assert (await client.closed())[0] == 4002
            assert len(node.hub) == 0

            async def offline() -> bool:
                return not await node.services.presence.online("alice")

            await eventually(offline)
            assert len(node.listener.connections) == 1

    async def test_with_bytes_waiting_it_is_reset_and_nothing_of_the_queue_arrives(self, edge: Edge) -> None:
        config = {"outbound_bytes_max": 64 * KIB * KIB, "outbound_age_max_s": 60, "close_linger_ms": 60_000}
        async with edge(**config) as node, raw_session(node, receive_buffer=4 * KIB) as client:
            bob = await login(node, "bob")
            sent = await fill(node, bob) * 32 * KIB
            connection = connection_of(node)
            assert connection.transport is not None
            waiting = connection.transport.get_write_buffer_size()
            assert waiting > 0
            await kick(node)
            # Gone at once, not after the linger.
            await eventually(lambda: connection.transport is None, 1.0)
            arrived = bytearray()
            with pytest.raises(Ended) as ended:
                while True:
                    arrived += await client._read(1)
            assert ended.value.reset
            # What the peer's kernel had is out of reach; neither our queue nor our kernel's has passed.
            assert len(arrived) < 128 * KIB < sent - waiting
            assert b"4505" not in arrived[-200:]
            await bob.close()

    async def test_over_tls_as_well(self, edge: Edge, tmp_path: Path) -> None:
        """There the transport tells only of what is not encrypted yet."""
        certificate, key = self_signed(tmp_path)
        trusted = ssl.create_default_context(cafile=certificate)
        config = {"outbound_bytes_max": 64 * KIB * KIB, "outbound_age_max_s": 60, "close_linger_ms": 60_000}
        config |= {"tls_cert": certificate, "tls_key": key}
        async with edge(**config) as node, raw_session(node, receive_buffer=4 * KIB, tls=trusted) as client:
            connection = connection_of(node)
            assert connection.transport is not None
            assert connection.session is not None
            kernel = connection.transport.get_extra_info("socket")
            session, looks = connection.session, [-1]

            def full() -> bool:
                """The kernel takes no more. Asked in small steps: what it does not take stays below TLS, and untold."""
                session.send(b'{"type":"x","filler":"' + b"x" * 8 * KIB + b'"}')
                looks.append(int.from_bytes(fcntl.ioctl(kernel.fileno(), termios.TIOCOUTQ, bytes(4)), "little"))
                return len(looks) > 4 and looks[-1] > 0 and len(set(looks[-4:])) == 1

            await eventually(full, 30)
            assert not connection.blocked_at
            session.send(b'{"type":"x","n":"the last one"}')
            await kick(node)
            await eventually(lambda: connection.transport is None, 1.0)
            assert b"the last one" not in await client.ended()

    async def test_commands_behind_the_cut_are_not_carried_out(self, edge: Edge) -> None:
        async with edge(close_linger_ms=500) as node, raw_session(node) as client:
            bob = await login(node, "bob")
            await kick(node)
            client.text({"type": "send", "id": "1", "to": "bob", "body": "from the grave"})
            assert (await client.closed())[0] == 4505
            client.text({"type": "send", "id": "2", "to": "bob", "body": "from the grave"})
            client.send(frame(PING, b"x"))
            await client.ended()
            carol = await login(node, "carol")
            await carol.send("bob", "alive")
            assert (await bob.next("message"))["body"] == "alive"
            await bob.close()
            await carol.close()

    async def test_commands_in_one_segment_behind_what_cuts_are_not_carried_out(self, edge: Edge) -> None:
        async with edge() as node, raw_session(node) as client:
            bob = await login(node, "bob")
            send = frame(TEXT, b'{"type":"send","id":"1","to":"bob","body":1}')
            for cutting, code in ((frame(2, b""), 1003), (frame(TEXT, b"\xff"), 1007)):
                async with raw_session(node, "eve") as eve:
                    eve.send(send + cutting + send)
                    assert (await eve.closed())[0] == code
            client.send(send)
            senders = [(await bob.next("message"))["from"] for _ in range(3)]
            assert senders == ["eve", "eve", "alice"]
            await bob.close()


def drop(session: Session, close_code: int, code: int, reason: str, ends: int = 0) -> bytes:
    """A drop as the Function publishes it to a node."""
    ids = orjson.dumps([session.id]).decode()
    said = {"user": session.user, "call": "", "close_code": close_code, "code": code, "reason": reason}
    return b"d" + orjson.dumps(said | {"ends": ends, "sessions": ids, "all": False})


class TestCutWhileJoining:
    @pytest.mark.parametrize(
        ("close_code", "code", "ends", "status"),
        [
            (4505, 4505, 0, 403),
            (4502, 31011, 5, 403),
            (4501, 31020, 0, 401),
            (4503, 31029, 0, 403),
            (4504, 31010, 0, 403),
        ],
        ids=["kick", "ban", "expire", "deactivate", "replaced"],
    )
    async def test_with_the_upgrade_pending_it_is_an_http_status(
        self, edge: Edge, valkey: Server, close_code: int, code: int, ends: int, status: int
    ) -> None:
        async with edge(gap_ms=10_000, lease_s=60) as node, raw_socket(node) as client:
            token = await node.services.tokens.issue("alice", "Alice")
            valkey.pause()
            client.send(upgrade_request(token=token))
            await eventually(lambda: len(node.hub) == 1)
            (session,) = node.hub
            node.drops.received(drop(session, close_code, code, "so be it", ends))
            response = await client.response()
            assert response.status == status
            assert response.json == {"code": code, "reason": "so be it"} | ({"until": ends} if ends else {})
            assert len(node.hub) == 0
            await client.ended()
            valkey.resume()

    async def test_a_drain_then_is_a_503(self, edge: Edge, valkey: Server) -> None:
        async with edge(gap_ms=10_000, lease_s=60) as node, raw_socket(node) as client:
            token = await node.services.tokens.issue("alice", "Alice")
            valkey.pause()
            client.send(upgrade_request(token=token))
            await eventually(lambda: len(node.hub) == 1)
            node.drain()
            response = await client.response()
            assert response.status == 503
            assert response.json["code"] == 1001
            assert "retry-after" in response.headers
            valkey.resume()

    async def test_with_the_upgrade_done_it_is_a_close(self, edge: Edge, valkey: Server) -> None:
        async with edge(gap_ms=10_000, lease_s=60) as node, raw_socket(node) as client:
            token = await node.services.tokens.issue("alice", "Alice")
            valkey.pause()
            client.send(upgrade_request(sec_websocket_protocol=f"gateway.v1, gateway.bearer.{token}"))
            assert (await client.response()).status == 101
            await eventually(lambda: len(node.hub) == 1)
            (session,) = node.hub
            node.drops.received(drop(session, 4505, 4505, "enough"))
            assert await client.closed() == (4505, {"code": 4505, "reason": "enough"})
            valkey.resume()

    async def test_who_goes_while_the_store_says_yes_holds_up_nobody(self, edge: Edge, valkey: Server) -> None:
        """One turn of the loop brings another's command, the end, the store's answer, and a third one's command."""
        async with edge() as node, raw_session(node, "bob") as bob, raw_session(node, "carol") as carol:
            token = await node.services.tokens.issue("alice", "Alice")
            async with raw_socket(node) as alice:
                await eventually(lambda: not node.bus.links[0]._pending)
                valkey.pause()
                alice.send(upgrade_request(token=token))
                await eventually(lambda: node.hub.of("alice"))
                ping = frame(TEXT, b'{"type":"ping","id":"p"}')
                with bob.at_once() as raw:
                    raw.send(ping)
                with alice.at_once() as raw:
                    raw.shutdown(socket.SHUT_WR)
                valkey.resume()
                # Not awaited: when the loop looks again, all of it is there.
                answered(node)
                with carol.at_once() as raw:
                    raw.send(ping)
                for client in (bob, carol):
                    assert (await client.message("pong"))["id"] == "p"
                await eventually(lambda: not node.hub.of("alice"))


def answered(node: Node) -> None:
    """Returns when an answer of the store can be read; the loop stands still meanwhile."""
    transport = node.bus.links[0]._transport
    assert transport is not None
    assert select.select([transport.get_extra_info("socket")], [], [], 5)[0]


class TestSlowConsumer:
    async def test_too_much_waiting_closes_and_nothing_is_lost(self, edge: Edge) -> None:
        config = {"outbound_bytes_max": 256 * KIB, "outbound_age_max_s": 60, "close_linger_ms": 5_000}
        async with edge(**config) as node, raw_session(node, receive_buffer=4 * KIB) as client:
            bob = await login(node, "bob")
            before = METRICS.slow_consumers
            connection = connection_of(node)
            count = waiting_most = 0
            while len(node.hub.of("alice")):
                count += 1
                await bob.send("alice", {"n": count, "filler": "x" * 32 * KIB})
                if connection.transport is not None and connection.session is not None:
                    waiting = connection.transport.get_write_buffer_size() + connection.session.outgoing_bytes
                    waiting_most = max(waiting_most, waiting)
            # The limit, what the transport takes before it says stop, and one batch.
            assert waiting_most < (256 + 64 + 3 * 33) * KIB
            assert METRICS.slow_consumers == before + 1
            # It begins to read in time to hear why.
            code, reason = await client.closed()
            assert (code, reason["code"]) == (4001, 4001)
            numbers = [json.loads(payload)["body"]["n"] for opcode, payload in client.frames if b'"message"' in payload]
            assert numbers == list(range(1, len(numbers) + 1))
            assert len(numbers) < count
            # And what it did not get is still in the inbox.
            again = await login(node, "alice", max_size=None)
            assert [(await again.next("message"))["body"]["n"] for _ in range(count)] == list(range(1, count + 1))
            await again.close()
            await bob.close()

    async def test_what_waits_too_long_closes(self, edge: Edge) -> None:
        config = {"outbound_bytes_max": 64 * KIB * KIB, "outbound_age_max_s": 0.3}
        async with edge(**config) as node, raw_session(node, receive_buffer=4 * KIB):
            bob = await login(node, "bob")
            before = METRICS.slow_consumers
            await fill(node, bob)
            await eventually(lambda: len(node.hub.of("alice")) == 0)
            assert METRICS.slow_consumers == before + 1
            await eventually(lambda: len(node.listener.connections) == 1)
            await bob.close()

    async def test_one_that_reads_again_in_time_stays_and_gets_all(self, edge: Edge) -> None:
        config = {"outbound_bytes_max": 64 * KIB * KIB, "outbound_age_max_s": 30}
        async with edge(**config) as node, raw_session(node, receive_buffer=4 * KIB) as client:
            bob = await login(node, "bob")
            count = await fill(node, bob)
            numbers = [(await client.message("message"))["body"]["n"] for _ in range(count)]
            assert numbers == list(range(1, count + 1))
            client.text({"type": "ping", "id": "1"})
            assert (await client.message())["type"] == "pong"
            await bob.close()

    async def test_pings_of_a_client_that_does_not_read_fill_no_memory(self, edge: Edge) -> None:
        config = {"outbound_age_max_s": 60}
        async with edge(**config) as node, raw_session(node, receive_buffer=4 * KIB) as client:
            connection = connection_of(node)
            flood = frame(PING, b"x" * 125) * 2000
            while not connection.blocked_at:
                client.send(flood)
                await asyncio.sleep(0)
            most = 0
            for _ in range(50):
                client.send(flood)
                await client.writer.drain()
                await asyncio.sleep(0)
                assert connection.transport is not None
                most = max(most, connection.transport.get_write_buffer_size())
            # Over 13 MB of pings; what waits is what one read brought, plus the transport's own mark.
            assert most < 1024 * KIB
            assert len(connection.ws.writes) <= 1


class TestGoodbyes:
    async def test_a_client_that_closes_is_answered_and_gone(self, edge: Edge) -> None:
        async with edge() as node, raw_session(node) as client:
            client.send(frame(CLOSE, struct.pack("!H", 3000) + b"bye"))
            assert await client.frame() == (CLOSE, struct.pack("!H", 3000) + b"bye")
            assert await client.ended() == b""
            assert len(node.hub) == 0
            assert not await node.services.presence.online("alice")

    async def test_a_close_without_a_code(self, edge: Edge) -> None:
        async with edge() as node, raw_session(node) as client:
            client.send(frame(CLOSE))
            assert await client.frame() == (CLOSE, b"")
            await client.ended()

    async def test_a_client_that_answers_our_close_sees_a_clean_end(self, edge: Edge) -> None:
        async with edge() as node:
            socket = await open_socket(node, await node.services.tokens.issue("alice", "Alice"))
            await eventually(lambda: len(node.hub) == 1)
            (session,) = node.hub
            session.cut(Closing.of(codes.GOING_AWAY, "the node drains", retry_after_ms=7))
            async with asyncio.timeout(5):
                await socket.wait_closed()
            assert socket.close_code == 1001
            assert json.loads(socket.close_reason or "") == {
                "code": 1001,
                "reason": "the node drains",
                "retry_after_ms": 7,
            }

    async def test_behind_our_close_nothing_comes_and_nobody_waits_for_an_answer_to_it(self, edge: Edge) -> None:
        async with edge(close_linger_ms=60_000) as node, raw_session(node) as client:
            await kick(node)
            assert (await client.closed())[0] == 4505
            # The end is there with the close, while this side has answered nothing.
            assert await client.ended() == b""
            assert len(node.listener.connections) == 1
            # What a client had under way then is neither answered nor a fault.
            client.send(frame(PING, b"still there?"))
            client.text({"type": "ping", "id": "1"})
            client.send(frame(CLOSE, struct.pack("!H", 4505)))
            await eventually(lambda: not node.listener.connections)

    @pytest.mark.parametrize("half", [True, False], ids=["half-close", "reset"])
    async def test_a_client_that_just_goes_is_forgotten(self, edge: Edge, half: bool) -> None:
        async with edge() as node, raw_session(node) as client:
            if half:
                client.writer.write_eof()
                await client.ended()
            else:
                client.writer.transport.abort()
            await eventually(lambda: not node.listener.connections)
            assert len(node.hub) == 0

            async def offline() -> bool:
                return not await node.services.presence.online("alice")

            await eventually(offline)

    async def test_a_drain_says_going_away_first(self, edge: Edge) -> None:
        async with edge(reconnect_spread_ms=1000) as node, raw_session(node) as client:
            node.drain()
            push = await client.message("going_away")
            assert 0 <= push["reconnect_after_ms"] <= 1000
            code, reason = await client.closed()
            assert code == 1001
            assert reason["retry_after_ms"] == push["reconnect_after_ms"]


async def test_a_dropped_user_hears_why_and_until_when(edge: Edge) -> None:
    async with edge() as node, raw_session(node) as client:
        async with asyncio.timeout(5):
            ban = asyncio.create_task(node.services.bans.ban(["alice"], minutes=5, reason="spam"))
            code, reason = await client.closed()
            await ban
        assert (code, reason["code"], reason["reason"]) == (4502, 31011, "spam")
        assert 0 < reason["until"] - time.time() * 1000 < 301_000
