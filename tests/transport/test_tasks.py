"""Invariant 1: no task, queue or future per connection or per message on the relay path."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import orjson
from websockets.sync.client import ClientConnection, connect

from gateway.node import Node
from tests.nodes import address
from tests.transport.conftest import Edge
from tests.waiting import eventually

MESSAGES = 2_000
WINDOW = 8


class Counted:
    """Counts what a loop makes, through its task factory and its ``create_future``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.tasks = self.futures = 0
        self._create_future = loop.create_future
        loop.set_task_factory(self._task)
        loop.create_future = self._future  # type: ignore[method-assign]

    def _task(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any) -> Any:
        self.tasks += 1
        return asyncio.Task(work, loop=loop, **options)

    def _future(self) -> asyncio.Future[Any]:
        self.futures += 1
        return self._create_future()


def open_client(uri: str, token: str) -> ClientConnection:
    headers = {"Authorization": f"Bearer {token}"}
    return connect(uri, additional_headers=headers, compression=None, proxy=None, ping_interval=None)


def exchange(uri: str, alice: str, bob: str, start: threading.Event, ready: threading.Event) -> None:
    """The clients' side, in a thread of its own without any loop: sends, and sees each message arrive."""
    with open_client(uri, alice) as sender, open_client(uri, bob) as receiver:
        for client in (sender, receiver):
            assert orjson.loads(client.recv(10))["type"] == "welcome"
        ready.set()
        start.wait(10)
        sent = arrived = 0
        while arrived < MESSAGES:
            while sent < MESSAGES and sent - arrived < WINDOW:
                sender.send(orjson.dumps({"type": "send", "id": str(sent), "to": "bob", "body": sent}).decode())
                sent += 1
            message = orjson.loads(receiver.recv(10))
            assert message["body"] == arrived
            arrived += 1
        for number in range(MESSAGES):
            assert orjson.loads(sender.recv(10)) | {"mid": 0, "sent_at": 0} == {
                "type": "sent",
                "id": str(number),
                "mid": 0,
                "sent_at": 0,
                "online": True,
            }


async def relay(node: Node) -> tuple[Counted, set[Any], set[Any]]:
    """What was made while the messages went through, and the tasks before and after."""
    loop = asyncio.get_running_loop()
    tokens = [await node.services.tokens.issue(user, user.title()) for user in ("alice", "bob")]
    start, ready = threading.Event(), threading.Event()
    clients = threading.Thread(target=exchange, args=(address(node), *tokens, start, ready))
    clients.start()
    ended = loop.create_future()
    watching = threading.Thread(target=lambda: (clients.join(), loop.call_soon_threadsafe(ended.set_result, None)))
    watching.start()
    await eventually(lambda: ready.is_set() or not clients.is_alive())
    assert ready.is_set()
    # What a node does once after its start, beside all messages.
    await eventually(lambda: not node.context.background.running)
    counted, before = Counted(loop), asyncio.all_tasks()
    start.set()
    async with asyncio.timeout(60):
        await ended
    watching.join()
    return counted, before, asyncio.all_tasks()


async def test_two_thousand_messages_make_no_task(edge: Edge) -> None:
    # Sweeps, lease renewals and settings are the node's own and not of messages: kept out by long intervals.
    async with edge(lease_s=300, lease_renew_s=100, probe_s=300) as node:
        made, before, after = await relay(node)
        assert (made.tasks, made.futures) == (0, 0)
        assert after <= before
