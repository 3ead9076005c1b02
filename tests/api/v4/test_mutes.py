from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.node import Node
from tests.api.vendor import Vendor
from tests.nodes import login, running_node
from tests.servers import Server


@pytest.fixture
async def node(valkey: Server) -> AsyncIterator[Node]:
    async with running_node(valkey.url) as node:
        yield node


@pytest.fixture
async def vendor(node: Node) -> AsyncIterator[Vendor]:
    vendor = Vendor(f"http://127.0.0.1:{node.admin.port}")
    yield vendor
    vendor.close()


async def mute(vendor: Vendor, users: list[str], state: int) -> None:
    await vendor.call(
        vendor.users.set_channel_type_mute,
        "ChannelTypeMuteSetRequest",
        user_ids=users,
        mute_state=state,
        channel_types=["PERSON"],
    )


async def muted(vendor: Vendor, **paging: Any) -> tuple[int, list[str]]:
    result = await vendor.call(
        vendor.users.list_channel_type_mute, "ChannelTypeMuteListRequest", channel_type="PERSON", **paging
    )
    return result.total_count, result.muted_user_ids


@pytest.mark.operation("/v4/channel-type/mute/set")
async def test_a_muted_sender_is_refused_from_the_next_message_on(node: Node, vendor: Vendor) -> None:
    mallory, bob = await login(node, "mallory"), await login(node, "bob")
    assert (await mallory.send("bob"))["type"] == "sent"
    await mute(vendor, ["mallory"], 1)
    assert (await mallory.send("bob"))["code"] == 20106
    # What others send to a muted user arrives.
    assert (await bob.send("mallory", "hello"))["type"] == "sent"
    assert (await mallory.next("message"))["body"] == "hello"
    await mallory.close()
    mallory = await login(node, "mallory")
    assert (await mallory.send("bob"))["code"] == 20106
    await mute(vendor, ["mallory", "mallory"], 0)
    assert (await mallory.send("bob"))["type"] == "sent"
    await mallory.close()
    await bob.close()


@pytest.mark.operation("/v4/channel-type/mute/list")
async def test_the_list_counts_and_pages(vendor: Vendor) -> None:
    users = [f"u{index}" for index in range(5)]
    for user in users:
        await mute(vendor, [user], 1)
    assert await muted(vendor) == (5, users)
    assert await muted(vendor, page_size=2) == (5, users[:2])
    assert await muted(vendor, page_size=2, offset=3) == (5, users[3:])
    assert await muted(vendor, offset=5) == (5, [])
    await mute(vendor, users[1:], 0)
    assert await muted(vendor) == (1, users[:1])


async def test_a_thousand_at_once(vendor: Vendor) -> None:
    await mute(vendor, [f"u{index}" for index in range(1000)], 1)
    total, page = await muted(vendor, page_size=200)
    assert (total, len(page)) == (1000, 200)
