"""The published documents of the protocol, generated from the structs: JSON Schema, AsyncAPI, and tables to read."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.protocol import PATH, SUBPROTOCOL, VERSION, codes, commands, examples, pushes, replies
from gateway.protocol.codes import CloseReason, Code

SCHEMA_PATH = "docs/protocol/schema.json"
ASYNCAPI_PATH = "docs/protocol/asyncapi.json"
README_PATH = "docs/protocol/README.md"

_FAULTS_OF_THE_CLIENT = frozenset(
    code.code for code in (codes.PROTOCOL_ERROR, codes.UNSUPPORTED, codes.INVALID_DATA, codes.TOO_BIG)
)

_GENERATED = "Generated from gateway/protocol by `gateway docs`; do not edit."


def documents() -> dict[str, str]:
    """Path in the repository → text of every generated document."""
    return {SCHEMA_PATH: _json(schema()), ASYNCAPI_PATH: _json(asyncapi()), README_PATH: readme()}


def example(message: Struct) -> dict[str, Any]:
    """A message as it goes over the wire, without what is left at its default."""
    sent = msgspec.json.decode(msgspec.json.encode(message))
    defaults = {each.encode_name: each.default for each in msgspec.structs.fields(message)}
    return {name: value for name, value in sent.items() if name not in defaults or defaults[name] != value}


# JSON Schema.


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of everything that goes over the socket, and of close reasons."""
    definitions = dict(_definitions("#/$defs/{name}"))
    groups = {"Command": commands.COMMANDS, "Reply": replies.REPLIES, "Push": pushes.PUSHES}
    for name, types in groups.items():
        definitions[name] = {"anyOf": [{"$ref": f"#/$defs/{each.__name__}"} for each in types]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{SUBPROTOCOL}",
        "title": f"Client protocol, version {VERSION}",
        "$comment": _GENERATED,
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in groups],
        "$defs": definitions,
    }


@functools.cache
def _definitions(template: str) -> dict[str, Any]:
    types = (*commands.COMMANDS, *replies.REPLIES, *pushes.PUSHES, CloseReason)
    _, definitions = msgspec.json.schema_components(types, ref_template=template)
    for message in _all_examples():
        definitions[type(message).__name__]["examples"] = [example(message)]
    return dict(sorted(definitions.items()))


def _all_examples() -> Iterable[Struct]:
    return (*examples.COMMANDS, *examples.REPLIES, *examples.PUSHES, *examples.CLOSES)


# AsyncAPI.


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0 of the socket, told from the gateway's side: it receives commands, it sends replies and pushes."""
    spoken = (*examples.COMMANDS, *examples.REPLIES, *examples.PUSHES)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Gateway client protocol",
            "version": str(VERSION),
            "description": _GENERATED,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "gateway": {"host": "localhost:8080", "protocol": "ws", "security": [_ref("securitySchemes", "token")]}
        },
        "channels": {
            "connect": {
                "address": PATH,
                "description": f"One WebSocket with the subprotocol {SUBPROTOCOL}; JSON text frames, one object each.",
                "messages": {type(each).__name__: _ref("messages", type(each).__name__) for each in spoken},
                "bindings": {"ws": {"method": "GET", "query": _query(), "bindingVersion": "0.1.0"}},
            }
        },
        "operations": _operations(),
        "components": {
            "messages": {type(each).__name__: _message(each) for each in spoken},
            "schemas": _definitions("#/components/schemas/{name}"),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operations() -> dict[str, Any]:
    channel = {"$ref": "#/channels/connect"}
    operations: dict[str, Any] = {}
    for command in commands.COMMANDS:
        operation: dict[str, Any] = {
            "action": "receive",
            "channel": channel,
            "summary": _summary(command),
            "messages": [_spoken(command)],
        }
        answers = examples.ANSWERS[command]
        if answers:
            operation["reply"] = {"channel": channel, "messages": [*map(_spoken, answers), _spoken(replies.Error)]}
        operations[f"receive{command.__name__}"] = operation
    operations["push"] = {
        "action": "send",
        "channel": channel,
        "summary": "What the gateway says unasked.",
        "messages": [_spoken(push) for push in pushes.PUSHES],
    }
    return operations


def _message(message: Struct) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": _tag(type(message)),
        "title": type(message).__name__,
        "summary": _summary(type(message)),
        "payload": _ref("schemas", type(message).__name__),
        "examples": [{"payload": example(message)}],
    }
    if "id" in message.__struct_fields__:
        described["correlationId"] = {"location": "$message.payload#/id"}
    return described


def _query() -> dict[str, Any]:
    properties = _definitions("#/components/schemas/{name}")["Auth"]["properties"]
    return {"type": "object", "properties": {name: properties[name] for name in ("device", "platform", "since")}}


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _spoken(kind: type[Struct]) -> dict[str, str]:
    return {"$ref": f"#/channels/connect/messages/{kind.__name__}"}


# The tables.


