"""Messages by the app's server, in the words of the vendor's client."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from ncsdk.exceptions import ApiException

from tests.api.vendor import Vendor
from tests.nodes import Client

TEXT = "RC:TxtMsg"
HELLO = '{"content": "hello"}'


async def send(vendor: Vendor, *to: str, content: str = HELLO, kind: str = TEXT, **more: Any) -> dict[str, str]:
    """What the vendor's client makes of the answer: a message id for each recipient."""
    fields = {"from_user_id": "alice", "to_user_ids": list(to), "message_type": kind, "content": content} | more
    result = await vendor.call(vendor.messages.send_direct_channel_message, "DirectChannelMessageSendRequest", **fields)
    return {each.user_id: each.message_id for each in result.message_ids}


async def history(vendor: Vendor, user: str = "alice", other: str = "bob", **more: Any) -> list[Any]:
    now = int(time.time() * 1000) + 1000
    fields = {"user_id": user, "channel_id": other, "start_at": now, "end_at": now - 3_600_000, "include_start": True}
    result = await vendor.call(
        vendor.messages.list_direct_channel_history_messages,
        "DirectChannelHistoryMessageListRequest",
        **(fields | more),
    )
    return list(result.messages)


async def recall(vendor: Vendor, mid: str, to: str = "bob", **more: Any) -> None:
    fields = {"from_user_id": "alice", "channel_type": 1, "channel_id": to, "message_id": mid} | more
    assert await vendor.call(vendor.messages.delete_message, "MessageDeleteRequest", **fields) is None


async def update(vendor: Vendor, mid: str, content: str, to: str = "bob") -> None:
    result = await vendor.call(
        vendor.messages.update_direct_channel_message,
        "DirectChannelMessageUpdateRequest",
        from_user_id="alice",
        target_id=to,
        message_id=mid,
        content=content,
    )
    assert result is None


async def quiet(*clients: Client) -> None:
    """Nothing is left unread: a pong comes behind whatever was pushed before it."""
    for client in clients:
        assert (await client.ask("ping"))["type"] == "pong"
        assert client.received == []


async def refused(call: Callable[[], Any]) -> tuple[int, int]:
    with pytest.raises(ApiException) as error:
        await call()
    return error.value.status, error.value.error_code
