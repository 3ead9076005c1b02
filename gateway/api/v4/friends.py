"""Friendships, which are mutual."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.api.bearer import READ, WRITE
from gateway.api.errors import Problem
from gateway.api.operation import operation
from gateway.api.v4.fields import Ask, Order, PageToken, Result, UserId, Users
from gateway.services.errors import ALREADY_FRIENDS
from gateway.services.services import Services

NOT_FRIENDS = 1
MUTUAL = 4


class AddFriend(Ask):
    """Who befriends whom.

    Attributes:
        user_id: the one who asks.
        target_id: the one who is asked.
        action: 1 = as the target's permission says, 2 = at once.
        extra: a note that goes with the request.
    """

    user_id: UserId
    target_id: UserId
    action: Annotated[int, Meta(ge=1, le=2)] = 1
    extra: Annotated[str, Meta(max_length=128)] | None = None


class Targets(Ask):
    """Some friendships of a user.

    Attributes:
        user_id: whose.
        target_ids: with whom.
    """

    user_id: UserId
    target_ids: Users


class FriendList(Ask):
    """Which page of a user's friends.

    Attributes:
        user_id: whose.
        page_token: from the page before.
        page_size: how many.
        order: 0 = oldest first, 1 = newest first.
    """

    user_id: UserId
    page_token: PageToken | None = None
    page_size: Annotated[int, Meta(ge=1, le=100)] = 50
    order: Order = 0


class Friend(Result):
    """One friend.

    Attributes:
        user_id: who.
        name: the display name.
        alias: what the user calls this friend.
        added_at: Unix ms.
    """

    user_id: str
    name: str
    alias: str
    added_at: int


class Friends(Result):
    """A page of friends.

    Attributes:
        friends: the friends.
        total_count: how many there are on all pages.
        page_token: where the next page starts; absent on the last.
    """

    friends: list[Friend]
    total_count: int
    page_token: str | None = None


class Friendship(Result):
    """What two users are to each other.

    Attributes:
        user_id: the other one.
        result: 1 = not friends, 4 = friends.
    """

    user_id: str
    result: int


class Friendships(Result):
    """What a user and others are to each other.

    Attributes:
        friendships: in the order of the request.
    """

    friendships: list[Friendship]


@operation("/v4/friend/add", scope=WRITE)
async def add(services: Services, asked: AddFriend) -> None:
    """Make two users friends."""
    if not await services.relationships.befriend(asked.user_id, asked.target_id):
        raise Problem(ALREADY_FRIENDS, "targetId: they are friends already")


@operation("/v4/friend/remove", scope=WRITE)
async def remove(services: Services, asked: Targets) -> None:
    """End friendships, in both directions."""
    await services.relationships.unfriend(asked.user_id, asked.target_ids)


@operation("/v4/friend/list", scope=READ, coerces=True)
async def friend_list(services: Services, asked: FriendList) -> Friends:
    """List a user's friends."""
    page = await services.relationships.friends(
        asked.user_id, page=asked.page_token, limit=asked.page_size, oldest_first=asked.order == 0
    )
    return Friends(
        friends=[
            Friend(user_id=each.user, name=each.name, alias=each.alias, added_at=each.added_at) for each in page.friends
        ],
        total_count=page.total,
        page_token=page.page,
    )


@operation("/v4/friend/relationship/get", scope=READ)
async def relationship_get(services: Services, asked: Targets) -> Friendships:
    """Tell which of the targets are a user's friends."""
    friends = await services.relationships.are_friends(asked.user_id, asked.target_ids)
    return Friendships(
        friendships=[
            Friendship(user_id=user, result=MUTUAL if friends[user] else NOT_FRIENDS) for user in asked.target_ids
        ]
    )


OPERATIONS = (add, remove, friend_list, relationship_get)
