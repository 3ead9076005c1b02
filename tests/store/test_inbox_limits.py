"""How much an inbox holds, on every kind of store: its size in bytes, echoes, and what all devices have acked."""

import re
import time

from gateway.protocol.codes import Code
from gateway.store import messages
from tests.store.acts import DAY_MS, RETENTION_MS, Acts, session
from tests.waiting import eventually

KIB = 1024


async def size(acts: Acts, user: str) -> int:
    return int(await acts.raw(user, "MEMORY", "USAGE", acts.keys.user(user).inbox, "SAMPLES", 0))


async def fill(acts: Acts, user: str, body_bytes: int, bytes_max: int) -> list[str]:
    """Sends until the inbox is full; the mids that it took."""
    taken: list[str] = []
    while True:
        mid = f"m{len(taken)}"
        reply = await acts.send(
            "alice", user, mid=mid, body=f'"{"x" * body_bytes}"', inbox_max=10_000, inbox_bytes_max=bytes_max
        )
        if reply == [Code.INBOX_FULL]:
            return taken
        taken.append(mid)
        assert len(taken) < 5000


async def calls_of(acts: Acts, user: str, name: str) -> int:
    """How often the user's server has run a command since its statistics were reset."""
    found = re.search(rf"cmdstat_{name}:calls=(\d+)", (await acts.raw(user, "INFO", "commandstats")).decode())
    return int(found[1]) if found else 0


async def test_an_inbox_is_full_by_its_bytes_and_nothing_that_waits_is_lost(acts: Acts) -> None:
    await acts.register("bob")
    who = await acts.joined("bob", "s1", device="d1")
    # Small ones first, so that a look at the first entries alone would say little.
    for number in range(70):
        assert (await acts.send("alice", "bob", mid=f"s{number}"))[0] == 0
    taken = await fill(acts, "bob", 4 * KIB, 448 * KIB)
    # Found at the first multiple of 64 behind the limit, the 192nd entry: far enough from it, whatever an entry costs.
    assert len(taken) == 192 - 70
    assert 448 * KIB < await size(acts, "bob") < (448 + 64 * 5) * KIB
    waiting = await acts.inbox("bob")
    assert waiting == [f"s{number}" for number in range(70)] + taken
    assert len(waiting) % 64 == 0
    # What is not kept does not count.
    assert (await acts.send("alice", "bob", flags="e", inbox_bytes_max=448 * KIB))[0] == 0
    # What was acked gives way, though not before a second is over: the size is not looked at each time.
    place = (await acts.entries("bob"))[99].place
    await acts.ack("bob", "d1", who.epoch, place)

    async def fits() -> bool:
        return bool((await acts.send("alice", "bob", mid="new", inbox_bytes_max=448 * KIB))[0] == 0)

    await eventually(fits)
    assert await acts.inbox("bob") == [*waiting[100:], "new"]
    assert await acts.field("bob", "floor") == "{}-{}".format(*place)


async def test_a_refusal_by_size_does_not_look_at_the_size_each_time(acts: Acts) -> None:
    await acts.register("bob")
    await fill(acts, "bob", 2 * KIB, 64 * KIB)
    await acts.raw("bob", "CONFIG", "RESETSTAT")
    began = time.monotonic()
    for _ in range(500):
        assert await acts.send("alice", "bob", inbox_max=10_000, inbox_bytes_max=64 * KIB) == [Code.INBOX_FULL]
    # A look walks over the stream up to twice where there is something to give up, and comes once a second.
    assert await calls_of(acts, "bob", "memory\\|usage") <= 3 * (time.monotonic() - began + 2)


async def test_the_size_is_not_looked_at_in_an_inbox_of_few(acts: Acts) -> None:
    await acts.register("bob")
    await acts.raw("bob", "CONFIG", "RESETSTAT")
    for number in range(64):
        assert (await acts.send("alice", "bob", mid=f"m{number}", inbox_bytes_max=1))[0] == 0
    assert await calls_of(acts, "bob", "memory\\|usage") == 0
    assert await acts.send("alice", "bob", mid="m64", inbox_bytes_max=1) == [Code.INBOX_FULL]
    assert await calls_of(acts, "bob", "memory\\|usage") > 0


