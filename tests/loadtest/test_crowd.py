"""A crowd against a server that lies: each kind of wrong is found, by its name, and an honest server is found fine."""

from __future__ import annotations

import asyncio
import base64
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve

from loadtest import ledger, stamp
from loadtest.crowd import Crowd
from loadtest.dialect import GatewayDialect
from loadtest.ledger import Said, judged
from loadtest.plan import Plan
from loadtest.pulse import Pulse
from loadtest.result import Verdict
from loadtest.scenario import Scenario
from tests.waiting import eventually

SECRET = "0123456789abcdef0123456789abcdef"
Trick = Callable[[int, dict[str, object]], list[dict[str, object]]]
"""The number of a message that came, and the push it is to become: the pushes it becomes."""


class Server:
    """Speaks the gateway's protocol as far as a crowd needs it."""

    def __init__(self, trick: Trick, refuses: Callable[[int], int | None]) -> None:
        self.users: dict[str, ServerConnection] = {}
        self.blocks: set[tuple[str, str]] = set()
        self.url = ""
        self.frozen = False
        self._trick, self._refuses = trick, refuses
        self._numbers = itertools.count(1)

    async def talk(self, socket: ServerConnection) -> None:
        """One client."""
        assert socket.request is not None
        token = socket.request.headers["Authorization"].split(".")[1]
        user = orjson.loads(base64.urlsafe_b64decode(token + "=="))["sub"]
        self.users[user] = socket
        await say(socket, {"type": "welcome", "cursor": "0"})
        async for text in socket:
            command = orjson.loads(text)
            if command["type"] == "blocklist.add":
                self.blocks |= {(user, other) for other in command["users"]}
                await say(socket, {"type": "ok", "id": command["id"]})
            elif command["type"] == "send":
                await self._relay(socket, user, command)

    async def _relay(self, socket: ServerConnection, user: str, command: dict[str, object]) -> None:
        if self.frozen:
            return
        number, to = next(self._numbers), str(command["to"])
        code = self._refuses(number) or (405 if (to, user) in self.blocks else None)
        if code:
            await say(socket, {"type": "error", "id": command["id"], "code": code, "reason": "no"})
            return
        push = {"type": "message", "cursor": f"c{number}", "from": user, "to": to, "body": command["body"]}
        for each in self._trick(number, push):
            await say(self.users[str(each["to"])], each)
        await say(socket, {"type": "sent", "id": command["id"], "mid": "m", "sent_at": 1, "online": True})


async def say(socket: ServerConnection, what: dict[str, object]) -> None:
    """As text."""
    await socket.send(orjson.dumps(what).decode())


def honest(number: int, push: dict[str, object]) -> list[dict[str, object]]:
    return [push]


@asynccontextmanager
async def crowd_at(
    scenario: Scenario, trick: Trick = honest, refuses: Callable[[int], int | None] = lambda number: None
) -> AsyncIterator[tuple[Crowd, Server]]:
    """A crowd that is online at a server with a trick."""
    server = Server(trick, refuses)
    async with serve(server.talk, "127.0.0.1", 0, subprotocols=["gateway.v1"], compression=None) as listening:  # type: ignore[list-item]
        port = next(iter(listening.sockets)).getsockname()[1]
        server.url = f"ws://127.0.0.1:{port}/v1/connect"
        plan = Plan(
            scenario=scenario,
            run="test",
            number=0,
            first=0,
            behind=scenario.users,
            url=server.url,
            host="127.0.0.1",
            port=port,
            app_key="app",
            app_secret=SECRET,
            sources=[""],
        )
        crowd = Crowd(plan, GatewayDialect(server.url))
        try:
            assert all([await crowd.open(user) for user in crowd.users.values()])
            if scenario.refused_share:
                assert await crowd.block_all() == {"listed": scenario.users, "of": scenario.users}
            yield crowd, server
        finally:
            for user in crowd.users.values():
                await crowd.close(user)


async def talked(crowd: Crowd, messages: int = 200) -> Verdict:
    """What is found when about so many messages were sent in a closed loop."""
    crowd.window = 2
    for user in crowd.users.values():
        crowd.begin(user)
    await eventually(lambda: crowd.said >= messages)
    crowd.window = 0
    await eventually(lambda: crowd.waiting() == 0)
    # Answers come behind the messages they answer; others' messages may still be on the way.
    await asyncio.sleep(0)
    await eventually(lambda: crowd.heard >= crowd.acknowledged or judged([crowd.ledger.page()]).faults > 0)
    return judged([crowd.ledger.page()])


CHAT = Scenario(users=6)


