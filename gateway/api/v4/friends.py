"""Friendships, which are mutual, and what users note of their friends."""

from __future__ import annotations

from typing import Annotated

import orjson
from msgspec import Meta

from gateway.api.bearer import READ, WRITE
from gateway.api.operation import Rate, operation
from gateway.api.v4.fields import Ask, ManyUsers, Order, PageToken, Result, User, UserId
from gateway.services import errors
from gateway.services.friends import ALIAS_MAX
from gateway.services.services import Services

NOT_FRIENDS = 1
MUTUAL = 4

PER_USER = Rate(100, counted="users")


class AddFriend(Ask):
    """Who befriends whom.

    Attributes:
        user_id: the one who asks.
        target_id: the one who is asked.
        action: 1 = as the target's permission says, 2 = at once.
        extra: a note that the app's server is told along with a request that waits (webhooks).
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
    target_ids: ManyUsers


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


class FriendNote(Ask):
    """What a user notes of a friend; the friend does not see it.

    Attributes:
        user_id: whose note.
        target_id: of which friend.
        alias: what the user calls the friend; left out or empty = nothing.
        friend_ext_profile: up to 10 attributes, which replace the ones before; left out = they stay.
    """

    user_id: UserId
    target_id: UserId
    alias: Annotated[str, Meta(max_length=ALIAS_MAX)] | None = None
    friend_ext_profile: (
        Annotated[
            dict[str, str],
            Meta(
                description="Keys: ext_ and letters, digits, underscores, at most 32; values: at most 256 characters."
            ),
        ]
        | None
    ) = None


class Permission(Ask):
    """Who may add users.

    Attributes:
        user_ids: whom.
        permission_type: 1 = anyone, 2 = with approval, 3 = nobody.
    """

    user_ids: ManyUsers
    permission_type: Annotated[int, Meta(ge=1, le=3)]


class PermissionsOf(Ask):
    """Whose permission to read.

    Attributes:
        user_ids: whose.
    """

    user_ids: ManyUsers


class Friend(Result):
    """One friend.

    Attributes:
        user_id: who.
        name: the display name.
        alias: what the user calls this friend.
        friend_ext_profile: the user's attributes of this friend.
        extra_profile: the same as JSON text.
        added_at: Unix ms.
    """

    user_id: str
    name: str
    alias: str
    friend_ext_profile: dict[str, str]
    extra_profile: str
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


class UserPermission(Result):
    """Who may add one user.

    Attributes:
        user_id: whom.
        permission_type: 1 = anyone, 2 = with approval, 3 = nobody.
    """

    user_id: str
    permission_type: int


class Permissions(Result):
    """Who may add some users.

    Attributes:
        permissions: in the order of the request.
    """

    permissions: list[UserPermission]


@operation(
    "/v4/friend/add",
    scope=WRITE,
    note="Blocklists and allowlists of both users are looked at with either action; a request that waits is answered "
    "by an add in the other direction, is forgotten after 7 days, and 500 may wait for one user.",
    errors=(
        errors.USER_UNKNOWN,
        errors.ALREADY_FRIENDS,
        errors.THEIR_BLOCKLIST,
        errors.THEIR_ALLOWLIST,
        errors.MY_BLOCKLIST,
        errors.MY_ALLOWLIST,
        errors.FRIEND_LIMIT,
        errors.THEIR_FRIEND_LIMIT,
        errors.FRIENDS_REFUSED,
        errors.FRIEND_IS_SELF,
    ),
    example={"userId": "alice", "targetId": "bob", "action": 2},
)
async def add(services: Services, asked: AddFriend) -> None:
    """Make two users friends, or leave a request with the target where that one wants to be asked."""
    directly = asked.action == 2
    await services.friends.add(asked.user_id, asked.target_id, directly=directly, extra=asked.extra)


@operation("/v4/friend/remove", scope=WRITE, rate=PER_USER, example={"userId": "alice", "targetIds": ["bob"]})
async def remove(services: Services, asked: Targets) -> None:
    """End friendships, in both directions."""
    await services.friends.unfriend(asked.user_id, asked.target_ids)


@operation("/v4/friend/remove-all", scope=WRITE, example={"userId": "alice"})
async def remove_all(services: Services, asked: User) -> None:
    """End all friendships of a user, in both directions."""
    await services.friends.unfriend_all(asked.user_id)


@operation(
    "/v4/friend/list",
    scope=READ,
    coerces=True,
    errors=(errors.PAGE_TOKEN_UNREADABLE,),
    example={"userId": "alice", "pageSize": 50, "order": 0},
)
async def friend_list(services: Services, asked: FriendList) -> Friends:
    """List a user's friends."""
    page = await services.friends.page(
        asked.user_id, page=asked.page_token, limit=asked.page_size, oldest_first=asked.order == 0
    )
    return Friends(
        friends=[
            Friend(
                user_id=each.user,
                name=each.name,
                alias=each.alias,
                friend_ext_profile=each.attributes,
                extra_profile=orjson.dumps(each.attributes).decode(),
                added_at=each.added_at,
            )
            for each in page.friends
        ],
        total_count=page.total,
        page_token=page.page,
    )


@operation(
    "/v4/friend/relationship/get",
    scope=READ,
    rate=PER_USER,
    note="Up to 100 targets, as v1 has it.",
    example={"userId": "alice", "targetIds": ["bob", "carol"]},
)
async def relationship_get(services: Services, asked: Targets) -> Friendships:
    """Tell which of the targets are a user's friends."""
    friends = await services.friends.are_friends(asked.user_id, asked.target_ids)
    return Friendships(
        friendships=[
            Friendship(user_id=user, result=MUTUAL if friends[user] else NOT_FRIENDS) for user in asked.target_ids
        ]
    )


@operation("/v4/friend/permission/set", scope=WRITE, rate=PER_USER, example={"userIds": ["alice"], "permissionType": 2})
async def permission_set(services: Services, asked: Permission) -> None:
    """Decide who may add users: anyone, with their approval, nobody."""
    await services.friends.set_permission(asked.user_ids, asked.permission_type)


@operation(
    "/v4/friend/permission/get",
    scope=READ,
    rate=PER_USER,
    note="Users who never set one have the live setting friendPermissionDefault, 1 unless changed.",
    example={"userIds": ["alice", "bob"]},
)
async def permission_get(services: Services, asked: PermissionsOf) -> Permissions:
    """Tell who may add users."""
    found = await services.friends.permissions(asked.user_ids)
    return Permissions(
        permissions=[UserPermission(user_id=user, permission_type=found[user]) for user in asked.user_ids]
    )


@operation(
    "/v4/friend/profile/set",
    scope=WRITE,
    note="Attributes that are left out stay as they are; given ones replace all before. Keys need the prefix ext_ "
    "unless the live setting strictExtKeys is off.",
    errors=(errors.ATTRIBUTES_TOO_LONG, errors.FRIEND_UNKNOWN),
    example={"userId": "alice", "targetId": "bob", "alias": "Bobby", "friendExtProfile": {"ext_met": "school"}},
)
async def profile_set(services: Services, asked: FriendNote) -> None:
    """Keep what a user calls a friend, and the user's own attributes of that friend."""
    await services.friends.note(
        asked.user_id, asked.target_id, alias=asked.alias or "", attributes=asked.friend_ext_profile
    )


OPERATIONS = (
    add,
    remove,
    remove_all,
    friend_list,
    relationship_get,
    permission_set,
    permission_get,
    profile_set,
)