async def grow(acts: Acts, user: str, length: int) -> None:
    """Puts small messages into an inbox until it is that long, past what a sender is asked."""
    more = length - int(await acts.raw(user, "XLEN", acts.keys.user(user).inbox))
    script = "for _ = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'm', ARGV[2]) end"
    tail = '"mid":"old","from":"alice","to":"bob","kind":"text","body":1}'
    await acts.raw(user, "EVAL", script, 1, acts.keys.user(user).inbox, more, tail)


async def test_a_long_inbox_is_looked_at_less_often_and_large_messages_are_as_often_as_before(acts: Acts) -> None:
    await acts.register("bob")
    await acts.joined("bob", "s1", device="d1")
    large = f'"{"x" * 5 * KIB}"'

    async def looked(length: int, body: str = "1") -> bool:
        await grow(acts, "bob", length)
        await acts.raw("bob", "CONFIG", "RESETSTAT")
        assert (await acts.send("alice", "bob", mid=f"m{length}", body=body, inbox_max=100_000))[0] == 0
        return await calls_of(acts, "bob", "memory\\|usage") > 0

    for length, due in (
        (2048, True),
        (2112, False),
        (2176, True),
        (4224, False),
        (4352, True),
        (8448, False),
        (8704, True),
    ):
        assert await looked(length) is due, length
    # 8,768 is a multiple of 64 only.
    assert await looked(8768, large)
    assert not await looked(8832)
    # An echo is looked at where a message is.
    await grow(acts, "bob", 9216)
    limit = await size(acts, "bob")
    tail = b'"mid":"e","from":"bob","to":"x","kind":"text","body":1}'
    assert await acts.do(messages.echo(acts.keys, "bob", "s1", tail, 100_000, RETENTION_MS, limit)) == b""
    await grow(acts, "bob", 9280)
    assert await acts.do(messages.echo(acts.keys, "bob", "s1", tail, 100_000, RETENTION_MS, limit)) != b""


async def test_echoes_leave_half_of_the_inbox_to_others_and_flush_nothing_that_a_device_still_wants(acts: Acts) -> None:
    await acts.register("bob")
    one = await acts.joined("bob", "s1", device="d1")
    await acts.joined("bob", "s2", device="d2")

    async def echo(mid: str) -> bytes:
        tail = f'"mid":"{mid}","from":"bob","to":"x","kind":"text","body":1}}'.encode()
        reply = await acts.do(messages.echo(acts.keys, "bob", one.id, tail, 8, RETENTION_MS, 1 << 26))
        assert isinstance(reply, bytes)
        return reply

    places = [messages.parse_id(await echo(f"e{number}")) for number in range(4)]
    assert await echo("e4") == b""
    for number in range(4):
        assert (await acts.send("alice", "bob", mid=f"m{number}", inbox_max=8))[0] == 0
    assert await acts.send("alice", "bob", mid="m4", inbox_max=8) == [Code.INBOX_FULL]
    # One of two devices has acked: an echo does not take from the other what a message might.
    await acts.ack("bob", "d1", one.epoch, places[3])
    assert await echo("e5") == b""
    assert len(await acts.inbox("bob")) == 8
    # Both have: the inbox is below its half again.
    await acts.ack("bob", "d2", one.epoch, (places[3][0] + DAY_MS, 0))
    await acts.ack("bob", "d1", one.epoch, (places[3][0] + DAY_MS, 0))
    assert await echo("e6") != b""
    assert await acts.inbox("bob") == ["e6"]


async def test_an_inbox_half_full_by_bytes_takes_messages_and_no_echo(acts: Acts) -> None:
    await acts.register("bob")
    await acts.joined("bob", "s1", device="d1")
    for number in range(64):
        assert (await acts.send("alice", "bob", mid=f"m{number}", body=f'"{"x" * KIB}"'))[0] == 0
    limit = int(1.5 * await size(acts, "bob"))
    tail = b'"mid":"e","from":"bob","to":"x","kind":"text","body":1}'
    echo = messages.echo(acts.keys, "bob", "s1", tail, 1000, RETENTION_MS, limit)
    assert await acts.do(echo) == b""
    assert await acts.do(echo) == b""
    assert (await acts.send("alice", "bob", mid="m64", inbox_bytes_max=limit))[0] == 0


