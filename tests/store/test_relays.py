"""Messages that leave in one call: each is judged, stored, pushed and answered as if it had been alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from gateway.store import drops, messages, relationships
from gateway.store.errors import OutcomeUnknown, StoreUnavailable
from gateway.store.link import Link
from gateway.store.relaying import BYTES_MAX, MESSAGES_MAX, RelayLimits
from tests.proxy import Proxy
from tests.store.acts import OTHER, RETENTION_MS, Acts, asked, link_to
from tests.store.links import linked, quick
from tests.waiting import eventually

NODE = "a.1m"
LIMITS = RelayLimits(100, RETENTION_MS, 1 << 26)


class Sender:
    """Relays over a link, and keeps the answers in their order."""

    def __init__(self, acts: Acts, link: Link) -> None:
        self.keys = acts.keys
        self.link = link
        self.answers: list[tuple[str, Any]] = []

    def send(self, to: str, mid: str, *, body: str = "1", limits: RelayLimits = LIMITS) -> None:
        keys = self.keys.user(to)
        tail = f'"mid":"{mid}","from":"alice","to":"{to}","kind":"text","body":{body}}}'.encode()
        self.link.relay(0, keys.user, keys.inbox, "alice", "", tail, limits, self._answered, mid)

    def _answered(self, mid: str, answer: Any) -> None:
        self.answers.append((mid, answer))


def together(acts: Acts, count: int) -> list[str]:
    """Users of one partition: a call of a cluster stays in one slot."""
    partition = acts.keys.partition("u0")
    found = (f"u{index}" for index in range(1_000_000) if acts.keys.partition(f"u{index}") == partition)
    return [next(found) for _ in range(count)]


async def calls(acts: Acts) -> int:
    """FCALLs that the server has carried out."""
    text = await acts.store.topology.master(acts.keys.partition("u0")).execute("INFO", "commandstats")
    lines = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    stats = dict(pair.split("=") for pair in lines.get("cmdstat_fcall", "calls=0").split(","))
    return int(stats["calls"])


@asynccontextmanager
async def sending(acts: Acts, **options: Any) -> AsyncIterator[Sender]:
    link = link_to(acts.store.topology.master(acts.keys.partition("u0")).endpoint, **options)
    link.start()
    try:
        await eventually(lambda: link.up)
        yield Sender(acts, link)
    finally:
        await link.close()


async def test_each_is_judged_for_itself(acts: Acts) -> None:
    bob, carol, dave, erin, frank, nobody = together(acts, 6)
    await acts.register(bob, carol, dave, erin, frank)
    await acts.do(relationships.edit(acts.keys, carol, "block", "add", ["alice"], 10))
    await acts.do(relationships.set_allowlist(acts.keys, dave, True))
    await acts.raw(erin, "SET", acts.keys.user(erin).inbox, "no stream")
    await acts.do(drops.deactivate(acts.keys, frank, ""))
    # The last is nobody's name.
    sends = [("alice", to, "", f"to-{to}") for to in (bob, carol, dave, erin, frank, nobody, bob)]
    answers = await acts.send_many(*sends, ("alice", bob, "m", "muted"), ("alice", bob, "f", "no friend"))
    assert [answer for answer in answers if isinstance(answer, int)] == [405, 407, 31029, 404, 20106, 25469]
    assert isinstance(answers[3], OutcomeUnknown)
    assert "WRONGTYPE" in str(answers[3])
    places = [messages.parse_id(answers[index][1:]) for index in (0, 6)]
    assert places == sorted(places)
    assert [answers[index][:1] for index in (0, 6)] == [b"-", b"-"]
    assert await acts.inbox(bob) == [f"to-{bob}"] * 2
    for name in (carol, dave, frank):
        assert await acts.inbox(name) == []


async def test_a_full_inbox_refuses_the_rest(acts: Acts) -> None:
    bob, carol = together(acts, 2)
    await acts.register(bob, carol)
    sends = [("alice", to, "", f"m{index}") for index in range(3) for to in (bob, carol)]
    answers = await acts.send_many(*sends, inbox_max=2)
    assert [answer if isinstance(answer, int) else 0 for answer in answers] == [0, 0, 0, 0, 20607, 20607]


async def test_a_retry_finds_its_first_try_in_the_same_call(acts: Acts) -> None:
    bob = together(acts, 1)[0]
    await acts.register(bob)
    first, again = await acts.send_many(("alice", bob, "", "m1"), ("alice", bob, "r", "m1"))
    assert first == again
    assert await acts.inbox(bob) == ["m1"]


async def test_a_node_that_takes_batches_hears_of_all_at_once(acts: Acts) -> None:
    bob, carol = together(acts, 2)
    await acts.register(bob, carol)
    await acts.joined(bob, "s1", NODE)
    await acts.joined(carol, "s2", NODE)
    await acts.joined(carol, "s3", OTHER)
    async with acts.hearing(bob, NODE, OTHER) as (ear, other):
        sends = [("alice", bob, "", "m1"), ("alice", carol, "", "m2"), ("alice", bob, "e", "m3")]
        answers = await acts.send_many(*sends)
        assert [answer[:1] for answer in answers] == [b"+", b"+", b"+"]
        (batch,) = await ear.heard()
        heads = batch.split(b"\n", 10)
        assert heads[0] == b"M3"
        assert [heads[index] for index in (1, 4, 7)] == [bob.encode(), carol.encode(), bob.encode()]
        assert [heads[index] for index in (2, 5, 8)] == [answer[1:] for answer in answers]
        at, mids = 0, []
        for index in (3, 6, 9):
            push = orjson.loads(heads[-1][at : at + int(heads[index])])
            at += int(heads[index])
            mids.append((push["mid"], "cursor" in push))
        assert (mids, at) == ([("m1", True), ("m2", True), ("m3", False)], len(heads[-1]))
        # The other node is of the version before: it hears them one by one, as it knows them.
        (plain,) = await other.heard()
        assert plain.startswith(f"m{carol}\n".encode() + answers[1][1:] + b"\n{")
        await acts.send_many(("alice", bob, "", "m4"))
        assert (await ear.heard())[0].startswith(f"m{bob}\n".encode())


async def test_a_push_that_may_not_be_published_fails_no_other(acts: Acts) -> None:
    bob, carol, dave = together(acts, 3)
    await acts.register(bob, carol, dave)
    await acts.joined(bob, "s1", NODE)
    await acts.joined(carol, "s2", OTHER)
    await acts.joined(dave, "s3", NODE)
    master = acts.store.topology.master(acts.keys.partition("u0"))
    async with acts.hearing(bob, NODE) as (ear,):
        await master.execute("ACL", "SETUSER", "default", "resetchannels", f"&*{NODE}")
        try:
            answers = await acts.send_many(*(("alice", to, "", f"m{to}") for to in (bob, carol, carol, dave)))
        finally:
            await master.execute("ACL", "SETUSER", "default", "allchannels")
        assert [type(answer) for answer in answers] == [bytes, OutcomeUnknown, OutcomeUnknown, bytes]
        assert (await ear.heard())[0].startswith(b"M2\n")
        assert [len(await acts.inbox(to)) for to in (bob, carol, dave)] == [1, 2, 1]


async def test_nobody_is_reached_where_the_node_is_gone(acts: Acts) -> None:
    bob, carol = together(acts, 2)
    await acts.register(bob, carol)
    await acts.joined(bob, "s1", NODE)
    answers = await acts.send_many(*(("alice", to, flags, "m") for to in (bob, carol) for flags in ("", "e")))
    assert [answer[:1] for answer in answers] == [b"-"] * 4
    assert [len(answer) > 1 for answer in answers] == [True, False, True, False]


async def test_a_turn_is_one_call(acts: Acts) -> None:
    bob, carol = together(acts, 2)
    await acts.register(bob, carol)
    async with sending(acts) as sender:
        before = await calls(acts)
        for index in range(MESSAGES_MAX + 1):
            sender.send(bob if index % 2 else carol, f"m{index}")
        await eventually(lambda: len(sender.answers) == MESSAGES_MAX + 1)
        assert [mid for mid, _ in sender.answers] == [f"m{index}" for index in range(MESSAGES_MAX + 1)]
        assert await calls(acts) - before == 2
        large = "1" * (BYTES_MAX // 3)
        before = await calls(acts)
        for index in range(4):
            sender.send(bob, f"large{index}", body=large)
        await eventually(lambda: len(sender.answers) == MESSAGES_MAX + 5)
        assert await calls(acts) - before == 2
        assert sender.link._gathered == 0


async def test_limits_that_have_changed_begin_another_call(acts: Acts) -> None:
    bob = together(acts, 1)[0]
    await acts.register(bob)
    async with sending(acts) as sender:
        sender.send(bob, "m1")
        sender.send(bob, "m2", limits=LIMITS._replace(inbox_max=1))
        await eventually(lambda: len(sender.answers) == 2)
        assert sender.answers[1] == ("m2", 20607)


async def test_other_commands_keep_their_place_between_messages(acts: Acts) -> None:
    bob = together(acts, 1)[0]
    await acts.register(bob)
    keys = acts.keys.user(bob)
    async with sending(acts) as sender:
        lengths: list[int] = []
        for index in range(3):
            sender.send(bob, f"m{index}")
            sender.link.post(("XLEN", keys.inbox), lambda _, reply: lengths.append(reply))
        await eventually(lambda: len(lengths) == 3)
        assert lengths == [1, 2, 3]


async def test_each_message_counts_as_outstanding(acts: Acts) -> None:
    bob = together(acts, 1)[0]
    await acts.register(bob)
    async with sending(acts, pending_max=10) as sender:
        for index in range(12):
            sender.send(bob, f"m{index}")
        refused = [mid for mid, answer in sender.answers if isinstance(answer, StoreUnavailable)]
        assert refused == ["m10", "m11"]
        await eventually(lambda: len(sender.answers) == 12)
        assert await acts.inbox(bob) == [f"m{index}" for index in range(10)]
        sender.send(bob, "after")
        await eventually(lambda: sender.answers[-1][0] == "after")
        assert isinstance(sender.answers[-1][1], bytes)


async def test_a_break_tells_what_may_be_stored_from_what_is_not(acts: Acts, proxy: Proxy) -> None:
    bob = together(acts, 1)[0]
    await acts.register(bob)
    async with linked(proxy.url, times=quick(probe_s=60)) as (link, _):
        sender = Sender(acts, link)
        await asked(link, "PING")
        proxy.pause()
        sender.send(bob, "m1")
        sender.send(bob, "m2")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sender.send(bob, "m3")
        link.rebuild("the test wants it")
        kinds = {mid: type(answer) for mid, answer in sender.answers}
        assert kinds == {"m1": OutcomeUnknown, "m2": OutcomeUnknown, "m3": StoreUnavailable}
        sender.send(bob, "m4")
        assert type(sender.answers[-1][1]) is StoreUnavailable
        assert link._gathered == 0


async def test_a_late_answer_is_unknown_for_all_of_it(acts: Acts, proxy: Proxy) -> None:
    bob = together(acts, 1)[0]
    await acts.register(bob)
    times = quick(timeout_s=0.1, probe_s=60, probe_timeout_s=60)
    async with linked(proxy.url, times=times) as (link, _):
        sender = Sender(acts, link)
        await asked(link, "PING")
        proxy.pause()
        for index in range(3):
            sender.send(bob, f"m{index}")
        await eventually(lambda: len(sender.answers) == 3)
        assert all(isinstance(answer, OutcomeUnknown) for _, answer in sender.answers)
        proxy.resume()
        assert await asked(link, "ECHO", "x") == b"x"
        assert len(sender.answers) == 3


async def test_a_message_that_cannot_leave_is_not_waited_for_for_ever(acts: Acts, proxy: Proxy) -> None:
    await acts.register("bob")
    async with linked(proxy.url, times=quick(timeout_s=0.1, probe_s=60, probe_timeout_s=60)) as (link, _):
        sender = Sender(acts, link)
        # The first probe has come back: nothing else is sent that would close the batch.
        await eventually(lambda: link.echoed and not link._pending)
        link.pause_writing()
        sender.send("bob", "m1")
        await eventually(lambda: sender.answers)
        assert isinstance(sender.answers[0][1], OutcomeUnknown)


@pytest.mark.parametrize("reply", [b"$7\r\n+1-1\n-2\r\n", b"$6\r\n\nx-1\n!\r\n", b":1\r\n", b"*0\r\n"])
async def test_an_answer_that_cannot_be_read_is_an_unknown_outcome(acts: Acts, reply: bytes) -> None:
    bob = together(acts, 1)[0]
    await acts.register(bob)
    async with sending(acts) as sender:
        await asked(sender.link, "PING")
        for index in range(3):
            sender.send(bob, f"m{index}")
        sender.link._flush()
        sender.link.data_received(reply)
        assert [type(answer) for _, answer in sender.answers] == [OutcomeUnknown] * 3


async def test_one_callback_that_fails_leaves_the_others(acts: Acts, caplog: pytest.LogCaptureFixture) -> None:
    bob = together(acts, 1)[0]
    await acts.register(bob)
    async with sending(acts) as sender:
        keys = acts.keys.user(bob)

        def fails(_: object, __: object) -> None:
            raise ValueError("of the test")

        sender.link.relay(0, keys.user, keys.inbox, "alice", "", b'"mid":"x"}', LIMITS, fails, None)
        sender.send(bob, "m1")
        await eventually(lambda: sender.answers)
        assert isinstance(sender.answers[0][1], bytes)
