"""What a live connection may send, what it gets, and what ends it."""

import asyncio
import json
from typing import Any

import pytest

from gateway.metrics import METRICS
from tests.nodes import Client, login
from tests.transport.conftest import Edge
from tests.transport.wire import BINARY, CLOSE, CONT, PING, PONG, TEXT, frame, raw_session
from tests.waiting import eventually

KIB = 1024


async def is_fine(client: Client) -> bool:
    return (await client.ask("ping"))["type"] == "pong"


class TestBadCommands:
    @pytest.mark.parametrize(
        ("payload", "id_", "reason"),
        [
            (b"hello", None, "malformed"),
            (b"", None, "truncated"),
            (b"[1]", None, "object"),
            (b'{"type":"nope","id":"7"}', "7", "$.type"),
            (b'{"id":"7"}', "7", "type"),
            (b'{"type":"send","id":"7","to":5,"body":1}', "7", "$.to"),
            (b'{"type":"send","id":"7","to":"bob"}', "7", "body"),
            (b'{"type":"send","id":"7","to":"' + b"x" * 65 + b'","body":1}', "7", "$.to"),
            (b'{"type":"send","id":"","to":"bob","body":1}', None, "$.id"),
            (b'{"type":"send","id":"7","to":"bob","body":1,"retry":true}', "7", "$.key"),
            (b'{"type":"watch","id":"7","users":[]}', "7", "$.users"),
            (b'{"type":"ack","cursor":"nonsense"}', None, "$.cursor"),
            (b'{"type":"blocklist.add","id":"7","users":["a b"]}', "7", "$.users[0]"),
            (b'{"type":"blocklist.list","id":"7","page":"nonsense"}', "7", "page"),
            (b'{"type":"nope","id":"7","x":' + b"[" * 50_000, None, "$.type"),
            (b'{"type":"send","id":"7","to":"bob","body":' + b"[" * 50_000 + b"]" * 50_000 + b"}", None, "deep"),
        ],
        ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else "",
    )
    async def test_each_says_what_is_wrong_and_the_connection_stays(
        self, edge: Edge, payload: bytes, id_: str | None, reason: str
    ) -> None:
        async with edge() as node, raw_session(node) as client:
            client.text(payload)
            error = await client.message()
            assert (error["type"], error["code"], error.get("id")) == ("error", 400, id_)
            assert reason in error["reason"]
            client.text({"type": "ping", "id": "8"})
            assert (await client.message())["type"] == "pong"

    async def test_ten_in_a_row_close(self, edge: Edge) -> None:
        async with edge() as node, raw_session(node) as client:
            before = METRICS.commands_bad
            for _ in range(20):
                client.text(b"{")
            code, reason = await client.closed()
            assert (code, reason["code"]) == (4002, 4002)
            assert [json.loads(payload)["code"] for _, payload in client.frames] == [400] * 10
            assert METRICS.commands_bad - before == 10

    async def test_a_close_that_came_with_them_is_what_counts(self, edge: Edge) -> None:
        async with edge() as node, raw_session(node) as client:
            client.send(frame(TEXT, b"{") * 20 + frame(CLOSE, b"\x03\xe8"))
            assert await client.frame() == (CLOSE, b"\x03\xe8")

    async def test_an_unknown_recipient(self, edge: Edge) -> None:
        async with edge() as node:
            alice = await login(node, "alice")
            for to in ("nobody", "no body", "x\ny", "€", "\x00"):
                assert (await alice.send(to))["code"] == 404
            await alice.close()

    async def test_a_body_too_large(self, edge: Edge) -> None:
        async with edge() as node:
            alice, bob = await login(node, "alice"), await login(node, "bob")
            largest = "x" * (128 * KIB - 2)
            assert (await alice.send("bob", largest))["type"] == "sent"
            assert (await bob.next("message"))["body"] == largest
            refused = await alice.send("bob", largest + "x")
            assert (refused["type"], refused["code"]) == ("error", 30016)
            assert await is_fine(alice)
            await alice.close()
            await bob.close()

    async def test_a_body_goes_byte_for_byte(self, edge: Edge) -> None:
        body = b'{ "b" : 1.50,"a":[1e2 ,"\\u00e9\\/\xc3\xa9"],"n":12345678901234567890}'
        async with edge() as node, raw_session(node, "alice") as alice, raw_session(node, "bob") as bob:
            alice.text(b'{"type":"send","id":"1","to":"bob","body":' + body + b"}")
            while True:
                opcode, payload = await bob.frame()
                if opcode == TEXT and b'"message"' in payload:
                    break
            assert b'"body":' + body + b"}" in payload