async def test_what_all_known_devices_have_acked_goes_where_that_is_set(acts: Acts) -> None:
    await acts.register("bob")
    one = await acts.joined("bob", "s1", device="d1")
    # Known from its first connect on, though it never acked.
    await acts.joined("bob", "s2", device="d2")
    places = [messages.parse_id((await acts.send("alice", "bob", mid=f"m{number}"))[1]) for number in range(4)]
    assert await acts.ack("bob", "d1", one.epoch, places[2], trim=True) == 1
    assert await acts.inbox("bob") == ["m0", "m1", "m2", "m3"]
    assert await acts.ack("bob", "d2", one.epoch, places[1], trim=True) == 1
    assert await acts.inbox("bob") == ["m2", "m3"]
    assert await acts.field("bob", "floor") == "{}-{}".format(*places[1])
    # A device that comes now begins where the furthest is; from then on its word counts.
    reply = await acts.connect(session("bob", "s3", device="d3"))
    assert (messages.parse_id(reply[3]), reply[5]) == (places[2], 1)
    assert await acts.ack("bob", "d1", one.epoch, places[3], trim=True) == 1
    assert await acts.ack("bob", "d2", one.epoch, places[3], trim=True) == 1
    assert await acts.inbox("bob") == ["m3"]
    assert await acts.ack("bob", "d3", one.epoch, places[3], trim=True) == 1
    assert await acts.inbox("bob") == []
    # Who has seen it all goes on where that was.
    reply = await acts.connect(session("bob", "s4", device="d1"), since=(one.epoch, "{}-{}".format(*places[3])))
    assert (messages.parse_id(reply[3]), reply[5]) == (places[3], 1)


async def test_a_device_begins_where_it_first_came_however_far_others_are_by_now(acts: Acts) -> None:
    await acts.register("bob")
    one = await acts.joined("bob", "s1", device="d1")
    first = messages.parse_id((await acts.send("alice", "bob", mid="m0"))[1])
    await acts.ack("bob", "d1", one.epoch, first)
    reply = await acts.connect(session("bob", "s2", device="d2"))
    assert messages.parse_id(reply[3]) == first
    second = messages.parse_id((await acts.send("alice", "bob", mid="m1"))[1])
    await acts.ack("bob", "d1", one.epoch, second)
    # It crashed before it acked what it was sent, and remembers nothing.
    three = session("bob", "s3", device="d2")
    reply = await acts.connect(three)
    assert (messages.parse_id(reply[3]), reply[5]) == (first, 1)
    # One that has been away, and not heard of, for the retention is as good as new.
    await acts.disconnect(three)
    now = int(time.time() * 1000)
    await acts.raw("bob", "HSET", acts.keys.user("bob").ack, "d2", f"1-1@{now - 8 * DAY_MS}")
    await acts.connect(session("bob", "s4", device="d3"))
    reply = await acts.connect(session("bob", "s5", device="d2"))
    assert messages.parse_id(reply[3]) == second


async def test_a_device_that_comes_or_stays_is_not_forgotten_for_having_nothing_to_ack(acts: Acts) -> None:
    await acts.register("bob")
    key, old = acts.keys.user("bob").ack, int(time.time() * 1000) - 8 * DAY_MS
    for number, device in enumerate(("comes", "stays")):
        await acts.joined("bob", f"s{number}", device=device)
    await acts.raw("bob", "HSET", key, "comes", f"1-1@{old}", "stays", f"1-1@{old}")
    # It comes for a moment, and has nothing to ack.
    await acts.disconnect(await acts.joined("bob", "s0", device="comes"))
    three = await acts.joined("bob", "s3", device="new")
    place = messages.parse_id((await acts.send("alice", "bob", mid="m0"))[1])
    await acts.ack("bob", "new", three.epoch, place)
    for device in ("comes", "stays"):
        reply = await acts.connect(session("bob", f"again-{device}", device=device))
        assert (messages.parse_id(reply[3]), reply[5]) == ((1, 1), 1)
