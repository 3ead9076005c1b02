"""Pings for clients that are silent, and the end of those that do not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core.close import Closing
from gateway.metrics import METRICS
from gateway.protocol import codes

if TYPE_CHECKING:
    from gateway.core.timers import Timer
    from gateway.transport.connection import Connection
    from gateway.transport.listener import Listener


class Heartbeat:
    """One listener's: a timer a connection, armed again and again.

    Args:
        listener: whose clock, timers and limits these are.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._wheel = listener.wheel
        self._silence_s = listener.config.heartbeat_s
        self._answer_s = listener.config.heartbeat_timeout_s
        self._beaten = self._beat

    def begin(self, connection: Connection) -> Timer:
        """Minds a connection that is open now; ends when the timer is cancelled, or the connection is closed."""
        return self._wheel.arm(connection.heard_at + self._silence_s, self._beaten, connection)

    def _beat(self, connection: Connection, now: float) -> None:
        if not connection.open:
            return
        if connection.pinged_at and connection.heard_at < connection.pinged_at:
            if now - self._listener.gap_ended_at < self._answer_s:
                # This node stood still: the pong may be waiting in the kernel.
                self._again(connection, now + self._answer_s)
                return
            METRICS.heartbeat_timeouts += 1
            assert connection.session is not None
            connection.session.cut(Closing.of(codes.HEARTBEAT_TIMEOUT, "no pong"))
            return
        connection.pinged_at = 0.0
        silent_until = connection.heard_at + self._silence_s
        if connection.blocked_at or connection.unread:
            # A ping behind what the client does not take would say nothing; outbound_age_max_s judges that one. Whom
            # this node does not read it cannot call silent.
            silent_until = now + self._silence_s
        if silent_until > now:
            self._again(connection, silent_until)
            return
        connection.pinged_at = now
        connection.ping()
        self._again(connection, now + self._answer_s)

    def _again(self, connection: Connection, deadline: float) -> None:
        timer = connection.beat
        if timer is not None:
            self._wheel.rearm(timer, deadline, self._beaten, connection)
