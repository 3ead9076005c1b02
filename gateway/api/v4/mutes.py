"""Mutes: whose direct messages are refused, whoever they are for."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.api.bearer import READ, WRITE
from gateway.api.operation import operation
from gateway.api.v4.fields import Ask, Result, UserId
from gateway.services.errors import NOT_ENABLED, Refused
from gateway.services.services import Services

ChannelType = Literal["PERSON", "GROUP", "CHATROOM"]


class Mute(Ask):
    """Whom to mute.

    Attributes:
        user_ids: who.
        mute_state: 1 = muted, 0 = not.
        channel_types: where; ``PERSON``, direct messages, is the one that there is.
    """

    user_ids: Annotated[list[UserId], Meta(min_length=1, max_length=1000)]
    mute_state: Annotated[int, Meta(ge=0, le=1)]
    channel_types: Annotated[list[ChannelType], Meta(min_length=1, max_length=3)]


class MuteList(Ask):
    """Which part of the list.

    Attributes:
        channel_type: where they are muted.
        page_size: how many.
        offset: how many to leave out before.
    """

    channel_type: ChannelType
    page_size: Annotated[int, Meta(ge=1, le=200)] = 100
    offset: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0


class Muted(Result):
    """Muted users, the one for longest first.

    Attributes:
        total_count: how many there are in all.
        muted_user_ids: who.
    """

    total_count: int
    muted_user_ids: list[str]


@operation(
    "/v4/channel-type/mute/set",
    scope=WRITE,
    errors=(NOT_ENABLED,),
    note="GROUP and CHATROOM answer 430 / 1009, since there are no such channels; takes 1,000 users.",
    example={"userIds": ["mallory"], "muteState": 1, "channelTypes": ["PERSON"]},
)
async def mute_set(services: Services, asked: Mute) -> None:
    """Take from users, or give back, the right to send direct messages."""
    for index, channel_type in enumerate(asked.channel_types):
        _check(channel_type, f"channelTypes[{index}]")
    await services.accounts.mute(asked.user_ids, asked.mute_state == 1)


@operation(
    "/v4/channel-type/mute/list",
    scope=READ,
    errors=(NOT_ENABLED,),
    note="GROUP and CHATROOM answer 430 / 1009, since there are no such channels.",
    example={"channelType": "PERSON"},
)
async def mute_list(services: Services, asked: MuteList) -> Muted:
    """List the users who may send no direct messages."""
    _check(asked.channel_type, "channelType")
    page = await services.accounts.muted(offset=asked.offset, limit=asked.page_size)
    return Muted(total_count=page.total, muted_user_ids=[entry.user for entry in page.entries])


def _check(channel_type: ChannelType, where: str) -> None:
    if channel_type != "PERSON":
        raise Refused(NOT_ENABLED, f"{where}: there are no {channel_type} channels")


OPERATIONS = (mute_set, mute_list)