async def test_an_honest_server_is_found_fine() -> None:
    async with crowd_at(CHAT) as (crowd, _):
        verdict = await talked(crowd)
        assert verdict.faults == 0, verdict
        assert crowd.heard == crowd.acknowledged == crowd.said >= 200
        assert crowd.histograms["delivery"].total == crowd.heard
        assert crowd.histograms["sent"].total == crowd.acknowledged
        assert crowd.histograms["login"].total == 6


HELD: list[dict[str, object]] = []


def swapping(number: int, push: dict[str, object]) -> list[dict[str, object]]:
    """Holds the 50th message back until the next one to the same user."""
    if number == 50:
        HELD[:] = [push]
        return []
    if HELD and HELD[0]["to"] == push["to"]:
        return [push, HELD.pop()]
    return [push]


def astray(number: int, push: dict[str, object]) -> list[dict[str, object]]:
    """Gives the 50th message to somebody else too."""
    other = str(push["to"])[:-1] + str((int(str(push["to"])[-1]) + 3) % 6)
    return [push, push | {"to": other}] if number == 50 else [push]


@pytest.mark.parametrize(
    ("trick", "fault"),
    [
        (lambda number, push: [] if number == 50 else [push], "lost"),
        (lambda number, push: [push, push] if number == 50 else [push], "duplicated"),
        (swapping, "reordered"),
        (astray, "wrongly_delivered"),
        (lambda number, push: [push | {"from": f"{push['from']}0"}] if number == 50 else [push], "wrongly_delivered"),
    ],
    ids=["lost", "duplicated", "reordered", "astray", "misnamed"],
)
async def test_a_wrong_delivery_is_found_and_named(trick: Trick, fault: str) -> None:
    async with crowd_at(CHAT, trick) as (crowd, _):
        verdict = await talked(crowd)
        assert {name: count for name, count in verdict.counts().items() if count} == {fault: 1}, verdict
        assert len(verdict.examples) == 1


def mirrored(number: int, push: dict[str, object]) -> list[dict[str, object]]:
    """Gives the 50th message back to the very socket that sent it, too: the server knows one socket of each user."""
    return [push, push | {"to": push["from"]}] if number == 50 else [push]


async def test_a_message_that_comes_back_to_the_socket_that_sent_it_is_no_echo() -> None:
    async with crowd_at(CHAT, mirrored) as (crowd, _):
        verdict = await talked(crowd)
        assert {name: count for name, count in verdict.counts().items() if count} == {"wrongly_delivered": 1}
        assert "echoes" not in crowd.counts


async def test_what_the_first_device_sends_may_come_to_the_second() -> None:
    async with crowd_at(Scenario(users=6, devices=2), mirrored) as (crowd, _):
        # The socket that came last is the second device's, which says nothing itself.
        await talked(crowd)
        assert crowd.ledger.verdict.wrongly_delivered == 0
        assert crowd.counts["echoes"] == 1


async def test_a_wrong_refusal_is_found() -> None:
    async with crowd_at(CHAT, refuses=lambda number: 405 if number == 50 else None) as (crowd, _):
        verdict = await talked(crowd)
        assert {name: count for name, count in verdict.counts().items() if count} == {"wrongly_refused": 1}


async def test_an_error_that_is_no_policy_is_counted_by_its_code_and_is_no_loss() -> None:
    async with crowd_at(CHAT, refuses=lambda number: 503 if number == 50 else None) as (crowd, _):
        assert (await talked(crowd)).faults == 0
        assert crowd.counts["errors"] == crowd.counts["error_503"] == 1


async def test_what_policy_must_refuse_is_expected_to_be_refused() -> None:
    async with crowd_at(Scenario(users=6, refused_share=0.2)) as (crowd, server):
        assert len(server.blocks) == 6
        assert (await talked(crowd)).faults == 0
        assert crowd.counts["refused"] > 0


async def test_what_policy_lets_pass_though_it_must_not_is_found_once_each() -> None:
    async with crowd_at(Scenario(users=6, refused_share=0.2)) as (crowd, server):
        server.blocks.clear()
        verdict = await talked(crowd)
        passed = sum(crowd.ledger.accepted.values())
        assert passed > 0
        assert verdict.counts() == Verdict(wrongly_delivered=passed).counts()


async def test_a_socket_that_ends_excuses_what_had_no_answer_and_the_stream_goes_on() -> None:
    async with crowd_at(CHAT) as (crowd, server):
        assert (await talked(crowd)).faults == 0
        user = crowd.users[3]
        await server.users[user.name].close(4005)
        await eventually(lambda: not user.online)
        assert crowd.counts["cut"] == 1
        assert user.since[0].startswith("c")
        assert await crowd.open(user)
        assert (await talked(crowd, crowd.said + 100)).faults == 0


