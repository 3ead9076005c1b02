"""What one generator process is told at first."""

from __future__ import annotations

import socket

from msgspec import Struct

from loadtest.scenario import Scenario


class Plan(Struct, kw_only=True):
    """What one generator is told at first.

    Attributes:
        run: part of all users' names, which no other run has.
        number: among the generators, from 0.
        indexes: its users: (first, behind the last).
        sources: the addresses its sockets come from; "" = as the system likes.
        dialect: ``module:Class`` of who speaks; made with the URL.
        tokens: of users whose tokens were issued; all others sign themselves.
        also: further nodes of the same service: (host, port); users take all of them in turn by their numbers.
    """

    scenario: Scenario
    run: str
    number: int
    first: int
    behind: int
    url: str
    host: str
    port: int
    app_key: str
    app_secret: str
    dialect: str = "loadtest.dialect:GatewayDialect"
    sources: list[str]
    tokens: dict[str, str] = {}
    also: list[tuple[str, int]] = []

    @property
    def indexes(self) -> range:
        return range(self.first, self.behind)

    @property
    def phase(self) -> float:
        """Where its events lie between two of another process: see Pace."""
        return self.number / self.scenario.processes

    def address(self, index: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
        """Where the user of that number connects."""
        nodes = [(self.host, self.port), *self.also]
        host, port = nodes[index % len(nodes)]
        return socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port)