class TestRate:
    async def test_over_the_rate_is_refused_with_the_time_to_wait(self, edge: Edge) -> None:
        async with edge(send_rate_per_s=10, send_burst=10) as node:
            await login(node, "bob")
            alice = await login(node, "alice")
            for _ in range(10):
                assert (await alice.send("bob"))["type"] == "sent"
            refused = await alice.send("bob")
            assert refused["code"] == 20604
            assert 0 < refused["retry_after_ms"] <= 1000

            async def again() -> bool:
                return (await alice.send("bob"))["type"] == "sent"

            await eventually(again)

    async def test_a_flood_is_closed(self, edge: Edge) -> None:
        async with edge(send_rate_per_s=1, send_burst=1) as node, raw_session(node) as client:
            client.send(frame(TEXT, b'{"type":"send","id":"1","to":"alice","body":1}') * 1000)
            code, reason = await client.closed()
            assert (code, reason["code"]) == (4003, 4003)
            assert reason["retry_after_ms"] > 0
            errors = [json.loads(payload) for opcode, payload in client.frames if b"20604" in payload]
            assert len(errors) == 200


class TestFrames:
    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (frame(BINARY, b"{}"), 1003),
            (frame(BINARY, b"{", fin=False), 1003),
            (frame(TEXT, b"x" * (160 * KIB + 1)), 1009),
            (frame(TEXT, b"x" * 100 * KIB, fin=False) + frame(CONT, b"x" * 100 * KIB), 1009),
            (b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", 1009),
            (frame(TEXT, b"{", fin=False) + frame(CONT, b" ", fin=False) * 100, 1009),
            (frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * 100, 1009),
            (frame(TEXT, b'{"type":"ping","id":"\xff"}'), 1007),
            (frame(TEXT, b'{"type":"send","id":"1","to":"bob","body":"\xc3\x28"}'), 1007),
            (frame(TEXT, b'{"type":"send","id":"1","to":"bob","body":"\xed\xa0\x80"}'), 1007),
            (frame(TEXT, b'{"type":"ping","id":"\xe2\x82', fin=False) + frame(CONT, b'"}'), 1007),
            (frame(TEXT, b"{}", mask=None), 1002),
            (frame(CONT, b"{}"), 1002),
            (frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), 1002),
            (frame(PING, b"x", fin=False), 1002),
            (frame(PING, b"x" * 126), 1002),
            (frame(3, b"x"), 1002),
            (frame(11, b"x"), 1002),
            (b"\xc1" + frame(TEXT, b"{}")[1:], 1002),
            (frame(CLOSE, b"\x03"), 1002),
            (frame(CLOSE, b"\x03\xed"), 1002),
            (frame(CLOSE, b"\x03\xe8\xff"), 1007),
        ],
        ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else str(value),
    )
    async def test_what_breaks_the_framing_closes_with_its_code(self, edge: Edge, data: bytes, code: int) -> None:
        async with edge() as node, raw_session(node) as client:
            client.send(data)
            found, reason = await client.closed()
            assert (found, reason["code"]) == (code, code)
            # Gone, although the close is never answered; and the user is offline no later.
            await client.ended()
            assert len(node.hub) == 0

    async def test_an_oversized_frame_that_is_still_being_sent_is_told_so(self, edge: Edge) -> None:
        # A reset because of unread bytes would take the close frame with it.
        async with edge() as node, raw_session(node) as client:
            client.send(frame(TEXT, b"x" * (4 * KIB * KIB)))
            assert (await client.closed())[0] == 1009

    async def test_fragments_make_a_command(self, edge: Edge) -> None:
        async with edge() as node, raw_session(node) as client:
            command = b'{"type":"ping","id":"\xe2\x82\xac"}'
            parts = [frame(CONT, command[at : at + 1], fin=False) for at in range(1, len(command))]
            client.send(frame(TEXT, command[:1], fin=False) + frame(PING, b"between") + b"".join(parts) + frame(CONT))
            assert await client.frame() == (PONG, b"between")
            assert (await client.message())["id"] == "€"

    async def test_pings_are_answered(self, edge: Edge) -> None:
        async with edge() as node, raw_session(node) as client:
            client.send(frame(PING, b"") + frame(PING, b"x" * 125))
            assert await client.frame() == (PONG, b"")
            assert await client.frame() == (PONG, b"x" * 125)

    async def test_the_largest_message_passes(self, edge: Edge) -> None:
        async with edge() as node, raw_session(node) as client:
            filler = b" " * (160 * KIB - len(b'{"type":"ping","id":"1"}'))
            client.send(frame(TEXT, b'{"type":"ping","id":"1"' + filler + b"}"))
            assert (await client.message())["type"] == "pong"