async def test_one_reconnect_does_not_excuse_whatever_ephemeral_is_lost_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "AROUND_US", 1_000)
    monkeypatch.setattr(Said, "mark", lambda said, n, at: said.marks.append((n, at)))
    lost = False
    async with crowd_at(Scenario(users=6, ephemeral_share=1.0), lambda _, push: [] if lost else [push]) as (crowd, at):
        assert (await talked(crowd)).faults == 0
        for user in crowd.users.values():
            await at.users[user.name].close(1001)
            await eventually(lambda user=user: not user.online)  # type: ignore[misc]
            assert await crowd.open(user)
        assert (await talked(crowd, crowd.said + 100)).faults == 0
        await asyncio.sleep(0.01)
        heard, lost = crowd.heard, True
        verdict = await talked(crowd, crowd.said + 100)
        assert crowd.heard == heard
        assert verdict.lost >= 100


async def test_numbers_of_a_socket_begin_anew_before_a_frame_has_no_room_for_them() -> None:
    async with crowd_at(CHAT) as (crowd, _):
        for user in crowd.users.values():
            wire = user.wires[0]
            assert wire is not None
            wire.last_id = stamp.LAST_ID - 3
        assert (await talked(crowd)).faults == 0
        assert crowd.heard >= 200
        assert crowd.connections == 6
        assert crowd.failures == []


async def test_a_new_epoch_lets_each_message_come_once_more_and_not_twice() -> None:
    sent: list[dict[str, object]] = []

    def kept(number: int, push: dict[str, object]) -> list[dict[str, object]]:
        sent.append(push)
        return [push]

    async def again(server: Server, crowd: Crowd, times: int) -> None:
        before = crowd.counts.get("repeated", 0) + crowd.ledger.verdict.duplicated
        for push in sent * times:
            await say(server.users[str(push["to"])], push)
        came = before + times * len(sent)
        await eventually(lambda: crowd.counts.get("repeated", 0) + crowd.ledger.verdict.duplicated == came)

    async with crowd_at(CHAT, kept) as (crowd, server):
        assert (await talked(crowd)).faults == 0
        for epoch in (1, 2):
            for socket in server.users.values():
                await say(socket, {"type": "resync", "cursor": f"e{epoch}-0"})
            await again(server, crowd, 1)
            assert (crowd.counts["repeated"], crowd.ledger.verdict.duplicated) == (epoch * len(sent), 0)
        await again(server, crowd, 2)
        assert crowd.ledger.verdict.duplicated == 2 * len(sent)


async def test_what_has_no_answer_in_the_end_is_unknown_and_not_lost() -> None:
    async with crowd_at(CHAT) as (crowd, server):
        await talked(crowd)
        server.frozen = True
        crowd.window = 2
        for user in crowd.users.values():
            crowd.begin(user)
        await eventually(lambda: crowd.waiting() == 2 * CHAT.users)
        # Asked for again: whoever judges may look before all is over.
        assert [judged([crowd.page()]).faults for _ in range(2)] == [0, 0]


async def test_the_open_loop_keeps_its_rate_and_counts_from_the_intended_time() -> None:
    async with crowd_at(CHAT) as (crowd, _):
        pulse = Pulse(crowd)
        loop = asyncio.get_running_loop()
        began = loop.time()
        pulse.beat(2000)
        await eventually(lambda: crowd.said >= 300)
        took = loop.time() - began
        pulse.beat(0)
        await eventually(lambda: crowd.waiting() == 0 and crowd.heard == crowd.said)
        # Never faster than asked for: what is due later does not go out earlier.
        assert 300 <= crowd.said <= round(2000 * took, 3) + 1
        assert judged([crowd.ledger.page()]).faults == 0


async def test_a_generator_that_stood_still_says_so_in_its_latencies() -> None:
    async with crowd_at(CHAT) as (crowd, _):
        pulse = Pulse(crowd)
        pulse.beat(1000)
        # What holds the loop up holds the messages up that were to go out meanwhile: the latencies must tell.
        time.sleep(0.2)  # noqa: ASYNC251
        await eventually(lambda: crowd.heard >= 200)
        pulse.beat(0)
        await eventually(lambda: crowd.waiting() == 0)
        late = sum(count for us, count in crowd.histograms["delivery"].counts.items() if us >= 100_000)
        assert late >= 90


async def test_who_has_too_many_without_an_answer_is_left_out_and_counted() -> None:
    scenario = Scenario(users=6, unanswered_max=1)
    async with crowd_at(scenario) as (crowd, _):
        pulse = Pulse(crowd)
        pulse.beat(50_000)
        await eventually(lambda: crowd.counts.get("left_out", 0) > 100)
        pulse.beat(0)
        assert all(len(wire.waiting) <= 1 for user in crowd.users.values() if (wire := user.wires[0]))
        await eventually(lambda: crowd.waiting() == 0)
