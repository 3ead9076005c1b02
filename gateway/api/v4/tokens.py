"""Access tokens: issue, void, revoke."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.api.bearer import WRITE
from gateway.api.operation import Rate, operation
from gateway.api.v4.fields import Ask, AvatarUrl, Dropped, Milliseconds, Name, Result, UserId, Users, dropped
from gateway.services.errors import USER_DEACTIVATED, USER_LIMIT
from gateway.services.services import Services


class Issue(Ask):
    """For whom a token is.

    Attributes:
        user_id: the user, registered by this call when new.
        name: overwrites the one before.
        avatar_url: overwrites the one before.
    """

    user_id: UserId
    name: Name
    avatar_url: AvatarUrl | None = None


class Issued(Result):
    """A token.

    Attributes:
        user_id: its user.
        access_token: valid beside all tokens issued before.
    """

    user_id: str
    access_token: str


class Expire(Ask):
    """Which tokens to void.

    Attributes:
        user_ids: whose.
        expires_at: every token issued before this instant.
    """

    user_ids: Users
    expires_at: Milliseconds


class Revoke(Ask):
    """Which token to revoke.

    Attributes:
        user_id: whose.
        token_id: its ``jti``.
    """

    user_id: UserId
    token_id: Annotated[str, Meta(min_length=1, max_length=128)]


@operation(
    "/v4/auth/access-token/issue",
    scope=WRITE,
    rate=Rate(200),
    errors=(USER_LIMIT, USER_DEACTIVATED),
    example={"userId": "alice", "name": "Alice", "avatarUrl": "https://app.example.com/alice.png"},
)
async def issue(services: Services, asked: Issue) -> Issued:
    """Register a user and issue an access token."""
    token = await services.tokens.issue(asked.user_id, asked.name, asked.avatar_url)
    return Issued(user_id=asked.user_id, access_token=token)


@operation(
    "/v4/auth/access-token/expire",
    scope=WRITE,
    note="Closes live sockets at once and tells which; the hosted service leaves them up, as the live setting "
    "expireKeepsConnections does.",
)
async def expire(services: Services, asked: Expire) -> Dropped:
    """Void all tokens issued before an instant and close the connections that used them."""
    return dropped(await services.tokens.expire(asked.user_ids, asked.expires_at))


@operation("/v4/user/token/revoke", scope=WRITE, extension=True)
async def revoke(services: Services, asked: Revoke) -> Dropped:
    """Revoke one token by its id and close the connections that used it."""
    return dropped(await services.tokens.revoke(asked.user_id, asked.token_id))


OPERATIONS = (issue, expire, revoke)