class TestHeartbeat:
    async def test_a_silent_client_is_pinged_and_then_closed(self, edge: Edge) -> None:
        async with edge(heartbeat_s=0.2, heartbeat_timeout_s=0.2) as node, raw_session(node) as client:
            before = METRICS.heartbeat_timeouts
            code, reason = await client.closed()
            assert (code, reason["code"]) == (4004, 4004)
            assert [opcode for opcode, _ in client.frames] == [PING]
            assert METRICS.heartbeat_timeouts == before + 1
            assert len(node.hub) == 0

    async def test_one_that_answers_stays(self, edge: Edge) -> None:
        async with edge(heartbeat_s=0.1, heartbeat_timeout_s=2) as node, raw_session(node) as client:
            for _ in range(5):
                assert await client.frame() == (PING, b"")
                client.send(frame(PONG, b""))
            client.text({"type": "ping", "id": "1"})
            assert (await client.message())["type"] == "pong"

    async def test_one_that_talks_needs_no_ping(self, edge: Edge) -> None:
        async with edge(heartbeat_s=1, heartbeat_timeout_s=1) as node, raw_session(node) as client:
            loop = asyncio.get_running_loop()
            until = loop.time() + 2.5
            while loop.time() < until:
                client.text({"type": "ping", "id": "1"})
                opcode, _ = await client.frame()
                assert opcode == TEXT
                await asyncio.sleep(0.02)


async def test_a_session_hears_of_its_sisters_and_their_copies(edge: Edge) -> None:
    # Another session of the user comes and goes; a message to the user reaches both.
    async with edge() as node:
        web = await login(node, "alice", "?platform=web")
        phone = await login(node, "alice", "?platform=ios&device=p1")
        opened: dict[str, Any] = await web.next("session")
        assert (opened["event"], opened["device"], opened["platform"]) == ("opened", "p1", "ios")
        bob = await login(node, "bob")
        sent = await bob.send("alice", {"n": 1})
        assert (await web.next("message"))["mid"] == (await phone.next("message"))["mid"] == sent["mid"]
        await phone.close()
        assert (await web.next("session"))["event"] == "closed"
        await web.close()
        await bob.close()


async def test_nothing_is_written_after_a_standstill_before_it_is_told(edge: Edge) -> None:
    async with edge() as node, raw_session(node):
        listener = node.listener
        (connection,) = listener.connections
        gaps: list[float] = []
        listener.on_gap = gaps.append
        for count, write in enumerate((listener._flush, connection.resume_writing), 1):
            listener.ticked_at -= 60
            write()
            assert len(gaps) == count
