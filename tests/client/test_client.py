"""The face of the Python client on a real gateway: life, sending, receiving, lists, presence."""

from __future__ import annotations

import pytest

from gateway.client import Client, Closed, Message
from tests.client.conftest import Apps
from tests.waiting import eventually


async def test_a_message_goes_from_app_to_app(apps: Apps) -> None:
    async with Client(apps.url(), apps.token("alice"), device="phone", platform="ios") as alice:
        _, inbox = await apps.listening("bob", platform="web")
        sent = await alice.send("bob", {"text": "hello"}, kind="note")
        await eventually(lambda: inbox)
        assert inbox[0] == Message(
            sent.mid, "alice", "bob", "note", {"text": "hello"}, sent.sent_at, cursor=inbox[0].cursor
        )
        assert (alice.state, alice.user, alice.device, bool(alice.session)) == ("live", "alice", "phone", True)
        assert sent.online
    assert alice.state == "stopped"
    assert await alice.stopped() is None
    with pytest.raises(Closed):
        await alice.send("bob", 1)
