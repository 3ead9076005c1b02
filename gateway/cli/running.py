"""The life of a serving process: start the node, say so, wait for the end, drain, stop."""

from __future__ import annotations

import asyncio
import errno
import gc
from collections.abc import Awaitable, Callable

from gateway.cli import banner, opening, record
from gateway.cli.app import complain
from gateway.cli.failure import FAILED, Failed
from gateway.cli.own_store import OwnStore
from gateway.cli.signals import Signals, first_of, reload
from gateway.config import Config, ConfigError, Credentials
from gateway.metrics import Measures
from gateway.node import Node

OfAll = Callable[[Measures], Awaitable[bytes]]


async def serve_until_told(config: Config, credentials: Credentials, own_store: OwnStore | None) -> int:
    """Serves until SIGTERM or SIGINT, or until the embedded store is lost for good.

    Returns:
        The exit status: 0 when told to stop, 1 when the store was lost.

    Raises:
        Failed: it could not start.
    """
    signals = Signals()
    url = own_store.url if own_store else config.redis_url
    assert url is not None
    starting = asyncio.ensure_future(started(config, credentials, url))
    await first_of(starting, signals.first)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return 0
    node = starting.result()
    running = record.of(config, node.node_id, *ports(node))
    with record.written(config.data_dir, running):
        settle_garbage()
        signals.on_hangup = lambda: reload(config, node.reload_certificates)
        banner.show(config, credentials, running)
        keeping = asyncio.ensure_future(own_store.keep()) if own_store else None
        await first_of(*filter(None, (keeping,)), signals.first)
        lost = keeping.result() if keeping is not None and keeping.done() else None
        if lost is not None:
            complain(*lost.splitlines(), "stopping: nothing works without the store")
        else:
            banner.stopping(len(node.hub))
        if keeping is not None:
            keeping.cancel()
        await stopped(node, signals)
    return FAILED if lost is not None else 0


async def started(config: Config, credentials: Credentials, url: str, of_all: OfAll | None = None) -> Node:
    """A node that serves.

    Args:
        url: of the store.
        of_all: as ``Node``'s.

    Raises:
        Failed: it could not start.
    """
    store = await opening.opened(config, url, credentials)
    try:
        node = Node(config, credentials, store, of_all=of_all)
    except ConfigError as error:
        await store.close()
        raise Failed(*map(str, error.faults)) from error
    try:
        await node.start()
    except BaseException as error:
        # A lease was taken, a port may be open: leave nothing behind.
        await node.abandon()
        if isinstance(error, OSError):
            raise Failed(of_port(error, config)) from error
        raise
    return node


def settle_garbage() -> None:
    """Once, when everything is there: what the program itself consists of never becomes garbage."""
    gc.collect()
    gc.freeze()


def ports(node: Node) -> tuple[int, int]:
    """(client port, admin port) that are open; 0 for one that the node's role has not."""
    role = node.config.role
    return (node.listener.port if role != "admin" else 0, node.admin.port if role != "edge" else 0)


def of_port(error: OSError, config: Config) -> str:
    """Why a port cannot be had, for the person at the terminal."""
    # The admin port explains itself; what asyncio says of the client port is for programmers.
    if "admin port" in str(error):
        return error.strerror or str(error)
    where = f"client port {config.client_port} on {config.client_host}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program; choose another with --client-port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where} is not permitted to this user; choose one above 1023 with --client-port"
    return f"cannot listen on {where}: {error.strerror or error}; see --client-host and --client-port"


async def stopped(node: Node, signals: Signals, drain_s: float | None = None) -> None:
    """Drains, for as long as ``Node.stop`` may; a second signal ends everything at once."""
    draining = asyncio.ensure_future(node.stop(drain_s))
    await first_of(draining, signals.second)
    if draining.done():
        draining.result()
        return
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)
    await node.abandon()
