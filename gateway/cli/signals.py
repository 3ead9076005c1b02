"""What a serving process is told by signals."""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys
from collections.abc import Callable
from typing import Any

from gateway.cli.app import complain
from gateway.config import Config


class Signals:
    """SIGTERM and SIGINT: the first asks for a drain, the second for the end. SIGHUP: the certificates are new.

    Args:
        terminal: whether SIGHUP is the end where stderr is a terminal, which then is gone.

    Attributes:
        first, second: done when that signal has come.
        on_hangup: called at each SIGHUP; None = it goes unheard.
    """

    def __init__(self, *, terminal: bool = True) -> None:
        self._terminal = terminal
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[Any] = loop.create_future()
        self.second: asyncio.Future[Any] = loop.create_future()
        self.on_hangup: Callable[[], None] | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.told_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)

    def told_to_stop(self) -> None:
        """As a signal does."""
        for each in (self.first, self.second):
            if not each.done():
                each.set_result(None)
                return

    def _hung_up(self) -> None:
        if self._terminal and sys.stderr.isatty():
            # Nobody is left who could press Ctrl-C.
            self.told_to_stop()
        elif self.on_hangup is not None:
            self.on_hangup()


def reload(config: Config, act: Callable[[], None]) -> None:
    """Does what SIGHUP asks for, and says how that went.

    Args:
        act: reads the certificate again.
    """
    if config.tls_cert is None:
        complain("SIGHUP: there is nothing to reload: no tls_cert is set")
        return
    try:
        act()
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        complain(f"SIGHUP: the certificate in use stays: {config.tls_cert} or {config.tls_key}: {reason}")
        return
    complain(f"SIGHUP: certificate {config.tls_cert} is in use for new connections")


async def first_of(*awaited: asyncio.Future[Any]) -> None:
    """Waits for any of them."""
    await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
