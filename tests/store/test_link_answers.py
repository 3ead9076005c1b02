"""What the hot link makes of answers that are no plain replies: subscriptions, and error words."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.store import messages
from gateway.store.endpoint import Endpoint
from gateway.store.errors import DEPOSED, OutcomeUnknown, StoreRefused, StoreUnavailable
from gateway.store.topology import parse
from tests.proxy import Proxy
from tests.servers import Server
from tests.store.acts import NOW_MS, RETENTION_MS, Acts, asked, link_to
from tests.store.links import PROBE, linked, published, quick
from tests.waiting import eventually

# Subscriptions.


async def test_subscriptions_come_and_go_between_other_commands(valkey: Server) -> None:
    async with linked(valkey.url) as (link, told):
        answers: list[Any] = []
        for number in range(20):
            link.post(("ECHO", number), lambda _, reply: answers.append(reply))
            link.subscribe(f"c{number}", lambda context, reply: answers.append((context, reply)), number)
        await eventually(lambda: len(answers) == 40)
        assert answers == [entry for n in range(20) for entry in (str(n).encode(), (n, None))]
        await published(valkey, "c7", "heard")
        await eventually(lambda: told.pushes == [b"heard"])
        link.unsubscribe("c7")
        assert await asked(link, "ECHO", "x") == b"x"
        await published(valkey, "c7", "not heard")
        await published(valkey, "c8", "heard too")
        await eventually(lambda: len(told.pushes) == 2)
        assert told.pushes == [b"heard", b"heard too"]
        assert (told.unsettled, told.downs) == (0, 0)


async def test_a_subscription_that_fails_is_answered_by_its_error(valkey: Server) -> None:
    with valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "deaf", "on", ">secret", "~*", "+@all", f"&{PROBE}")
    try:
        endpoint = parse(valkey.url).endpoint._replace(username="deaf", password="secret")
        link = link_to(endpoint, [PROBE])
        link.start()
        try:
            await eventually(lambda: link.up)
            answers: list[Any] = []
            link.subscribe("forbidden", lambda _, reply: answers.append(reply))
            link.subscribe(PROBE, lambda _, reply: answers.append(reply))
            assert await asked(link, "ECHO", "x") == b"x"
            assert isinstance(answers[0], StoreUnavailable)
            assert answers[1] is None
        finally:
            await link.close()
    finally:
        with valkey.client() as client:
            client.execute_command("ACL", "DELUSER", "deaf")


def sunsubscribe(channel: str) -> bytes:
    return f">3\r\n$12\r\nsunsubscribe\r\n${len(channel)}\r\n{channel}\r\n:0\r\n".encode()


async def test_an_unasked_sunsubscribe_is_told_and_the_channels_are_subscribed_anew(valkey: Server) -> None:
    async with linked(valkey.url, ["news"]) as (link, told):
        # As a server sends it when the slot moves away; here put behind what it really sent.
        link.data_received(sunsubscribe("news"))
        assert (told.unsettled, told.downs) == (1, 1)
        await eventually(lambda: link.up)
        await published(valkey, "news", "heard")
        await eventually(lambda: told.pushes == [b"heard"])


async def test_an_unasked_sunsubscribe_does_not_answer_a_subscription_that_is_under_way(proxy: Proxy) -> None:
    async with linked(proxy.url, ["news", "other"]) as (link, told):
        proxy.pause()
        answers: list[Any] = []
        link.subscribe("other", lambda _, reply: answers.append(reply))
        await eventually(lambda: not link._buffer)
        link.data_received(sunsubscribe("other"))
        assert told.unsettled == 1
        # It is answered as lost with the link, not as done.
        assert [type(answer) for answer in answers] == [OutcomeUnknown]
        proxy.cut()
        proxy.resume()


async def test_an_answer_to_nothing_breaks_the_link_and_nothing_else(valkey: Server) -> None:
    async with linked(valkey.url) as (link, told):
        await eventually(lambda: not link._pending and not link._late)
        link.data_received(b"+OK\r\n")
        assert told.downs == 1
        await eventually(lambda: link.up)
        link.data_received(b"?what\r\n")
        assert told.downs == 2
        await eventually(lambda: link.up)
        assert await asked(link, "ECHO", "x") == b"x"


# What error replies mean.


@pytest.mark.parametrize(
    ("reply", "kind", "unsettled", "missing"),
    [
        ("MOVED 3999 127.0.0.1:6381", StoreUnavailable, 1, 0),
        ("ASK 3999 127.0.0.1:6381", StoreUnavailable, 1, 0),
        ("TRYAGAIN Multiple keys request during rehashing of slot", StoreUnavailable, 1, 0),
        ("CLUSTERDOWN Hash slot not served", StoreUnavailable, 1, 0),
        ("READONLY You can't write against a read only replica.", StoreUnavailable, 1, 0),
        ("LOADING Redis is loading the dataset in memory", StoreUnavailable, 1, 0),
        ("MASTERDOWN Link with MASTER is down", StoreUnavailable, 1, 0),
        ("OOM command not allowed when used memory > 'maxmemory'.", StoreUnavailable, 0, 0),
        ("BUSY Redis is busy running a script.", StoreUnavailable, 0, 0),
        ("NOPERM User x has no permissions to run the 'fcall' command", StoreUnavailable, 0, 0),
        ("NOAUTH Authentication required.", StoreUnavailable, 0, 0),
        ("MISCONF Redis is configured to save RDB snapshots", StoreUnavailable, 0, 0),
        ("NOREPLICAS Not enough good replicas to write.", StoreUnavailable, 0, 0),
        ("ERR Function not found", StoreUnavailable, 0, 1),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", StoreRefused, 0, 0),
        ("NOPERM No permissions to access a channel script: gw1_relay, on @user_function:240.", OutcomeUnknown, 0, 0),
        ("ERR ACL failure in script: No permissions script: on @user_function:253.", OutcomeUnknown, 0, 0),
    ],
)
async def test_an_error_reply_says_whether_the_command_ran(
    valkey: Server, reply: str, kind: type, unsettled: int, missing: int
) -> None:
    async with linked(valkey.url, times=quick(probe_s=60)) as (link, told):
        await eventually(lambda: link.echoed and not link._pending)
        answers: list[Any] = []
        link._pending.append((lambda _, answer: answers.append(answer), None, 1e18))
        link.data_received(f"-{reply}\r\n".encode())
        assert isinstance(answers[0], kind)
        assert (told.unsettled, told.missing, told.downs) == (unsettled, missing, 0)
        if reply.partition(" ")[0] in DEPOSED:
            # Whoever says that is no master, or was none: nothing is believed of it before it has been looked at anew.
            await eventually(lambda: told.downs == 1 and link.up)
        assert await asked(link, "ECHO", "x") == b"x"
        assert told.downs == (reply.partition(" ")[0] in DEPOSED)


async def test_a_function_stopped_midway_by_an_acl_is_an_unknown_outcome(acts: Acts) -> None:
    """relay stores and then publishes: without the right to publish it is stored all the same."""
    await acts.register("bob")
    await acts.joined("bob", "s1")
    master = acts.store.topology.master(acts.keys.partition("bob"))
    await master.execute("ACL", "SETUSER", "silent", "on", ">secret", "~*", "+@all", "resetchannels")
    link = link_to(master.endpoint._replace(username="silent", password="secret"))
    link.start()
    try:
        await eventually(lambda: link.up)
        _, command = messages.relay(
            acts.keys, "alice", "bob", "", "m1", b'"mid":"m1"}', 100, RETENTION_MS, NOW_MS, 1 << 26
        )
        assert isinstance(await asked(link, *command), OutcomeUnknown)
        assert await acts.inbox("bob") == ["m1"]
    finally:
        await link.close()
        await master.execute("ACL", "DELUSER", "silent")


async def test_a_wrong_password_is_said_without_the_password(valkey: Server) -> None:
    link = link_to(Endpoint(None, 0, parse(valkey.url).endpoint.path, "nobody", "hunter2", None))
    link.start()
    try:
        await eventually(lambda: "WRONGPASS" in link.last_fault)
        assert "hunter2" not in link.last_fault
        assert "hunter2" not in str(link.endpoint)
        assert not link.up
    finally:
        await link.close()
