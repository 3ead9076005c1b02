"""The client port of several workers: kept by the supervisor, so that it stays theirs while a worker is replaced."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import Self


class ReservedPort:
    """A port that is bound for sharing and never listened on: the kernel gives it no connection.

    Args:
        host: the address, or a name; all its addresses are taken.
        port: 0 takes any free one.

    Raises:
        OSError: it cannot be had; also where other workers share it, whom the kernel would let share it with ours.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port = port
        with ExitStack() as bound:
            for family, kind, protocol, _, address in _addresses(host, port):
                place = (address[0], self.port, *address[2:])
                if self.port:
                    # Without sharing, so that anybody who listens there already is in the way.
                    with socket.socket(family, kind, protocol) as probe:
                        _bind(probe, place, socket.SO_REUSEADDR)
                kept = bound.enter_context(socket.socket(family, kind, protocol))
                _bind(kept, place, socket.SO_REUSEPORT)
                self.port = kept.getsockname()[1]
            self._bound = bound.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bound.close()


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple]]:  # type: ignore[type-arg]
    return list(dict.fromkeys(socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)))


def _bind(each: socket.socket, place: tuple, option: int) -> None:  # type: ignore[type-arg]
    each.setsockopt(socket.SOL_SOCKET, option, 1)
    if each.family == socket.AF_INET6:
        # As asyncio does, so that an IPv4 socket may have the same port.
        each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    each.bind(place)
