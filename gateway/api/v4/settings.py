"""Live settings of the app. Extensions."""

from __future__ import annotations

from typing import Any

from gateway.api.bearer import READ, WRITE
from gateway.api.operation import operation
from gateway.api.v4.fields import Nothing
from gateway.services.services import Services


@operation("/v4/app/setting/get", scope=READ, extension=True)
async def get(services: Services, asked: Nothing) -> dict[str, Any]:
    """Read the live settings."""
    return await services.settings.get()


@operation("/v4/app/setting/set", scope=WRITE, extension=True)
async def change(services: Services, asked: dict[str, Any]) -> dict[str, Any]:
    """Change any of the live settings; answers with all of them."""
    return await services.settings.set(asked)


OPERATIONS = (get, change)
