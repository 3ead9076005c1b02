"""What the servers do so that what was stored survives, and what that leaves open (docs/durability.md)."""

from __future__ import annotations

from typing import NamedTuple

from gateway.store.call import text
from gateway.store.errors import Forbidden, StoreRefused
from gateway.store.functions import Fault, pairs
from gateway.store.master import Master
from gateway.store.replicated import Replication
from gateway.store.topology import Topology


class Footing(NamedTuple):
    """How one master keeps what it is told.

    Attributes:
        where: the server, for a person.
        replicas: how many are connected.
        appendonly: whether it keeps an append-only file.
        fsync: when that reaches the disk: always, everysec, no.
        replicas_to_write: below so many good replicas it refuses writes; 0 = never.
    """

    where: str
    replicas: int
    appendonly: bool
    fsync: str
    replicas_to_write: int

    def __str__(self) -> str:
        file = f"appendonly yes, appendfsync {self.fsync}" if self.appendonly else "appendonly no"
        return f"{self.where}: {_counted(self.replicas)}, {file}, min-replicas-to-write {self.replicas_to_write}"


async def look(topology: Topology) -> list[Footing]:
    """Each master's; those that do not let ROLE or CONFIG GET be called are left out.

    Raises:
        StoreUnavailable, OutcomeUnknown: A server does not answer.
    """
    found = []
    for master in topology.masters:
        try:
            found.append(await _look(master))
        except (StoreRefused, Forbidden):
            continue
    return found


async def _look(master: Master) -> Footing:
    role = await master.execute("ROLE")
    settings = pairs(await master.execute("CONFIG", "GET", "append*", "min-replicas-to-write"))
    return Footing(
        f"Redis at {master.endpoint}",
        len(role[2]) if role[0] == b"master" else 0,
        text(settings.get("appendonly")) == "yes",
        text(settings.get("appendfsync")),
        int(settings.get("min-replicas-to-write", 0)),
    )


def judge(footing: Footing, replication: Replication | None) -> list[Fault]:
    """What an operator should know of a master's footing; none of it stops a start."""
    where, replicas = footing.where, footing.replicas
    faults = []
    if not footing.appendonly:
        follow = "its replicas would copy that" if replicas else "it has no replica"
        faults.append(f"{where} has appendonly no: restarted, it comes back empty, and {follow}; set it to yes")
    if replication is not None and replicas < replication.replicas_min:
        faults.append(
            f"{where} has {_counted(replicas)}, durability = replicated waits for {replication.replicas_min}: "
            "sends are stored and answered 504"
        )
    return [Fault(fault, fatal=False) for fault in faults]


def remarks(footing: Footing, replication: Replication | None) -> list[str]:
    """What such a store may lose of what got ``sent``, where nothing is wrong with it."""
    said = []
    if footing.appendonly and footing.fsync != "always" and replication is None:
        lost = "about a second" if footing.fsync == "everysec" else "half a minute"
        said.append(f"a power failure may lose {lost} of what got `sent`; appendfsync always closes that")
    if footing.replicas and replication is None:
        said.append("a failover may lose the last of what got `sent`; durability = replicated closes that")
    if replication is not None and footing.replicas_to_write < replication.replicas_min:
        said.append(
            f"with min-replicas-to-write {replication.replicas_min} sends are refused (503) and not stored (504) "
            "while replicas are away"
        )
    return said


def _counted(replicas: int) -> str:
    return "1 replica" if replicas == 1 else f"{replicas or 'no'} replicas"
