"""What the client makes of cancellation: of its app's functions, of what these wait for, and of its own tasks."""

from __future__ import annotations

import asyncio

import pytest

from gateway.client import HandlerFailed, Message, ProviderFailed, Recalled
from gateway.client import client as face
from gateway.store.recalls import Target
from tests.client.conftest import Apps, Inbox
from tests.waiting import eventually


async def something_cancelled() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    task.cancel()
    await task


async def test_a_handler_that_waits_for_something_cancelled_is_told_of_and_the_next_is_handed_over(apps: Apps) -> None:
    alice, bob, handled = await apps.connected("alice"), apps.new("bob"), Inbox()

    async def handle(message: Message) -> None:
        if message.body == "poison":
            await something_cancelled()
        handled.append(message)

    bob.on_message(handle)
    await bob.connect()
    for body in ("first", "poison", "last"):
        await alice.send("bob", body)
    await eventually(lambda: handled.bodies == ["first", "last"])
    assert [type(error) for error in apps.errors[bob]] == [HandlerFailed]


async def test_a_token_function_that_waits_for_something_cancelled_is_asked_again(apps: Apps) -> None:
    asked = []

    async def token() -> str:
        asked.append(1)
        if len(asked) == 1:
            await something_cancelled()
        return await apps.token("bob")()

    bob = await apps.connected("bob", token=token)
    assert bob.state == "live"
    assert [type(error) for error in apps.errors[bob]] == [ProviderFailed]


async def test_a_message_whose_handler_was_given_up_is_handed_over_again(
    apps: Apps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(face, "HANDLER_S", 0.1)
    alice, bob, begun, go_on, handled = (
        await apps.connected("alice"),
        apps.new("bob"),
        Inbox(),
        asyncio.Event(),
        Inbox(),
    )

    async def handle(message: Message) -> None:
        begun.append(message)
        await go_on.wait()
        handled.append(message)

    bob.on_message(handle)
    await bob.connect()
    await alice.send("bob", 1)
    await eventually(lambda: begun.bodies == [1])
    await bob.close()
    go_on.set()
    await bob.connect()
    await alice.send("bob", 2)
    await eventually(lambda: handled.bodies == [1, 2])


async def test_a_recall_is_handed_over_again_to_who_gave_up_waiting_for_the_next_message(apps: Apps) -> None:
    alice, bob = await apps.connected("alice"), await apps.connected("bob")
    begun: list[str] = []
    handled: list[str] = []
    go_on = asyncio.Event()

    async def take_back(recalled: Recalled) -> None:
        begun.append(recalled.mid)
        await go_on.wait()
        handled.append(recalled.mid)

    bob.on_recalled(take_back)
    sent = await alice.send("bob", "oops")
    assert (await anext(bob)).body == "oops"
    await apps.node.services.messages.recall(Target(sent.mid, "alice", "bob"))
    waiting = asyncio.create_task(anext(bob))
    await eventually(lambda: begun)
    waiting.cancel()
    await asyncio.wait([waiting])
    go_on.set()
    await alice.send("bob", "better")
    assert (await anext(bob)).body == "better"
    assert handled == [sent.mid]


async def test_a_client_whose_task_somebody_ended_says_that_it_has_stopped(apps: Apps) -> None:
    bob = await apps.connected("bob")
    running = bob._upkeep._running
    assert running is not None
    running.cancel()
    assert await bob.stopped() is None
    assert bob.state == "stopped"
