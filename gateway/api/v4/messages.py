"""Messages that the app's server sends, recalls, changes and looks up."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from gateway.api.bearer import READ, WRITE
from gateway.api.errors import INVALID_PARAMETER, Problem
from gateway.api.operation import Rate, operation
from gateway.api.v4.fields import Ask, Milliseconds, Result, UserId
from gateway.protocol.codes import Code
from gateway.services.errors import DATA_MISSING, NOT_ENABLED, PARAMETER_TOO_LONG, Refused
from gateway.services.history import Past
from gateway.services.messages import Draft, Stored
from gateway.services.services import Services
from gateway.store.recalls import Target

DIRECT, SYSTEM = 1, 6
"""Channel types that are served."""

MessageType = Annotated[str, Meta(min_length=1, max_length=32, description="Built-in (`RC:…`) or the app's own.")]
Content = Annotated[
    str,
    Meta(
        max_length=131_072,
        description="At most 128 KiB. The text of a JSON object reaches devices as that object, any other text as a "
        "string. Built-in types need a JSON object.",
    ),
]
PushText = Annotated[str, Meta(max_length=10_240, description="Accepted and not used: this gateway pushes nothing.")]
Switch = Annotated[int, Meta(ge=0, le=1)]
MessageId = Annotated[str, Meta(min_length=1, max_length=64)]
Metadata = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=32)], Annotated[str, Meta(max_length=4096)]],
    Meta(max_length=100),
]

_NO_PUSH = "Push fields are accepted and not used. "
_LEFT_OUT = "Recipients that do not exist, are deleted or have a full inbox are left out of the answer."
_IDS = "Message ids are UUIDs (version 7), not four groups of four characters. "


class Sending(Ask):
    """A message to some users.

    Attributes:
        from_user_id: the sender; need not exist.
        message_type: what it is; `kind` on devices.
        content: what it says; `body` on devices.
        push_content: text of a push notification.
        push_data: payload of it.
        push_ext: settings of it.
        should_persist: 0 = histories do not show it.
        content_available: iOS silent push.
        disable_push: no push notification.
        disable_update_last_msg: accepted and not used: devices keep their own lists.
    """

    from_user_id: UserId
    message_type: MessageType
    content: Content
    push_content: PushText | None = None
    push_data: PushText | None = None
    push_ext: PushText | None = None
    should_persist: Switch = 1
    content_available: Switch | None = None
    disable_push: bool | None = None
    disable_update_last_msg: bool | None = None


class DirectSending(Sending, kw_only=True):
    """A direct message to some users.

    Attributes:
        to_user_ids: who gets it, each an own message.
        is_echo_to_sender: 1 = the sender's own devices get a copy of each.
        count: badge; accepted and not used.
        verify_blocklist: 1 = leave out whom the sender may not write to, by blocklist or allowlist.
        has_metadata: whether it has metadata; by default it does when some is given.
        metadata: the entries; with the content at most 256 KiB.
        need_read_receipt: accepted and not used.
    """

    to_user_ids: Annotated[list[UserId], Meta(min_length=1, max_length=1000)]
    is_echo_to_sender: Switch = 0
    count: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    verify_blocklist: Switch = 0
    has_metadata: bool | None = None
    metadata: Metadata | None = None
    need_read_receipt: Switch | None = None


class SystemSending(Sending, kw_only=True):
    """A system message to some users.

    Attributes:
        to_user_ids: who gets it, each an own message.
    """

    to_user_ids: Annotated[list[UserId], Meta(min_length=1, max_length=100)]


class Delivery(Result):
    """One recipient's message.

    Attributes:
        user_id: the recipient.
        message_id: the message.
    """

    user_id: str
    message_id: str


class Deliveries(Result):
    """What was stored.

    Attributes:
        message_ids: one for each recipient that took it.
    """

    message_ids: list[Delivery]


class HistorySpan(Ask):
    """Which part of a history, read backwards.

    Attributes:
        user_id: one of the two.
        channel_id: the other one.
        start_at: the latest time.
        end_at: the earliest time, at most 14 days before.
        include_start: whether messages of exactly `startAt` belong to it.
        page_size: how many.
    """

    user_id: UserId
    channel_id: UserId
    start_at: Milliseconds
    end_at: Milliseconds
    include_start: bool
    page_size: Annotated[int, Meta(ge=1, le=100)] = 10


class MetadataItem(Result):
    """One entry of a message's metadata.

    Attributes:
        key: its name.
        value: its text.
        updated_at: when it was set, Unix ms.
    """

    key: str
    value: str
    updated_at: int


class Record(Result):
    """A message of the past.

    Attributes:
        channel_id: the other one of the two.
        from_user_id: its sender.
        message_id: its id.
        sent_at: Unix ms.
        message_type: its type.
        content: its text, as it was given or last changed.
        has_metadata: whether it has metadata.
        metadata: the entries; absent when there are none.
    """

    channel_id: str
    from_user_id: str
    message_id: str
    sent_at: int
    message_type: str
    content: str
    has_metadata: bool
    metadata: list[MetadataItem] | None = None


class HistoryPage(Result):
    """Some messages, newest first.

    Attributes:
        messages: they.
    """

    messages: list[Record]


class Recall(Ask):
    """A message to take back.

    Attributes:
        from_user_id: who sent it.
        channel_type: 1 = direct, 6 = system; groups and communities are not served.
        channel_id: who got it.
        message_id: which.
        subchannel_id: accepted and not used.
        sent_at: when it was sent, Unix ms; shortens the search.
        is_admin: 1 = devices shall show that an admin did it.
        disable_push: accepted and not used.
        extra: goes to the devices along with it.
        disable_update_last_msg: accepted and not used.
    """

    from_user_id: UserId
    channel_type: Annotated[int, Meta(ge=1, le=10)]
    channel_id: UserId
    message_id: MessageId
    subchannel_id: Annotated[str, Meta(max_length=64)] | None = None
    sent_at: Milliseconds | None = None
    is_admin: Switch = 0
    disable_push: bool | None = None
    extra: Annotated[str, Meta(max_length=4096)] | None = None
    disable_update_last_msg: bool | None = None


class Update(Ask):
    """A message to change.

    Attributes:
        from_user_id: who sent it.
        target_id: who got it.
        content: what it says from now on.
        message_id: which.
        message_uid: the same under the name of the vendor's pages; `messageId` wins.
    """

    from_user_id: UserId
    target_id: UserId
    content: Content
    message_id: MessageId | None = None
    message_uid: MessageId | None = field(default=None, name="messageUID")


def _deliveries(stored: list[Stored]) -> Deliveries:
    return Deliveries(message_ids=[Delivery(user_id=each.user, message_id=each.mid) for each in stored])


@operation(
    "/v4/direct-channel/message/send",
    scope=WRITE,
    rate=Rate(6000, 60, "recipients"),
    note=_IDS
    + _NO_PUSH
    + _LEFT_OUT
    + " `verifyBlocklist` looks at the recipient's allowlist as well; metadata reaches "
    "devices in the push, and counts for the size.",
    errors=(PARAMETER_TOO_LONG, Code.PROFANITY_BLOCKED),
    example={
        "fromUserId": "alice",
        "toUserIds": ["bob"],
        "messageType": "RC:TxtMsg",
        "content": '{"content":"hello"}',
    },
)
async def send_direct(services: Services, asked: DirectSending) -> Deliveries:
    """Send a direct message on behalf of a user."""
    draft = Draft(
        sender=asked.from_user_id,
        kind=asked.message_type,
        content=asked.content,
        persist=asked.should_persist == 1,
        echo=asked.is_echo_to_sender == 1,
        listed=asked.verify_blocklist == 1,
        metadata=_metadata(asked),
    )
    return _deliveries(await services.messages.send(draft, asked.to_user_ids))


def _metadata(asked: DirectSending) -> dict[str, str] | None:
    if asked.has_metadata is None:
        return asked.metadata
    return (asked.metadata or {}) if asked.has_metadata else None


@operation(
    "/v4/system-channel/message/send",
    scope=WRITE,
    rate=Rate(100, 1, "recipients"),
    note=_IDS + _NO_PUSH + _LEFT_OUT,
    errors=(PARAMETER_TOO_LONG, Code.PROFANITY_BLOCKED),
    example={
        "fromUserId": "news",
        "toUserIds": ["alice", "bob"],
        "messageType": "RC:TxtMsg",
        "content": '{"content":"maintenance at noon"}',
    },
)
async def send_system(services: Services, asked: SystemSending) -> Deliveries:
    """Send a system message."""
    draft = Draft(
        sender=asked.from_user_id,
        kind=asked.message_type,
        content=asked.content,
        system=True,
        persist=asked.should_persist == 1,
    )
    return _deliveries(await services.messages.send(draft, asked.to_user_ids))


@operation(
    "/v4/direct-channel/history-message/list",
    scope=READ,
    rate=Rate(10),
    note="Reaches back as far as the offline retention (offlineRetentionDays, 7 by default), and as the inboxes' "
    "limit allows; `aiGenerated` and `quote` are never there.",
    example={
        "userId": "alice",
        "channelId": "bob",
        "startAt": 1767225600000,
        "endAt": 1767139200000,
        "pageSize": 20,
        "includeStart": True,
    },
)
async def history(services: Services, asked: HistorySpan) -> HistoryPage:
    """List the direct messages between two users, newest first."""
    past = await services.histories.direct(
        asked.user_id,
        asked.channel_id,
        latest_ms=asked.start_at,
        earliest_ms=asked.end_at,
        include_latest=asked.include_start,
        limit=asked.page_size,
    )
    return HistoryPage(messages=[_record(asked.channel_id, each) for each in past])


def _record(channel_id: str, past: Past) -> Record:
    items = [
        MetadataItem(key=key, value=value, updated_at=past.sent_at) for key, value in (past.metadata or {}).items()
    ]
    return Record(
        channel_id=channel_id,
        from_user_id=past.sender,
        message_id=past.mid,
        sent_at=past.sent_at,
        message_type=past.kind,
        content=past.content,
        has_metadata=past.metadata is not None,
        metadata=items or None,
    )


@operation(
    "/v4/message/delete",
    scope=WRITE,
    note="Only direct and system messages (channelType 1 and 6), as long as the recipient's inbox holds them; "
    "recalling what was recalled before succeeds.",
    errors=(NOT_ENABLED, DATA_MISSING),
    example={
        "fromUserId": "alice",
        "channelType": 1,
        "channelId": "bob",
        "messageId": "019b76da-a800-7000-8000-000000000001",
        "sentAt": 1767225600000,
    },
)
async def recall(services: Services, asked: Recall) -> None:
    """Recall a message: it goes from the inboxes and histories, and devices are told."""
    if asked.channel_type not in (DIRECT, SYSTEM):
        raise Refused(NOT_ENABLED, "groups and communities are not served", "channelType")
    target = Target(asked.message_id, asked.from_user_id, asked.channel_id, asked.channel_type == SYSTEM)
    await services.messages.recall(target, sent_at=asked.sent_at, admin=asked.is_admin == 1, extra=asked.extra)


@operation(
    "/v4/direct-channel/message/update",
    scope=WRITE,
    note="An older message answers 1002, one that is unknown or was recalled 1015; takes `messageUID` as well.",
    errors=(PARAMETER_TOO_LONG, DATA_MISSING, Code.PROFANITY_BLOCKED),
    example={
        "fromUserId": "alice",
        "targetId": "bob",
        "messageId": "019b76da-a800-7000-8000-000000000001",
        "content": '{"content":"hello, Bob"}',
    },
)
async def update(services: Services, asked: Update) -> None:
    """Change a direct message of the last 24 hours; devices are told."""
    mid = asked.message_id or asked.message_uid
    if mid is None:
        raise Problem(INVALID_PARAMETER, "messageId: is required")
    await services.messages.update(Target(mid, asked.from_user_id, asked.target_id), asked.content)


OPERATIONS = (send_direct, send_system, history, recall, update)
