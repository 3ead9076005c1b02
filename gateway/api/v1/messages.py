"""Direct and system messages, as v1 names them."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.api.v1.kinds import boolean, integer, json_object, many, switch
from gateway.api.v1.row import Fields, Parameter, row
from gateway.api.v4 import messages
from gateway.api.v4.messages import Deliveries, HistoryPage, Record

SENDER = Parameter("fromUserId", "fromUserId")
CONTENT = (Parameter("objectName", "messageType"), Parameter("content", "content"))
PUSH = (
    Parameter("pushContent", "pushContent"),
    Parameter("pushData", "pushData"),
    Parameter("pushExt", "pushExt"),
    Parameter("contentAvailable", "contentAvailable", switch),
)
QUIET = Parameter("disableUpdateLastMsg", "disableUpdateLastMsg", boolean)
RECALLED = (
    SENDER,
    Parameter("messageUID", "messageId"),
    Parameter("sentTime", "sentAt", integer),
    Parameter("isAdmin", "isAdmin", switch),
    Parameter("extra", "extra"),
    QUIET,
)

_SENT = (
    SENDER,
    Parameter("toUserId", "toUserIds", many),
    *CONTENT,
    *PUSH,
    Parameter("isPersisted", "shouldPersist", switch),
    Parameter("disablePush", "disablePush", boolean),
    QUIET,
)


def _deliveries(result: Deliveries) -> Fields:
    return {"messageUIDs": [{"userId": each.user_id, "messageUID": each.message_id} for each in result.message_ids]}


def _history(result: HistoryPage) -> Fields:
    return {"data": [_record(each) for each in result.messages]}


def _record(record: Record) -> dict[str, Any]:
    metadata = {item.key: item.value for item in record.metadata or ()}
    return {
        "targetId": record.channel_id,
        "fromUserId": record.from_user_id,
        "messageUID": record.message_id,
        "msgTime": record.sent_at,
        "objectName": record.message_type,
        "content": record.content,
        "expansion": record.has_metadata,
        "extraContent": msgspec.json.encode(metadata).decode() if metadata else "",
    }


ROWS = (
    row(
        "/message/private/publish.json",
        of=messages.send_direct,
        takes=[
            *_SENT,
            Parameter("count", "count", integer),
            Parameter("verifyBlacklist", "verifyBlocklist", switch),
            Parameter("isIncludeSender", "isEchoToSender", switch),
            Parameter("expansion", "hasMetadata", boolean),
            Parameter("extraContent", "metadata", json_object),
            Parameter("needReadReceipt", "needReadReceipt", switch),
        ],
        answer=_deliveries,
    ),
    row("/message/system/publish.json", of=messages.send_system, takes=_SENT, answer=_deliveries),
    row(
        "/message/recall.json",
        of=messages.recall,
        takes=[
            *RECALLED,
            Parameter("conversationType", "channelType", integer),
            Parameter("targetId", "channelId"),
            Parameter("busChannel", "subchannelId"),
            Parameter("disablePush", "disablePush", boolean),
        ],
    ),
    row(
        "/v3/message/private/query.json",
        of=messages.history,
        takes=[
            Parameter("userId", "userId"),
            Parameter("targetId", "channelId"),
            Parameter("startTime", "startAt", integer),
            Parameter("endTime", "endAt", integer),
            Parameter("pageSize", "pageSize", integer),
            Parameter("includeStart", "includeStart", boolean, default=False),
        ],
        answer=_history,
    ),
)
"""Every row about messages to named users."""
