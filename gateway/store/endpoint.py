"""Where a Redis server is."""

from __future__ import annotations

from typing import Any, NamedTuple


class Endpoint(NamedTuple):
    """Where a Redis server is and how to be let in.

    Attributes:
        ssl: the TLS context, None = no TLS.
        authorities: the file of certificate authorities that the context trusts beside the system's.
    """

    host: str | None
    port: int
    path: str | None
    username: str | None
    password: str | None
    ssl: Any
    authorities: str | None = None

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"