def readme() -> str:
    """The protocol's words as tables."""
    parts = [
        f"# Client protocol, version {VERSION}: the words",
        f"<!-- {_GENERATED} -->",
        f"One WebSocket at `{PATH}`, subprotocol `{SUBPROTOCOL}`. JSON text frames, one object each, told apart by "
        "`type`. Times are Unix milliseconds. Unknown fields are ignored. The same, for machines: "
        "[schema.json](schema.json) and [asyncapi.json](asyncapi.json).",
        "## Commands",
        "What a client says. Any of them may be answered by `error` instead.",
        *(_section(each, examples.ANSWERS[type(each)]) for each in examples.COMMANDS),
        "## Replies",
        *(_section(each) for each in examples.REPLIES),
        "## Pushes",
        *(_section(each) for each in examples.PUSHES),
        "## Error codes",
        "In `error` replies, in close reasons, and in the JSON body of a refused handshake.",
        _error_codes(),
        "## Close codes",
        "4000 to 4499: reconnect, with back-off and full jitter, and not before the reason's `retry_after_ms`. "
        "4500 to 4999: stop, reconnecting cannot help without a person or a new token. The reason is JSON of at most "
        "123 bytes; a handshake that is refused by an HTTP status carries the same object as its body:",
        _section(examples.CLOSES[0]),
        _close_codes(),
    ]
    return "\n\n".join(parts) + "\n"


def _section(message: Struct, answers: Sequence[type[Struct]] | None = None) -> str:
    kind = type(message)
    tag = _tag(kind)
    heading = f"`{tag}`" if tag is not None else "The reason of a close"
    if kind in replies.REPLIES and tag == "ok" and kind is not replies.Ok:
        asked = ", ".join(f"`{_tag(each)}`" for each, given in examples.ANSWERS.items() if kind in given)
        heading = f"`ok` to {asked}"
    parts = [f"### {heading}", _summary(kind)]
    if answers is not None:
        parts.append(
            "Answered by " + " or ".join(f"`{_tag(each)}`" for each in answers) + "." if answers else "No reply."
        )
    rows = _fields(kind)
    if rows:
        parts.append(_table(("field", "type", "bounds", "default"), rows))
    parts.append(f"```json\n{json.dumps(example(message), ensure_ascii=False)}\n```")
    return "\n\n".join(parts)


def _fields(kind: type[Struct]) -> list[tuple[str, ...]]:
    described = _definitions("{name}")[kind.__name__]
    required = described.get("required", ())
    rows: list[tuple[str, ...]] = []
    for name, field in described["properties"].items():
        if name == "type":
            continue
        types, bounds = _described(field)
        default = "required" if name in required else _plain(field["default"]) if "default" in field else "absent"
        rows.append((f"`{name}`", types, bounds, default))
    return rows


def _described(field: dict[str, Any]) -> tuple[str, str]:
    """(type, bounds) of one field's schema, in words."""
    options = [each for each in field.get("anyOf", [field]) if each.get("type") != "null"]
    named = field if "anyOf" not in field else options[0]
    if "enum" in named:
        return " or ".join(f"`{value}`" for value in named["enum"]), ""
    if "$ref" in named:
        return f"object {named['$ref']}", ""
    types = named.get("type", "any JSON")
    bounds = []
    for low, high, unit in (
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
        ("minimum", "maximum", ""),
    ):
        if low in named or high in named:
            bounds.append(f"{named.get(low, '')}..{named.get(high, '')}{unit}")
    if "pattern" in named:
        bounds.append(f"`{named['pattern']}`")
    if types == "array":
        inner, inner_bounds = _described(named.get("items", {}))
        types = f"list of {inner}"
        bounds += [f"each {inner_bounds}"] if inner_bounds else []
    elif types == "object" and isinstance(named.get("additionalProperties"), dict):
        types = f"map to {_described(named['additionalProperties'])[0]}"
    nullable = any(each.get("type") == "null" for each in field.get("anyOf", ()))
    return types + (" or null" if nullable and "default" not in field else ""), ", ".join(bounds)


def _error_codes() -> str:
    rows = []
    for code in sorted(Code):
        close = codes.CLOSE_BY_CODE.get(code)
        status = codes.HTTP_STATUS.get(code)
        rows.append(
            (str(code.value), codes.MEANINGS[code], str(status or ""), f"{close.code} {close.name}" if close else "")
        )
    return _table(("code", "meaning", "HTTP status", "close code"), rows)


def _close_codes() -> str:
    rows = [(str(each.code), f"`{each.name}`", each.meaning, _advice(each.code)) for each in sorted(codes.CLOSE_CODES)]
    return _table(("code", "name", "meaning", "a client should"), rows)


def _advice(code: int) -> str:
    if code in _FAULTS_OF_THE_CLIENT:
        return "mend what it sends"
    if code == codes.NORMAL.code:
        return "nothing"
    return "stop" if code >= codes.STOP_FROM else "reconnect"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _tag(kind: type[Struct]) -> str | None:
    tag = kind.__struct_config__.tag
    return tag if isinstance(tag, str) else None


def _summary(kind: type[Struct]) -> str:
    return " ".join((kind.__doc__ or "").split())


def _plain(value: object) -> str:
    return "absent" if value is None else f"`{json.dumps(value)}`"


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
