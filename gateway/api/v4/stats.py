"""What the deployment carries just now. Extension."""

from __future__ import annotations

from gateway.api.bearer import READ
from gateway.api.operation import operation
from gateway.api.v4.fields import Nothing, Result
from gateway.services.services import Services


class Node(Result):
    """One live node, as it answered; what did not answer in time counts nothing.

    Attributes:
        node_id: the node's incarnation, as in acknowledgements and session lists.
        answered: whether it did.
        connections: open sockets.
        sessions: authenticated ones.
        draining: whether it sends its clients away.
        uptime_seconds: since its start.
        version: the gateway's.
        messages_per_second: direct messages that its clients sent, over the last ten seconds.
        logins_per_second: sessions opened, likewise.
    """

    node_id: str
    answered: bool
    connections: int
    sessions: int
    draining: bool
    uptime_seconds: float
    version: str
    messages_per_second: float
    logins_per_second: float


class Stats(Result):
    """All nodes.

    Attributes:
        nodes: one by one.
        connections: open sockets on all.
        sessions: authenticated ones on all.
        users_online: users with a session, each counted once.
        users_registered: users who are registered and not softly deleted.
        messages_per_second: on all nodes.
        logins_per_second: on all nodes.
    """

    nodes: list[Node]
    connections: int
    sessions: int
    users_online: int
    users_registered: int
    messages_per_second: float
    logins_per_second: float


@operation("/v4/app/stats", scope=READ, extension=True)
async def stats(services: Services, asked: Nothing) -> Stats:
    """Ask every node what it carries, and count the users."""
    records = await services.control.nodes()
    return Stats(
        nodes=[
            Node(
                node_id=each.incarnation,
                answered=each.answered,
                connections=each.connections,
                sessions=each.sessions,
                draining=each.draining,
                uptime_seconds=each.uptime_s,
                version=each.version,
                messages_per_second=each.messages_per_s,
                logins_per_second=each.logins_per_s,
            )
            for each in records
        ],
        connections=sum(each.connections for each in records),
        sessions=sum(each.sessions for each in records),
        users_online=await services.presence.count_online(),
        users_registered=await services.accounts.count(),
        messages_per_second=round(sum(each.messages_per_s for each in records), 1),
        logins_per_second=round(sum(each.logins_per_s for each in records), 1),
    )


OPERATIONS = (stats,)
