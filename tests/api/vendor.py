"""The vendor's own client of the v4 API, unmodified. It blocks, so every call runs in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import ncsdk
from ncsdk import models

from tests.nodes import CREDENTIALS


class Vendor:
    """The client's three groups of calls that are about users.

    Args:
        url: the base URL.
        secret: what it signs with.
    """

    def __init__(self, url: str, secret: str = CREDENTIALS.app_secret) -> None:
        configuration = ncsdk.Configuration()
        configuration.host = url
        configuration.set_nexconn_credentials(CREDENTIALS.app_key, secret)
        self._client = ncsdk.ApiClient(configuration)
        self.users = ncsdk.UserManagementApi(self._client)
        self.blocklist = ncsdk.UserBlocklistApi(self._client)
        self.friends = ncsdk.FriendshipApi(self._client)
        self.profiles = ncsdk.UserProfileHostingApi(self._client)
        self.moderation = ncsdk.ModerationApi(self._client)
        self.messages = ncsdk.MessageManagementApi(self._client)
        self.system = ncsdk.SystemMessagesApi(self._client)

    async def call(self, method: Callable[..., Any], request: str, **fields: Any) -> Any:
        """Calls a method with the request model of that name; returns the parsed ``result``."""
        model = getattr(models, request)(**fields)
        response = await asyncio.to_thread(method, model)
        assert response.code == 0
        return getattr(response, "result", None)

    def close(self) -> None:
        """Closes the client's connections."""
        self._client.rest_client.pool_manager.clear()
