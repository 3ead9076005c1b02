"""What a TCP socket can do beyond asyncio's transports."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
from typing import Any

_LINGER_NONE = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 seconds: closing discards what the kernel still holds and resets the connection."""


_SIOCOUTQNSD = 0x894B
"""Linux' question for the bytes that a TCP socket has not sent yet (linux/sockios.h)."""


def unsent(transport: asyncio.Transport) -> bool:
    """Whether bytes wait, here or in the kernel, that have not been sent yet; those on their way are out of reach.

    The kernel is asked because under TLS the transport tells only of what is not encrypted yet.
    """
    if transport.get_write_buffer_size() > 0:
        return True
    raw: Any = transport.get_extra_info("socket")
    try:
        return raw is not None and any(fcntl.ioctl(raw.fileno(), _SIOCOUTQNSD, bytes(4)))
    except OSError:
        # Not TCP, not Linux, or gone.
        return False


def reset(transport: asyncio.Transport) -> None:
    """Ends a connection so that bytes still queued, here or in the kernel, never arrive."""
    raw: Any = transport.get_extra_info("socket")
    if raw is not None and raw.family != socket.AF_UNIX:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
    transport.abort()


def peer_of(transport: asyncio.Transport) -> str:
    """Address and port of the other end; "" where it has none, or is gone."""
    peer = transport.get_extra_info("peername")
    if not peer:
        return ""
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"


def half_closed(transport: asyncio.Transport) -> bool:
    """Ends what the peer hears, behind all that was written, and goes on hearing it.

    Returns:
        False where that cannot be: under TLS, or because it is closed.
    """
    if transport.is_closing() or not transport.can_write_eof():
        return False
    transport.write_eof()
    return True
