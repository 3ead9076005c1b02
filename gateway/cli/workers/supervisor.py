"""The process that keeps several workers: it owns the client port and the embedded store, and serves nobody itself."""

from __future__ import annotations

import asyncio

from gateway.cli import banner, record
from gateway.cli.app import complain
from gateway.cli.failure import FAILED, Failed
from gateway.cli.own_store import OwnStore
from gateway.cli.running import of_port
from gateway.cli.signals import Signals, first_of, reload
from gateway.cli.workers.ports import ReservedPort
from gateway.cli.workers.spec import Spec, config_of, group_of
from gateway.cli.workers.worker import END_S, Worker
from gateway.config import Config, Credentials
from gateway.transport.listener import tls_context

STOP_SLACK_S = 15.0
"""What a worker may take beyond its drain: its last disconnects, requests under way, links that do not answer."""


async def supervise(config: Config, credentials: Credentials, own_store: OwnStore | None) -> int:
    """Serves with several workers until SIGTERM or SIGINT, or until the store or a worker is lost for good.

    Returns:
        The exit status: 0 when told to stop, 1 when something was lost.

    Raises:
        Failed: it could not start.
    """
    try:
        port = ReservedPort(config.client_host, config.client_port)
    except OSError as error:
        raise Failed(of_port(error, config)) from error
    with port:
        return await Supervisor(config, credentials, own_store, port.port).run()


class Supervisor:
    """Starts the workers, starts them again, tells them to end.

    Args:
        config: validated settings, of all.
        credentials: the app's key and secret.
        own_store: the embedded store; None where there is a redis_url.
        client_port: reserved.
    """

    def __init__(self, config: Config, credentials: Credentials, own_store: OwnStore | None, client_port: int) -> None:
        self._config = config
        self._credentials = credentials
        self._own_store = own_store
        self._client_port = client_port
        self._signals = Signals()
        self._workers = [self._worker(index) for index in range(config.workers)]
        self._answering: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """As ``supervise``."""
        starting = asyncio.ensure_future(self._start())
        await first_of(starting, self._signals.first)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await self._abandon()
            return 0
        try:
            starting.result()
        except BaseException:
            await self._abandon()
            raise
        first = self._workers[0]
        running = record.of(self._config, group_of(self._config), self._client_port, first.admin_port)
        with record.written(self._config.data_dir, running):
            self._signals.on_hangup = lambda: reload(self._config, self._reload)
            banner.show(self._config, self._credentials, running)
            return await self._keep()

    def _worker(self, index: int) -> Worker:
        def spec() -> Spec:
            # The port that it had, where any free one was asked for.
            admin_port = self._config.admin_port or self._workers[index].admin_port
            config = config_of(self._config, index, self._client_port, admin_port)
            url = self._own_store.url if self._own_store is not None else self._config.redis_url
            assert url is not None
            return Spec(index, config, self._credentials, url)

        return Worker(index, spec, self._asked_for_siblings)

    async def _start(self) -> None:
        # The first alone: it brings an empty store its Functions, and says once what all would say.
        await self._workers[0].start()
        # Settings were good enough for the first: where one of the others does not start now, it is tried again.
        await asyncio.gather(*(worker.begin() for worker in self._workers[1:]))

    async def _keep(self) -> int:
        keeping = [asyncio.ensure_future(worker.keep()) for worker in self._workers]
        if self._own_store is not None:
            keeping.append(asyncio.ensure_future(self._own_store.keep()))
        await first_of(*keeping, self._signals.first)
        lost = next((each.result() for each in keeping if each.done()), None)
        for each in keeping:
            each.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        if lost is not None:
            complain(*lost.splitlines(), "stopping")
        else:
            banner.stopping_workers(len(self._workers))
        await self._stop()
        if self._answering is not None:
            self._answering.cancel()
        return FAILED if lost is not None else 0

    async def _stop(self) -> None:
        """Drains one worker after another; a second signal ends all at once."""
        draining = asyncio.ensure_future(self._drain())
        await first_of(draining, self._signals.second)
        if draining.done():
            draining.result()
            return
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        await self._abandon()

    async def _drain(self) -> None:
        # All at first, or a client that was sent away by one would come back to the next.
        for worker in self._workers:
            worker.tell("close")
        share_s = self._config.drain_s / len(self._workers)
        # The first worker last: it has the admin port.
        for worker in reversed(self._workers):
            worker.tell("stop", share_s)
            await worker.gone(share_s + STOP_SLACK_S)

    async def _abandon(self) -> None:
        for worker in self._workers:
            worker.tell("abandon")
        await asyncio.gather(*(worker.gone(END_S) for worker in self._workers))

    def _reload(self) -> None:
        # Looked at here first, so that all workers take it or none does.
        tls_context(self._config)
        for worker in self._workers:
            worker.tell("reload")

    def _asked_for_siblings(self) -> None:
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._tell_siblings())

    async def _tell_siblings(self) -> None:
        first, others = self._workers[0], self._workers[1:]
        found = await asyncio.gather(*(worker.measures() for worker in others))
        by_index = {str(worker.index): each for worker, each in zip(others, found, strict=True)}
        first.tell_siblings(by_index, {str(worker.index): worker.restarts for worker in self._workers})
