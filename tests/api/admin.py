"""A running Server API for tests, and a client that signs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import httpx

from gateway.api.app import build
from gateway.api.server import AdminServer
from gateway.config import Config
from gateway.services.services import Services
from tests.nodes import CREDENTIALS

from .signing import signed


@dataclasses.dataclass
class Admin:
    """One admin port.

    Attributes:
        base_url: where it answers.
        services: what is behind it.
        config: its limits.
        http: an unsigned client of it.
        unready: why not, for ``/readyz``; None = ready.
    """

    base_url: str
    services: Services
    config: Config
    http: httpx.AsyncClient
    unready: str | None = None

    async def call(
        self, path: str, body: Any = None, *, method: str = "POST", headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        """Sends a signed request; ``headers`` replace the signature."""
        sent = signed() if headers is None else headers
        if body is not None:
            more["json"] = body
        # The path is joined as the vendor's client does it: "//v4/…" stays what it is.
        return await self.http.request(method, self.base_url + path, headers=sent, **more)

    async def result(self, path: str, body: Any = None) -> Any:
        """The ``result`` of a call that must succeed."""
        answer = await self.call(path, body)
        assert answer.status_code == 200, answer.text
        content = answer.json()
        assert type(content["code"]) is int
        assert content["code"] == 0
        return content.get("result")


@contextlib.asynccontextmanager
async def serving(services: Services, config: Config, **more: Any) -> AsyncIterator[Admin]:
    """An admin port in front of these services."""
    async with httpx.AsyncClient(timeout=30) as http:
        admin = Admin("", services, config, http)
        server = AdminServer(build(config, CREDENTIALS, services, lambda: admin.unready, **more), config)
        await server.start()
        admin.base_url = f"http://127.0.0.1:{server.port}"
        try:
            yield admin
        finally:
            await server.stop()


def refusal(answer: httpx.Response) -> tuple[int, int]:
    """Status and code of an error, after a look at its shape."""
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    content = answer.json()
    assert set(content) == {"code", "errorMessage"}
    assert type(content["code"]) is int
    assert isinstance(content["errorMessage"], str)
    return answer.status_code, content["code"]
