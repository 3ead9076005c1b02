"""No task per connection or per message on the relay path: counted under load."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from tests.integration.fleet import two_nodes
from tests.integration.raw import RawClient
from tests.servers import Server
from tests.waiting import eventually

CONNECTIONS = 20
MESSAGES = 100


async def test_messages_and_idle_connections_create_no_tasks(valkey: Server) -> None:
    async with two_nodes(valkey.url) as nodes:
        loop = asyncio.get_running_loop()
        users = [f"u{number}" for number in range(CONNECTIONS)]
        tokens = [await nodes[0].services.tokens.issue(user, None) for user in users]
        made: list[str] = []

        def counting(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any) -> Any:
            made.append(getattr(work, "__qualname__", ""))
            return asyncio.Task(work, loop=loop, **options)

        # What a start looks up in Redis is over.
        await eventually(lambda: not any(node.context.tasks for node in nodes))
        before = len(asyncio.all_tasks())
        clients = [await RawClient.open(nodes[n % 2], token) for n, token in enumerate(tokens)]
        assert len(asyncio.all_tasks()) == before, "no connection has a task"
        loop.set_task_factory(counting)
        try:
            for number in range(MESSAGES):
                for index, client in enumerate(clients):
                    to = users[(index + 1) % CONNECTIONS]
                    client.say({"type": "send", "id": f"m{number}", "to": to, "body": number})
            last = f'"id":"m{MESSAGES - 1}"'.encode()
            for client in clients:
                await eventually(lambda: client.received.count(b'"type":"message"') == MESSAGES, 20)  # noqa: B023
                await client.until(last)
        finally:
            loop.set_task_factory(None)
        # 2,000 messages; a node's own few (a look into Redis now and then) are not a message's.
        assert len(made) < MESSAGES // 2, made
        for client in clients:
            client.abort()
        await eventually(lambda: not nodes[0].hub.sessions and not nodes[1].hub.sessions)
