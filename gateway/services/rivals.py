"""Sessions that stand in a newcomer's way though their node is dead.

Who comes while they are still listed would be refused on their account until some node has reaped them.
"""

from __future__ import annotations

from gateway.metrics import METRICS
from gateway.services.context import NodeContext
from gateway.store import nodes, sessions


async def forget_dead(context: NodeContext, user: str) -> int:
    """Removes a user's sessions whose node's lease has ended, as its reaper would.

    Returns:
        How many were removed.

    Raises:
        StoreError: The store went away.
    """
    store, keys = context.store, context.keys
    held, leases, time = await store.execute_all([sessions.list_of(keys, user), nodes.leases(keys), nodes.time(keys)])
    alive = nodes.alive(leases, nodes.parse_time(time))
    dead = [] if alive is None else [each for each in sessions.parse_list(held) if each.node not in alive]
    if not dead:
        return 0
    replies = await store.execute_all([sessions.disconnect(keys, user, each.session, each.node) for each in dead])
    removed = [each for each, reply in zip(dead, replies, strict=True) if int(reply) == sessions.REMOVED]
    METRICS.sessions_reaped += len(removed)
    if context.outbox.statuses:
        for each in removed:
            context.outbox.offline(user, each.session, each.node)
    return len(removed)
