"""Other servers, put to the same work as the gateway: what a team would take instead, and the limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loadtest.target import Target


@contextmanager
def starting(name: str, core: int | None) -> Iterator[Target]:
    """Starts a peer as what a run loads.

    Args:
        name: of the registry.
        core: where all its processes run; None = anywhere.

    Raises:
        PeerFault: there is none of that name, something is missing, or it does not start.
    """
    # Late: generators import dialects from this package, and need nothing else of it.
    from gateway.config import Credentials
    from loadtest.peers.peer import SECRET, PeerFault
    from loadtest.peers.registry import peer
    from loadtest.target import Target

    found = peer(name)
    if why := found.missing():
        raise PeerFault(f"{found.title}: {why}")
    with found.start(core) as running:
        yield Target(
            running.url,
            credentials=Credentials("peer", SECRET),
            dialect=found.dialect,
            kind=name,
            core=core,
            software=dict(found.versions()),
            known=dict(running.pids),
        )
