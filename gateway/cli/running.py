"""The life of a serving process: start the node, say so, wait for the end, drain, stop."""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
from typing import Any

from gateway.cli import banner, opening, record
from gateway.cli.app import complain
from gateway.cli.failure import FAILED, Failed
from gateway.cli.own_store import OwnStore
from gateway.config import Config, ConfigError, Credentials
from gateway.node import Node


async def serve_until_told(config: Config, credentials: Credentials, own_store: OwnStore | None) -> int:
    """Serves until SIGTERM or SIGINT, or until the embedded store is lost for good.

    Returns:
        The exit status: 0 when told to stop, 1 when the store was lost.

    Raises:
        Failed: it could not start.
    """
    signals = _Signals()
    url = own_store.url if own_store else config.redis_url
    assert url is not None
    starting = asyncio.ensure_future(_start(config, credentials, url))
    await _first_of(starting, signals.first)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return 0
    node = starting.result()
    with record.written(config.data_dir, node):
        gc.collect()
        # What the program itself consists of never becomes garbage: no collection need look at it again.
        gc.freeze()
        banner.show(config, credentials, node)
        keeping = asyncio.ensure_future(own_store.keep()) if own_store else None
        await _first_of(*filter(None, (keeping,)), signals.first)
        lost = keeping.result() if keeping is not None and keeping.done() else None
        if lost is not None:
            complain(*lost.splitlines(), "stopping: nothing works without the store")
        else:
            banner.stopping(len(node.hub))
        if keeping is not None:
            keeping.cancel()
        await _stop(node, signals)
    return FAILED if lost is not None else 0


async def _start(config: Config, credentials: Credentials, url: str) -> Node:
    store = await opening.opened(config, url, credentials)
    try:
        node = Node(config, credentials, store)
    except ConfigError as error:
        await store.close()
        raise Failed(*map(str, error.faults)) from error
    try:
        await node.start()
    except BaseException as error:
        # A lease was taken, a port may be open: leave nothing behind.
        await node.abandon()
        if isinstance(error, OSError):
            raise Failed(_of_port(error, config)) from error
        raise
    return node


def _of_port(error: OSError, config: Config) -> str:
    # The admin port explains itself; what asyncio says of the client port is for programmers.
    if "admin port" in str(error):
        return error.strerror or str(error)
    where = f"client port {config.client_port} on {config.client_host}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program; choose another with --client-port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where} is not permitted to this user; choose one above 1023 with --client-port"
    return f"cannot listen on {where}: {error.strerror or error}; see --client-host and --client-port"


async def _stop(node: Node, signals: _Signals) -> None:
    """Drains; a second signal ends everything at once."""
    draining = asyncio.ensure_future(node.stop())
    await _first_of(draining, signals.second)
    if draining.done():
        draining.result()
        return
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)
    await node.abandon()


async def _first_of(*awaited: asyncio.Future[Any]) -> None:
    await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)


class _Signals:
    """SIGTERM and SIGINT: the first asks for a drain, the second for the end."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[Any] = loop.create_future()
        self.second: asyncio.Future[Any] = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received)

    def _received(self) -> None:
        for each in (self.first, self.second):
            if not each.done():
                each.set_result(None)
                return
