"""The hot link against a real server, with a link between them that can be held and cut."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from structlog.testing import capture_logs

from gateway.metrics import METRICS
from gateway.store.errors import OutcomeUnknown, StoreRefused, StoreUnavailable
from gateway.store.link import SUBSCRIBE_BATCH, Link
from gateway.store.topology import parse
from tests.proxy import Proxy
from tests.servers import Server
from tests.store.acts import asked, link_to
from tests.store.links import PROBE, eventually_answered, frozen, linked, published, quick
from tests.waiting import eventually

# Commands and replies.


async def test_the_commands_of_one_loop_turn_leave_in_one_write_and_are_answered_in_order(valkey: Server) -> None:
    async with linked(valkey.url) as (link, _):
        writes: list[bytes] = []
        transport: Any = link._transport

        class Tap:
            """The transport, with its writes noted on their way."""

            def write(self, payload: bytes) -> None:
                writes.append(payload)
                transport.write(payload)

            def abort(self) -> None:
                transport.abort()

        link._transport = Tap()  # type: ignore[assignment]
        replies: list[tuple[int, Any]] = []
        for number in range(100):
            link.post(("ECHO", number), lambda context, reply: replies.append((context, reply)), number)
        assert not writes
        await eventually(lambda: len(replies) == 100)
        assert replies == [(number, str(number).encode()) for number in range(100)]
        assert len([payload for payload in writes if b"ECHO" in payload]) == 1


async def test_a_push_between_replies_disturbs_no_reply(valkey: Server) -> None:
    async with linked(valkey.url, ["news"]) as (link, told):
        replies = []
        for number in range(50):
            link.post(("SPUBLISH", "news", f"n{number}"), lambda _, reply: replies.append(reply))
            link.post(("ECHO", number), lambda _, reply: replies.append(reply))
        await eventually(lambda: len(replies) == 100)
        assert replies == [reply for number in range(50) for reply in (1, str(number).encode())]
        assert told.pushes == [f"n{number}".encode() for number in range(50)]


async def test_an_error_reply_reaches_its_caller_only(valkey: Server) -> None:
    async with linked(valkey.url) as (link, _):
        replies = await asyncio.gather(
            asked(link, "ECHO", "a"), asked(link, "GET"), asked(link, "ECHO", "b"), asked(link, "NOSUCH")
        )
    assert [replies[0], replies[2]] == [b"a", b"b"]
    assert type(replies[1]) is type(replies[3]) is StoreRefused


async def test_an_answer_past_its_deadline_is_unknown_and_the_late_reply_disturbs_nobody(valkey: Server) -> None:
    async with linked(valkey.url, times=quick(timeout_s=0.15, probe_timeout_s=5)) as (link, told):
        with frozen(valkey):
            first = asyncio.create_task(asked(link, "INCR", "n"))
            await eventually(lambda: len(link._pending) >= 1)
            assert isinstance(await first, OutcomeUnknown)
            # Behind the one that is stuck, each has a deadline of its own.
            subscribed: list[Any] = []
            link.subscribe("later", lambda _, reply: subscribed.append(reply))
            assert isinstance(await asked(link, "INCR", "n"), OutcomeUnknown)
            assert isinstance(subscribed[0], OutcomeUnknown)
        assert await eventually_answered(link, "ECHO", "after") == b"after"
        # Both were carried out, as "unknown" says they may have been.
        assert await asked(link, "GET", "n") == b"2"
        assert len(subscribed) == 1
        assert (told.ups, told.downs) == (1, 0)


async def test_a_caller_that_is_cancelled_leaves_the_link_in_step(proxy: Proxy) -> None:
    async with linked(proxy.url) as (link, _):
        proxy.pause(to_client=True, to_server=False)
        waiting = [asyncio.create_task(cancellable(link, number)) for number in range(10)]
        await eventually(lambda: len(link._pending) >= 10)
        for task in waiting[::2]:
            task.cancel()
        proxy.resume()
        assert await asyncio.gather(*waiting[1::2]) == [b"1", b"3", b"5", b"7", b"9"]
        assert await asked(link, "ECHO", "in step") == b"in step"


async def cancellable(link: Link, number: int) -> Any:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def answered(_: object, reply: Any) -> None:
        if not answer.done():
            answer.set_result(reply)

    link.post(("ECHO", number), answered)
    return await answer


async def test_over_its_bound_the_link_refuses_at_once_and_takes_again_when_answered(proxy: Proxy) -> None:
    async with linked(proxy.url, pending_max=20, times=quick(timeout_s=0.2, probe_s=60, probe_timeout_s=60)) as (
        link,
        _,
    ):
        await eventually(lambda: link.echoed and not link._pending)
        proxy.pause()
        replies: list[Any] = []
        for number in range(25):
            link.post(("ECHO", number), lambda _, reply: replies.append(reply))
        assert len(replies) == 5
        assert all(isinstance(reply, StoreUnavailable) for reply in replies)
        # Slots past their deadline still wait for their replies, and count.
        await eventually(lambda: len(replies) == 25)
        assert all(isinstance(reply, OutcomeUnknown) for reply in replies[5:])
        assert isinstance(await asked(link, "ECHO", "x"), StoreUnavailable)
        proxy.resume()
        assert await eventually_answered(link, "ECHO", "x") == b"x"


async def test_what_is_urgent_still_goes_where_clients_have_filled_the_link(proxy: Proxy) -> None:
    async with linked(proxy.url, pending_max=200, times=quick(timeout_s=5, probe_s=60, probe_timeout_s=60)) as (
        link,
        _,
    ):
        await eventually(lambda: link.echoed and not link._pending)
        proxy.pause()
        replies: list[Any] = []
        for number in range(201):
            link.post(("ECHO", number), lambda _, reply: replies.append(reply))
        assert [type(reply) for reply in replies] == [StoreUnavailable]
        link.post_unanswered(("SET", "told", 1))
        urgent: list[Any] = []
        for number in range(25):
            link.post(("ECHO", number), lambda _, reply: urgent.append(reply), urgent=True)
        # The reserve, a tenth, is bounded too.
        assert [type(reply) for reply in urgent] == [StoreUnavailable] * 6
        proxy.resume()
        await eventually(lambda: len(replies) == 201 and len(urgent) == 25)
        assert urgent[-1] == b"18"
        assert await asked(link, "GET", "told") == b"1"


# Callbacks that raise.


def fails(*_: object) -> None:
    raise RuntimeError("a defect")


async def test_callbacks_that_raise_are_told_and_counted_and_the_link_goes_on(valkey: Server) -> None:
    async with linked(valkey.url, ["news"], times=quick(probe_s=60)) as (link, told):
        await eventually(lambda: link.echoed and not link._pending)
        before = METRICS.callbacks_failed
        with capture_logs() as logged:
            link.post(("ECHO", "a"), fails)
            assert await asked(link, "ECHO", "b") == b"b"
            heard, link.on_push = link.on_push, fails
            await published(valkey, "news", "first")
            await eventually(lambda: METRICS.callbacks_failed == before + 2)
            link.on_push = heard
            await published(valkey, "news", "second")
            await eventually(lambda: told.pushes == [b"second"])
        assert (told.ups, told.downs) == (1, 0)
        assert [(each["log_level"], each["exc_info"]) for each in logged] == [("error", True)] * 2


async def test_a_break_reaches_every_callback_though_some_raise(proxy: Proxy) -> None:
    async with linked(proxy.url, on_down=fails, times=quick(probe_s=60)) as (link, told):
        await eventually(lambda: link.echoed and not link._pending)
        proxy.pause()
        replies: list[Any] = []
        link.post(("ECHO", "a"), fails)
        link.post(("ECHO", "b"), lambda _, reply: replies.append(reply))
        link.rebuild("a test")
        assert len(replies) == 1
        proxy.resume()
        await eventually(lambda: told.ups == 2)


async def test_a_gap_check_that_raises_rebuilds_the_link(valkey: Server) -> None:
    async with linked(valkey.url, times=quick(probe_s=60)) as (link, told):
        await eventually(lambda: link.echoed and not link._pending)

        def once() -> None:
            link.on_data = lambda: None
            fails()

        link.on_data = once
        assert isinstance(await asked(link, "ECHO", "x"), OutcomeUnknown)
        await eventually(lambda: (told.ups, told.downs) == (2, 1))


async def test_a_link_whose_on_up_raises_connects_again(valkey: Server) -> None:
    ups: list[bool] = []

    def up(link: Link) -> None:
        ups.append(link.up)
        if len(ups) == 1:
            fails()

    async with linked(valkey.url, on_up=up) as (link, told):
        await eventually(lambda: len(ups) == 2 and link.up)
        assert told.downs == 1
        assert await asked(link, "ECHO", "x") == b"x"


# Breaks.


async def test_more_channels_than_commands_may_wait_are_subscribed_to_after_a_break(
    valkey: Server, proxy: Proxy
) -> None:
    channels = [f"c{number}" for number in range(SUBSCRIBE_BATCH + 50)]
    async with linked(proxy.url, channels, pending_max=20) as (link, told):
        proxy.cut()
        await eventually(lambda: told.ups == 2 and link.up)
        await published(valkey, channels[-1], "heard")
        await eventually(lambda: told.pushes == [b"heard"])


async def test_what_was_written_before_a_break_is_unknown_and_what_was_not_is_unavailable(proxy: Proxy) -> None:
    async with linked(proxy.url) as (link, told):
        proxy.pause()
        written = asyncio.create_task(asked(link, "SET", "a", 1))
        await eventually(lambda: len(link._pending) >= 1 and not link._buffer)
        # Packed, and still to be written when this loop turn ends.
        unwritten = asyncio.ensure_future(cancellable(link, 5))
        await asyncio.sleep(0)
        assert link._buffer
        link.rebuild("test")
        assert isinstance(await written, OutcomeUnknown)
        assert isinstance(await unwritten, StoreUnavailable)
        assert not isinstance(await unwritten, OutcomeUnknown)
        assert isinstance(await asked(link, "SET", "b", 1), StoreUnavailable)
        assert told.downs == 1
        proxy.cut()
        proxy.resume()
        await eventually(lambda: link.up)
        assert await asked(link, "ECHO", "x") == b"x"


async def test_after_a_break_the_link_comes_back_with_its_subscriptions(valkey: Server, proxy: Proxy) -> None:
    async with linked(proxy.url, ["news"]) as (link, told):
        for number in range(3):
            proxy.cut()
            await eventually(lambda downs=number: told.downs == downs + 1)  # type: ignore[misc]
            await eventually(lambda: link.up)
            await published(valkey, "news", f"n{number}")
            await eventually(lambda count=number: len(told.pushes) == count + 1)  # type: ignore[misc]
        assert told.pushes == [b"n0", b"n1", b"n2"]
        assert (told.ups, told.downs) == (4, 3)


async def test_while_the_server_is_away_the_link_keeps_trying(proxy: Proxy) -> None:
    async with linked(proxy.url) as (link, told):
        proxy.refuse()
        await eventually(lambda: not link.up)
        accepted = proxy.accepted
        await eventually(lambda: proxy.accepted >= accepted + 3)
        assert not link.up
        assert told.downs == 1
        proxy.accept()
        await eventually(lambda: link.up)
        assert await asked(link, "ECHO", "x") == b"x"


async def test_a_break_in_the_middle_of_a_reply_loses_no_step(valkey: Server, proxy: Proxy) -> None:
    with valkey.client() as client:
        client.set("big", "x" * 3_000_000)
    async with linked(proxy.url) as (link, _):
        waiting = asyncio.create_task(asked(link, "GET", "big"))
        await eventually(lambda: link._reader.len() > 0 or waiting.done())
        proxy.cut()
        reply = await waiting
        assert isinstance(reply, OutcomeUnknown) or len(reply) == 3_000_000
        await eventually(lambda: link.up)
        assert await asked(link, "ECHO", "x") == b"x"


async def test_a_connection_given_up_while_its_bytes_are_read_answers_nobody_twice(valkey: Server) -> None:
    """A gap check, or a callback, may rebuild the link in the middle of what was just received."""
    async with linked(valkey.url, ["news"]) as (link, told):
        replies: list[Any] = []

        def first(_: object, reply: Any) -> None:
            replies.append(reply)
            link.rebuild("from a callback")

        link.post(("ECHO", "a"), first)
        for word in ("b", "c"):
            link.post(("ECHO", word), lambda _, reply: replies.append(reply))
        await eventually(lambda: link.up and told.ups == 2)
        assert replies[0] == b"a"
        assert [type(reply) for reply in replies[1:]] == [OutcomeUnknown, OutcomeUnknown]
        assert await asked(link, "ECHO", "x") == b"x"

        def gap() -> None:
            link.on_data = lambda: None
            link.rebuild("from the gap check")

        link.on_data = gap
        assert isinstance(await asked(link, "ECHO", "y"), OutcomeUnknown)
        await eventually(lambda: link.up and told.ups == 3)
        assert await asked(link, "ECHO", "z") == b"z"


async def test_closing_answers_what_is_outstanding_and_leaves_no_task(proxy: Proxy) -> None:
    async with linked(proxy.url) as (link, _):
        proxy.pause()
        replies: list[Any] = []
        link.post(("ECHO", "a"), lambda _, reply: replies.append(reply))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await link.close()
        assert isinstance(replies[0], OutcomeUnknown)
        assert not link.up
        proxy.cut()
    gc.collect()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("link ")]


# The probe.


async def test_a_bus_that_does_not_echo_is_rebuilt_and_not_ready_until_it_does(valkey: Server) -> None:
    times = quick(timeout_s=0.2, probe_s=0.05, probe_timeout_s=0.2)
    async with linked(valkey.url, times=times) as (link, told):
        await eventually(lambda: link.echoed)
        with frozen(valkey):
            await eventually(lambda: told.downs >= 1)
            assert not link.echoed
            assert link.last_fault
            await asyncio.sleep(0)
            assert not link.up
        await eventually(lambda: link.up and link.echoed)


async def test_a_link_that_passes_bytes_one_way_only_is_found_out(proxy: Proxy) -> None:
    times = quick(timeout_s=5, probe_s=0.05, probe_timeout_s=0.2)
    for to_server in (True, False):
        async with linked(proxy.url, times=times) as (link, told):
            await eventually(lambda link=link: link.echoed)  # type: ignore[misc]
            proxy.pause(to_server=to_server, to_client=not to_server)
            await eventually(lambda told=told: told.downs >= 1)  # type: ignore[misc]
            assert not link.echoed
            proxy.cut()
            proxy.resume()
            await eventually(lambda link=link: link.up and link.echoed)  # type: ignore[misc]


async def test_a_link_is_not_ready_before_its_first_echo(valkey: Server) -> None:
    link = link_to(parse(valkey.url).endpoint, ["elsewhere"], probe_channel=PROBE, times=quick(probe_timeout_s=0.1))
    link.start()
    try:
        await eventually(lambda: link.up)
        # The probe goes to a channel that nobody hears.
        now = asyncio.get_running_loop().time()
        link.tick(now)
        await asked(link, "PING")
        assert not link.echoed
        # The process has stood still: the echo may be waiting unread, so the next tick is the first that judges.
        link.tick(now + 1)
        assert link.up
        link.tick(now + 1.05)
        assert not link.up
        assert "probe" in link.last_fault
    finally:
        await link.close()


async def test_a_probe_goes_out_where_there_is_no_room_left(proxy: Proxy) -> None:
    """One that was not sent would be waited for, and its absence taken for a deaf bus."""
    times = quick(timeout_s=5, probe_s=0.2, probe_timeout_s=0.6)
    async with linked(proxy.url, pending_max=20, times=times) as (link, told):
        await eventually(lambda: link.echoed and not link._probe_token and not link._pending)
        proxy.pause()
        replies: list[Any] = []
        for number in range(60):
            link.post(("ECHO", number), lambda _, reply: replies.append(reply), urgent=True)
        assert not link._has_room(True)
        await eventually(lambda: link._probe_token)
        token = link._probe_token
        proxy.resume()
        await eventually(lambda: link._probe_token != token)
        assert (told.ups, told.downs) == (1, 0)
        assert all(isinstance(reply, bytes | StoreUnavailable) for reply in replies)
