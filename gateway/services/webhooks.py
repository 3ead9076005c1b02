"""One node's webhooks: what it tells the app's own server, and what it asks it."""

from __future__ import annotations

import structlog

from gateway.config import Credentials
from gateway.services.checks import Checks
from gateway.services.context import NodeContext
from gateway.services.receiver import Receiver
from gateway.services.sender import Sender, shown, targets

log = structlog.get_logger(__name__)


class Webhooks:
    """Builds and ends the parts; without an address there are none but an outbox that is never used.

    Attributes:
        checks: the pre-message check; None where there is nobody to ask.
    """

    def __init__(self, context: NodeContext, credentials: Credentials, node_id: str) -> None:
        config = context.config
        self._context = context
        self._receiver: Receiver | None = None
        self._sender: Sender | None = None
        self.checks: Checks | None = None
        addresses = targets(config)
        if addresses:
            self._receiver = Receiver(credentials, context.clock, config.webhook_timeout_s)
            self.checks = Checks(context, self._receiver, credentials.app_key)
            if config.webhook_send:
                self._sender = Sender(context, self._receiver, node_id)
        context.outbox.connect(context.bus, self._sender.wake if self._sender is not None else _nothing)

    @property
    def backlog(self) -> int:
        """How many events wait in the deployment's queue, as this node last saw it; 0 on nodes that send none."""
        return self._sender.backlog if self._sender is not None else 0

    def start(self) -> None:
        """Begins to send."""
        if self._sender is not None:
            self._context.spawn(self._sender.run())
            addresses = sorted({shown(url) for url in targets(self._context.config).values()})
            log.info("events are sent to the app's server", address=", ".join(addresses))

    async def stop(self) -> None:
        """Sends no more; what this node has taken is left to others."""
        if self._sender is not None:
            await self._sender.stop()

    async def close(self) -> None:
        """After the last event has been queued."""
        self._context.outbox.close()
        if self._receiver is not None:
            await self._receiver.close()


def _nothing() -> None:
    pass
