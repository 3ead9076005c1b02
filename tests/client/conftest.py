"""A running gateway and SDK clients on it; every client is closed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gateway.client import Client, Message
from gateway.node import Node
from tests.nodes import running_node
from tests.servers import Server


class Inbox(list[Message]):
    """What a client's app was handed."""

    @property
    def bodies(self) -> list[Any]:
        return [message.body for message in self]


class Apps:
    """Makes clients of a node.

    Attributes:
        states: by client, every state it came to, with why.
        errors: by client, what `on_error` was told.
    """

    def __init__(self, node: Node, stack: AsyncExitStack) -> None:
        self.node = node
        self._stack = stack
        self.states: dict[Client, list[str]] = {}
        self.errors: dict[Client, list[Exception]] = {}

    def url(self, node: Node | None = None) -> str:
        return f"ws://127.0.0.1:{(node or self.node).listener.port}"

    def token(self, user: str) -> Callable[[], Awaitable[str]]:
        """Issues a new token at every call, as an app's server would."""
        return lambda: self.node.services.tokens.issue(user, user.title())

    def new(self, user: str, **options: Any) -> Client:
        """A client that is not connected yet."""
        settings: dict[str, Any] = {"url": self.url(), "token": self.token(user), "device": f"{user}s-own"}
        client = Client(**(settings | options))
        states: list[str] = []
        errors: list[Exception] = []
        client.on_state(lambda state, why: states.append(state))
        client.on_error(errors.append)
        self.states[client], self.errors[client] = states, errors
        self._stack.push_async_callback(client.close)
        return client

    async def connected(self, user: str, **options: Any) -> Client:
        client = self.new(user, **options)
        await client.connect()
        return client

    async def listening(self, user: str, **options: Any) -> tuple[Client, Inbox]:
        """A connected client and what its handler is given."""
        client, inbox = self.new(user, **options), Inbox()
        client.on_message(inbox.append)
        await client.connect()
        return client, inbox


@pytest.fixture
async def node(valkey: Server) -> AsyncIterator[Node]:
    async with running_node(valkey.url) as node:
        yield node


@pytest.fixture
async def apps(node: Node) -> AsyncIterator[Apps]:
    async with AsyncExitStack() as stack:
        yield Apps(node, stack)
