"""Example values for the documents, where a row brings none of its own: names first, then what the schema allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway.api.schemas import Schema

_BY_NAME: Mapping[str, Any] = {
    "accessToken": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl",
    "addedAt": 1795341600000,
    "alias": "Bobby",
    "avatarUrl": "https://app.example.com/alice.png",
    "banExpiresAt": "2026-11-22 11:00:00",
    "blockedUserIds": ["bob"],
    "channelId": "bob",
    "channelType": "PERSON",
    "channelTypes": ["PERSON"],
    "content": '{"content":"hello"}',
    "createdAt": "2026-11-22 10:00:00",
    "durationMinutes": 60,
    "endAt": 1795255200000,
    "expiresAt": 1795341600000,
    "fromUserId": "alice",
    "messageId": "019aaa00-5c00-7000-8000-000000000001",
    "messageType": "RC:TxtMsg",
    "messageUID": "019aaa00-5c00-7000-8000-000000000001",
    "mutedUserIds": ["alice"],
    "name": "Alice",
    "nodeId": "gateway-1.m5x2k",
    "nodesAnswered": ["gateway-1.m5x2k"],
    "nodesSilent": [],
    "operationId": "C70B-B1D6-82E8-5SBO",
    "sentAt": 1795341600000,
    "sessionId": "7f3a9c01",
    "startAt": 1795341600000,
    "status": "1",
    "tags": ["vip"],
    "targetId": "bob",
    "targetIds": ["bob"],
    "targetUserIds": ["bob"],
    "toUserIds": ["bob"],
    "tookMs": 3.2,
    "userId": "alice",
    "userIds": ["alice"],
    "word": "darn",
}

_BY_TYPE: Mapping[str, Any] = {"string": "text", "number": 1.5, "boolean": True, "null": None}


def example(schema: Schema, resolved: Callable[[Schema], Schema], *, whole: bool, name: str = "") -> Any:
    """A value that the schema allows.

    Args:
        schema: what it is for.
        resolved: what a reference stands for.
        whole: optional fields as well.
        name: of the field it stands in.
    """
    schema = resolved(schema)
    if name in _BY_NAME and _fits(_BY_NAME[name], schema):
        return _BY_NAME[name]
    for alternative in schema.get("anyOf", ()):
        return example(alternative, resolved, whole=whole, name=name)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object":
        return {
            key: example(each, resolved, whole=whole, name=key)
            for key, each in schema.get("properties", {}).items()
            if key in schema.get("required", ()) or (whole and schema.get("required") is not None)
        }
    if kind == "array":
        return [example(schema.get("items", {}), resolved, whole=whole)]
    if kind == "integer":
        return schema.get("default", schema.get("minimum", 1))
    return _BY_TYPE.get(kind or "string")


def _fits(value: Any, schema: Schema) -> bool:
    kinds = {each.get("type") for each in [schema, *schema.get("anyOf", ())]}
    found = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}[type(value)]
    return found in kinds
