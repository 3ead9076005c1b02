"""A Redis Cluster in which a replica takes over, asked to or because its master is gone: nodes follow.

Most of the time goes into a cluster of each test's own, which is not the one it was afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from redis import Redis

from gateway.node import Node
from tests.integration.fleet import BRISK, two_nodes
from tests.nodes import Client, login
from tests.servers import Cluster, Server, cluster_options, free_ports, redis7_binary
from tests.waiting import eventually, wait_until

DEADLINE_S = 30.0


@contextmanager
def cluster_with_replica() -> Iterator[tuple[Cluster, Server]]:
    """Three masters and a replica of the first one, the one that the url names; it has everything."""
    cluster = Cluster(redis7_binary())
    replica = None
    try:
        port, bus = free_ports(2)
        replica = Server.on_port(redis7_binary(), port, **cluster_options(bus))
        with cluster.servers[0].client() as master, replica.client() as client:
            bus_of_master = int(master.config_get("cluster-port")["cluster-port"])
            myself = str(master.execute_command("CLUSTER", "MYID"))
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", port_of(cluster.servers[0]), bus_of_master)
            wait_until(lambda: myself in str(client.execute_command("CLUSTER", "NODES")), DEADLINE_S)
            client.execute_command("CLUSTER", "REPLICATE", myself)
            wait_until(lambda: client.info("replication").get("master_link_status") == "up", DEADLINE_S)
            # All must know of it before it can be voted for.
            for server in cluster.servers[1:]:
                with server.client() as other:
                    wait_until(lambda: str(port) in str(other.execute_command("CLUSTER", "NODES")), DEADLINE_S)
        yield cluster, replica
    finally:
        if replica is not None:
            replica.stop()
        cluster.stop()


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


def users_on(node: Node, server: Server, count: int) -> list[str]:
    """Users whose master that is."""
    masters = node.store.topology.masters
    owner = next(index for index, master in enumerate(masters) if master.endpoint.port == port_of(server))
    names = (f"u{number}" for number in range(10_000))
    found = (name for name in names if node.store.topology.owner[node.store.keys.partition(name)] == owner)
    return [next(found) for _ in range(count)]


async def in_step(master: Server) -> None:
    """Returns when the replica has all that the master has."""
    with master.client() as client:
        await eventually(lambda: _acknowledged(client), DEADLINE_S)


def _acknowledged(client: Redis) -> bool:
    state = client.info("replication")
    return bool(state["slave0"]["offset"] >= state["master_repl_offset"])


def follows(node: Node, server: Server) -> bool:
    """Whether the node is ready and takes that for one of the masters."""
    return node.unready() is None and port_of(server) in {link.endpoint.port for link in node.bus.links}


async def bodies(client: Client, last: str) -> list[str]:
    """Of the messages up to and with the last one."""
    found = [(await client.next("message"))["body"]]
    while found[-1] != last:
        found.append((await client.next("message"))["body"])
    return found


@pytest.mark.parametrize("way", ["asked to", "killed"])
async def test_nodes_follow_to_the_replica_that_takes_over(way: str) -> None:
    with cluster_with_replica() as (cluster, replica):
        master = cluster.servers[0]
        async with two_nodes(cluster.url, **BRISK) as (a, b):
            names = users_on(a, master, 2)
            alice, bob = [await login(n, u, "?platform=web&device=d") for n, u in zip((a, b), names, strict=True)]
            before = [f"before {number}" for number in range(20)]
            for body in before:
                assert (await alice.send(names[1], body))["type"] == "sent"
            await in_step(master)
            if way == "killed":
                master.kill()
            else:
                with replica.client() as client:
                    client.execute_command("CLUSTER", "FAILOVER")
            assert (await bob.next("resync", DEADLINE_S))["recovered"] is False
            for node in (a, b):
                await eventually(lambda: follows(node, replica), DEADLINE_S)  # noqa: B023

            async def sends() -> bool:
                return bool((await alice.send(names[1], "after"))["type"] == "sent")

            await eventually(sends, DEADLINE_S)
            assert await bodies(bob, "after") == [*before, *before, "after"]
            assert (await b.services.bans.ban([names[0]], minutes=1)).sessions_closed == 1
            assert (await alice.closed())[0] == 4502
            await bob.close()
