"""Epochs: a partition's changes with its master's replication id, a user's when somebody comes after that."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.protocol import pushes
from gateway.store import epochs
from gateway.store.store import Store
from tests.replicas import followed
from tests.servers import redis7_binary
from tests.store.acts import NODE, OTHER, Acts, asked, link_to, session
from tests.waiting import eventually


async def settle(acts: Acts, user: str, replication_id: str) -> str:
    """What a link to the user's master does before it is up."""
    keys = acts.keys
    reply: bytes = await acts.raw(
        user, "FCALL", "gw1_settle_epoch", 1, keys.epoch(keys.partition(user)), replication_id
    )
    return reply.decode()


async def test_a_partitions_epoch_changes_with_the_replication_id_and_only_then(acts: Acts) -> None:
    assert await settle(acts, "bob", "first") == ""
    assert await settle(acts, "bob", "first") == ""
    second = await settle(acts, "bob", "second")
    assert second
    assert await settle(acts, "bob", "second") == second
    # Back to a server of before: what happened on the other one is not known here.
    third = await settle(acts, "bob", "first")
    assert third not in ("", second)


async def test_cursors_of_a_store_from_before_epochs_of_partitions_are_still_good(acts: Acts) -> None:
    await acts.register("bob")
    who = await acts.joined("bob", "s1", device="d1")
    place = (await acts.send("alice", "bob"))[1].decode()
    await settle(acts, "bob", "first")
    reply = await acts.connect(session("bob", "s2", device="d2"), since=(who.epoch, place))
    assert (reply[2].decode(), reply[3].decode(), reply[5]) == (who.epoch, place, 1)
    reclaimed = await acts.reclaim(who)
    assert (reclaimed[5].decode(), reclaimed[6]) == (who.epoch, b"")


async def test_after_a_change_the_first_to_come_begins_the_users_epoch_and_old_cursors_are_refused(acts: Acts) -> None:
    await acts.register("bob")
    await settle(acts, "bob", "first")
    who = await acts.joined("bob", "s1", device="d1")
    places = [(await acts.send("alice", "bob", mid=f"m{n}"))[1].decode() for n in range(3)]
    ms, _, sequence = places[0].partition("-")
    assert await acts.ack("bob", "d1", who.epoch, (int(ms), int(sequence))) == 1
    await acts.disconnect(who)
    await settle(acts, "bob", "second")
    # Nothing is rewritten before somebody comes.
    assert await acts.field("bob", "epoch") == who.epoch
    again = session("bob", "s2", device="d1")
    reply = await acts.connect(again, since=(who.epoch, places[2]))
    assert again.epoch != who.epoch
    assert (reply[3].decode(), reply[4].decode(), reply[5]) == (places[0], places[2], 0), "all that is unacked"
    assert await acts.ack("bob", "d1", who.epoch, (int(ms) + 1, 0)) == 0, "an ack of before is ignored"
    # The next one finds it done.
    third = await acts.connect(session("bob", "s3", device="d1"), since=(again.epoch, places[2]))
    assert (third[2].decode(), third[5]) == (again.epoch, 1)


async def test_a_reclaimed_session_is_told_the_new_epoch_and_where_its_device_has_acked(acts: Acts) -> None:
    await acts.register("bob")
    await settle(acts, "bob", "first")
    sessions = [await acts.joined("bob", f"s{n}", device=f"d{n}") for n in (1, 2)]
    nobodys = await acts.joined("bob", "s3")
    places = [(await acts.send("alice", "bob", mid=f"m{n}"))[1].decode() for n in range(3)]
    for who, acked in zip(sessions, places, strict=False):
        ms, _, sequence = acked.partition("-")
        assert await acts.ack("bob", who.device or "", who.epoch, (int(ms), int(sequence))) == 1
    await settle(acts, "bob", "second")
    replies = [await acts.reclaim(who) for who in (*sessions, nobodys)]
    assert [reply[0] for reply in replies] == [0, 0, 0]
    assert len({reply[5] for reply in replies} - {nobodys.epoch.encode()}) == 1
    assert [reply[6].decode() for reply in replies] == [places[0], places[1], places[1]]


@pytest.mark.parametrize("way", ["connect", "reclaim"])
async def test_nodes_hear_of_the_new_epoch_before_anything_bears_it_and_watchers_a_higher_version(
    acts: Acts, way: str
) -> None:
    await acts.register("bob")
    await settle(acts, "bob", "first")
    who = await acts.joined("bob", "s1", NODE)
    await acts.joined("bob", "s2", OTHER)
    version = int(await acts.field("bob", "version") or 0)
    await settle(acts, "bob", "second")
    async with acts.hearing("bob", OTHER) as (other,), acts.watching("bob") as watcher:
        if way == "connect":
            await acts.joined("bob", "s3", NODE)
        else:
            await acts.reclaim(who, NODE)
        await acts.send("alice", "bob")
        told = [payload for payload in await other.heard() if payload[:1] in b"rm"]
        epoch = await acts.field("bob", "epoch") or ""
        assert told[0] == f"rbob\n{epoch}".encode()
        assert f'"cursor":"{epoch}.'.encode() in told[1]
        # Versions that the old master had told and the new one does not know of must not hide what is told now.
        [push] = await watcher.said(b"p", pushes.Presence)
        assert push.version > version + 100
        await acts.reclaim(who, NODE)
        assert await other.heard() == [], "once"


async def test_a_node_of_before_that_names_no_epoch_changes_none(acts: Acts) -> None:
    await acts.register("bob")
    await settle(acts, "bob", "first")
    who = await acts.joined("bob", "s1")
    await settle(acts, "bob", "second")
    user = acts.keys.user("bob")
    held = acts.keys.held(user.partition, NODE)
    online = acts.keys.directory(user.partition, "online")
    arguments: list[Any] = ["bob", "s1", NODE, "", "web", who.issued_at, "", "", "unlimited", 0, who.order, "", 1]
    reply = await acts.raw(
        "bob",
        *("FCALL", "gw1_reclaim", 7, user.user, user.sessions, held, user.revoked, user.inbox, user.ack, online),
        *(*arguments, user.node_channel, user.watch_channel),
    )
    assert reply[0] == 0
    assert await acts.field("bob", "epoch") == who.epoch


async def test_a_link_settles_epochs_before_it_is_up_and_is_not_up_to_a_replica() -> None:
    async with followed(redis7_binary()) as pair:
        store = await Store.open(pair.master.url)
        keys = store.keys
        partitions = [0, 7]
        endpoint = store.topology.masters[0].endpoint
        settled: dict[str, Any] = {"on_subscribed": lambda link: epochs.settle(keys, partitions, link.ask)}
        link = link_to(endpoint, **settled)
        link.start()
        await eventually(lambda: link.up)
        with pair.master.client() as client:
            replication_id = client.info("replication")["master_replid"]
        for partition in partitions:
            assert await asked(link, "HGET", keys.epoch(partition), "replid") == replication_id.encode()
        assert await asked(link, "EXISTS", keys.epoch(1)) == 0
        port = int(pair.replica.url.rpartition(":")[2])
        other = link_to(endpoint._replace(port=port), **settled)
        other.start()
        await eventually(lambda: other.last_fault == "it is a replica now")
        assert not other.up
        # It becomes the master: another replication id.
        with pair.replica.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")
        await eventually(lambda: other.up)
        found = await asked(other, "HMGET", keys.epoch(7), "replid", "id")
        assert found[0] not in (None, replication_id.encode())
        assert found[1]
        for each in (link, other):
            await each.close()
        await store.close()
