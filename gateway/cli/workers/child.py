"""What each worker runs: a node that does what its supervisor says, and ends when the supervisor is gone."""

from __future__ import annotations

import asyncio
import gc
import pickle
import socket
import ssl
import sys
import warnings

import structlog
import uvloop

from gateway import log as logging
from gateway.cli.app import unforeseen
from gateway.cli.failure import explained
from gateway.cli.running import ports, settle_garbage, started, stopped
from gateway.cli.serve import GARBAGE, check_tls
from gateway.cli.signals import Signals, first_of
from gateway.cli.workers.channel import Channel, Message
from gateway.cli.workers.spec import Spec
from gateway.metrics import Measures, exposition_of_workers
from gateway.node import GAUGES, Node

log = structlog.get_logger(__name__)

SIBLINGS_WAIT_S = 2.0
"""How long a scrape waits for the supervisor's word of the other workers; it waits less for each of them."""

ORPHAN_DRAIN_S = 1.0
"""How long a worker whose supervisor is gone takes to send its clients away, on systems that do not end it (Linux kills
it with its supervisor): the next gateway waits for its ports."""


class Child:
    """One worker's life.

    Args:
        channel: to the supervisor.
        spec: what it is.
    """

    def __init__(self, channel: Channel, spec: Spec) -> None:
        self._channel = channel
        self._spec = spec
        self._signals = Signals(terminal=False)
        self._node: Node | None = None
        self._closing = False
        self._drain_s = spec.config.drain_s
        self._siblings: asyncio.Future[Message] | None = None

    async def live(self) -> int:
        """From beginning to end; returns the exit status."""
        hearing = asyncio.ensure_future(self._hear())
        try:
            return await self._serve()
        except Exception as error:
            failure = explained(error) or unforeseen(error, ())
            self._channel.tell("failed", lines=failure.lines, status=failure.status)
            return failure.status
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    async def _serve(self) -> int:
        spec = self._spec
        # The files may be others than when the supervisor looked.
        check_tls(spec.config)
        of_all = self._of_all if spec.index == 0 else None
        starting = asyncio.ensure_future(started(spec.config, spec.credentials, spec.url, of_all))
        await first_of(starting, self._signals.first)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return 0
        self._node = node = starting.result()
        settle_garbage()
        client, admin = ports(node)
        self._channel.tell("ready", client_port=client, admin_port=admin)
        if self._closing:
            node.close()
        await self._signals.first
        await stopped(node, self._signals, self._drain_s)
        return 0

    async def _hear(self) -> None:
        async for message in self._channel.heard():
            self._told(message)
        self._drain_s = min(self._drain_s, ORPHAN_DRAIN_S)
        self._signals.told_to_stop()

    def _told(self, message: Message) -> None:
        match message.what:
            case "close":
                self._closing = True
                if self._node is not None:
                    self._node.close()
            case "stop":
                self._drain_s = message.drain_s
                self._signals.told_to_stop()
            case "abandon":
                self._signals.told_to_stop()
                self._signals.told_to_stop()
            case "reload":
                self._reload()
            case "measure" if self._node is not None:
                self._channel.tell("measures", measures=self._node.measures())
            case "siblings" if self._siblings is not None and not self._siblings.done():
                self._siblings.set_result(message)

    def _reload(self) -> None:
        if self._node is None:
            # It reads the files when it starts.
            return
        try:
            self._node.reload_certificates()
        except (OSError, ssl.SSLError) as error:
            log.error("the certificate in use stays", reason=str(error))

    async def _of_all(self, own: Measures) -> bytes:
        """The exposition of all workers, those named that did not answer."""
        if self._siblings is None or self._siblings.done():
            self._siblings = asyncio.get_running_loop().create_future()
            self._channel.tell("siblings")
        found: dict[str, Measures | None] = {str(each): None for each in range(self._spec.config.workers)}
        restarts: dict[str, int] = {}
        # Not awaited itself: another scrape may wait for the same answer.
        await asyncio.wait({self._siblings}, timeout=SIBLINGS_WAIT_S)
        if self._siblings.done():
            told = self._siblings.result()
            found |= told.siblings
            restarts = told.restarts
        return exposition_of_workers(found | {str(self._spec.index): own}, GAUGES, restarts)


async def _live(end: socket.socket) -> int:
    channel = await Channel.over(end)
    try:
        async for message in channel.heard():
            spec: Spec = pickle.loads(message.spec)
            logging.configure(spec.config.log_level, spec.config.log_format, worker=spec.index)
            return await Child(channel, spec).live()
        return 0
    finally:
        await channel.close()


def main() -> int:
    """Runs a worker; the only argument is the descriptor of its end of the channel."""
    # Said once, by the supervisor.
    warnings.filterwarnings("ignore", message="The HMAC key is ")
    gc.set_threshold(*GARBAGE)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_live(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    sys.exit(main())
