"""Fields that several operations share, with their bounds; and how times and drops are written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct

from gateway.api.operation import USER_ID
from gateway.services.drops import Acknowledgement

UserId = Annotated[str, Meta(description="A user id of the app; case matters.", extra={USER_ID: True})]
Users = Annotated[list[UserId], Meta(min_length=1, description="At most list_call_max (20) user ids.")]
ManyUsers = Annotated[list[UserId], Meta(min_length=1, max_length=100)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
AvatarUrl = Annotated[str, Meta(max_length=1024)]
Milliseconds = Annotated[int, Meta(ge=0, le=2**53, description="Unix time in milliseconds.")]
PageToken = Annotated[str, Meta(max_length=256, description="From the page before; absent on the last page.")]
ListPageSize = Annotated[int, Meta(ge=1, le=1000)]
Order = Annotated[int, Meta(ge=0, le=1)]

NEVER = "9999-12-31 23:59:59"
"""When a ban ends that ends only by being lifted: clients parse the field as a time."""


class Ask(Struct, rename="camel", kw_only=True):
    """A request body: camelCase on the wire, unknown fields ignored."""


class Result(Struct, rename="camel", kw_only=True, omit_defaults=True):
    """A ``result``: camelCase on the wire, absent rather than null."""


class Nothing(Ask):
    """No fields."""


class User(Ask):
    """One user.

    Attributes:
        user_id: who.
    """

    user_id: UserId


class UserList(Ask):
    """Up to 20 users.

    Attributes:
        user_ids: who.
    """

    user_ids: Users


class Dropped(Result):
    """What a revoking call has achieved by the time it is answered.

    Attributes:
        sessions_closed: how many sockets can neither read nor write any more.
        nodes_answered: the nodes that said so.
        nodes_silent: the nodes that did not; their leases end within seconds.
        took_ms: from the call to the last answer.
        replicas: how many replicas have the record; absent when there is none.
    """

    sessions_closed: int
    nodes_answered: list[str]
    nodes_silent: list[str]
    took_ms: float
    replicas: int | None = None


def dropped(acknowledgement: Acknowledgement) -> Dropped:
    """An acknowledgement as it is written in a ``result``."""
    return Dropped(
        sessions_closed=acknowledgement.sessions_closed,
        nodes_answered=list(acknowledgement.nodes_answered),
        nodes_silent=list(acknowledgement.nodes_silent),
        took_ms=acknowledgement.took_ms,
        replicas=acknowledgement.replicas,
    )


def written_time(at_ms: int | None) -> str:
    """``YYYY-MM-DD HH:MM:SS`` in UTC; None and times beyond the calendar = ``NEVER``."""
    if at_ms is None or at_ms >= 253_402_300_799_000:
        return NEVER
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
