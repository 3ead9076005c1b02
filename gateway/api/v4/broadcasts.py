"""Broadcasts: system messages to all users, or to all who are online."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from gateway.api.bearer import WRITE
from gateway.api.operation import Rate, operation
from gateway.api.v4.fields import Ask, Milliseconds, Result, UserId
from gateway.api.v4.messages import Content, MessageId, MessageType, PushText, Switch
from gateway.protocol.codes import Code
from gateway.services.errors import DATA_MISSING, PARAMETER_TOO_LONG
from gateway.services.messages import Draft
from gateway.services.services import Services

RARE = (Rate(2, 3600), Rate(3, 86_400))

_EXAMPLE = {"fromUserId": "news", "messageType": "RC:TxtMsg", "content": '{"content":"maintenance at noon"}'}


class ToOnline(Ask):
    """A message to everybody who is online.

    Attributes:
        from_user_id: the sender; need not exist.
        message_type: what it is; `kind` on devices.
        content: what it says; `body` on devices.
        disable_update_last_msg: accepted and not used: devices keep their own lists.
    """

    from_user_id: UserId
    message_type: MessageType
    content: Content
    disable_update_last_msg: bool | None = None


class ToAll(ToOnline):
    """A message to everybody.

    Attributes:
        push_content: text of a push notification.
        push_data: payload of it.
        push_ext: settings of it.
        content_available: iOS silent push.
        disable_push: no push notification.
    """

    push_content: PushText | None = None
    push_data: PushText | None = None
    push_ext: PushText | None = None
    content_available: Switch | None = None
    disable_push: bool | None = None


class Sent(Result):
    """The broadcast.

    Attributes:
        message_id: its id, the same for every user.
        message_uid: the same under the name of the vendor's pages.
    """

    message_id: str
    message_uid: str = field(name="messageUID")


class Recall(Ask):
    """A broadcast to all to take back.

    Attributes:
        from_user_id: who sent it.
        message_id: which.
        sent_at: accepted and not used.
        is_admin: 1 = devices shall show that an admin did it.
        extra: goes to the devices along with it.
        disable_update_last_msg: accepted and not used.
    """

    from_user_id: UserId
    message_id: MessageId
    sent_at: Milliseconds | None = None
    is_admin: Switch = 0
    extra: Annotated[str, Meta(max_length=4096)] | None = None
    disable_update_last_msg: bool | None = None


def _draft(asked: ToOnline) -> Draft:
    return Draft(sender=asked.from_user_id, kind=asked.message_type, content=asked.content, system=True)


@operation(
    "/v4/system-channel/message/broadcast-online",
    scope=WRITE,
    rate=Rate(60, 60),
    note="Pushed at once, broadcast_users_per_s users a node and second; whoever comes online within ten minutes gets "
    "it then. At most once: a socket that breaks while it is on its way loses it.",
    errors=(PARAMETER_TOO_LONG, Code.PROFANITY_BLOCKED),
    example=_EXAMPLE,
)
async def to_online(services: Services, asked: ToOnline) -> Sent:
    """Send a system message to everybody who is online."""
    mid = await services.broadcasts.to_online(_draft(asked))
    return Sent(message_id=mid, message_uid=mid)


@operation(
    "/v4/system-channel/message/broadcast-all",
    scope=WRITE,
    rate=RARE,
    note="Goes into the inbox of every user who is registered by then and comes online within the offline retention; "
    "its `sent_at` on devices is when it got there. Histories do not show it. Push fields are accepted and not used.",
    errors=(PARAMETER_TOO_LONG, Code.PROFANITY_BLOCKED),
    example=_EXAMPLE,
)
async def to_all(services: Services, asked: ToAll) -> Sent:
    """Send a system message to every user."""
    mid = await services.broadcasts.to_all(_draft(asked))
    return Sent(message_id=mid, message_uid=mid)


@operation(
    "/v4/system-channel/message/broadcast/delete",
    scope=WRITE,
    rate=RARE,
    note="Only broadcasts to all, within the offline retention.",
    errors=(DATA_MISSING,),
    example={"fromUserId": "news", "messageId": "019b76da-a800-7000-8000-000000000001", "isAdmin": 1},
)
async def recall(services: Services, asked: Recall) -> None:
    """Recall a broadcast to all: it goes from the inboxes, and devices are told."""
    await services.broadcasts.recall(asked.from_user_id, asked.message_id, admin=asked.is_admin == 1, extra=asked.extra)


OPERATIONS = (to_online, to_all, recall)
