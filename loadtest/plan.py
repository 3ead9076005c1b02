"""What one generator process is told at first."""

from __future__ import annotations

import socket

from msgspec import Struct

from loadtest.scenario import Scenario


class Plan(Struct, kw_only=True):
    """What one generator is told at first.

    Attributes:
        run: part of all users' names, which no other run has.
        indexes: its users: (first, behind the last).
        sources: the addresses its sockets come from; "" = as the system likes.
        dialect: ``module:Class`` of who speaks; made with the URL.
        tokens: of users whose tokens were issued; all others sign themselves.
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

    @property
    def indexes(self) -> range:
        return range(self.first, self.behind)

    @property
    def address(self) -> tuple[socket.AddressFamily, tuple[str, int]]:
        """Where to connect."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        return family, (self.host, self.port)
