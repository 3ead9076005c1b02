"""Users' tags."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.api.bearer import READ, WRITE
from gateway.api.operation import Rate, operation
from gateway.api.v4.fields import Ask, Result, UserId
from gateway.services.services import Services

Tag = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=40,
        pattern=r"^[\w-]+$(?!\n)",
        description="At most 40 bytes; letters of any script, digits, _ and -.",
    ),
]


class Tagging(Ask):
    """Whose tags to replace.

    Attributes:
        user_ids: whose.
        tags: all their tags from now on; none = they have none.
    """

    user_ids: Annotated[list[UserId], Meta(min_length=1, max_length=1000)]
    tags: Annotated[list[Tag], Meta(max_length=20)]


class Whose(Ask):
    """Whose tags to read.

    Attributes:
        user_ids: whose.
    """

    user_ids: Annotated[list[UserId], Meta(min_length=1, max_length=50)]


class Tagged(Result):
    """One user's tags.

    Attributes:
        user_id: whose.
        tags: as they were set.
    """

    user_id: str
    tags: list[str]


class TaggedUsers(Result):
    """Users' tags.

    Attributes:
        users: in the order of the request.
    """

    users: list[Tagged]


@operation(
    "/v4/user/tag/batch/set",
    scope=WRITE,
    rate=Rate(10),
    note="Tags are kept and given back; nothing is sent by tag.",
    example={"userIds": ["alice", "bob"], "tags": ["vip", "beta"]},
)
async def tag_set(services: Services, asked: Tagging) -> None:
    """Replace users' tags."""
    await services.tags.set(asked.user_ids, asked.tags)


@operation("/v4/user/tag/batch/get", scope=READ, example={"userIds": ["alice", "bob"]})
async def tag_get(services: Services, asked: Whose) -> TaggedUsers:
    """Read users' tags."""
    tags = await services.tags.get(asked.user_ids)
    return TaggedUsers(users=[Tagged(user_id=user, tags=tags[user]) for user in asked.user_ids])


OPERATIONS = (tag_set, tag_get)
