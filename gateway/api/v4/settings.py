"""Live settings of the app. Extensions."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from gateway.api.bearer import READ, WRITE
from gateway.api.operation import operation
from gateway.api.schemas import Schema, described
from gateway.api.v4.fields import Nothing
from gateway.services.services import Services
from gateway.services.settings import LiveSettings

_ALL = described(LiveSettings)


def _without_defaults(schema: Schema) -> Schema:
    # What is left out of a change stays as it is, whatever holds where nothing was ever changed.
    about = schema["properties"].items()
    return schema | {
        "properties": {name: {key: value for key, value in each.items() if key != "default"} for name, each in about}
    }


Changes = Annotated[dict[str, Any], Meta(extra_json_schema=_without_defaults(_ALL))]
Values = Annotated[dict[str, Any], Meta(extra_json_schema=_ALL | {"required": list(_ALL["properties"])})]


@operation("/v4/app/setting/get", scope=READ, extension=True)
async def get(services: Services, asked: Nothing) -> Values:
    """Read the live settings."""
    return await services.settings.get()


@operation("/v4/app/setting/set", scope=WRITE, extension=True, example={"friendsOnly": True, "devicePolicy": "single"})
async def change(services: Services, asked: Changes) -> Values:
    """Change any of the live settings; answers with all of them."""
    return await services.settings.set(asked)


OPERATIONS = (get, change)
