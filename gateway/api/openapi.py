"""The OpenAPI 3.1 document, made from the rows: what is served is what is described."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from gateway import __version__
from gateway.api import errors
from gateway.api.codes import MEANINGS
from gateway.api.examples import example
from gateway.api.operation import Operation, Rate
from gateway.api.schemas import Schema, Schemas
from gateway.api.v1.row import NO_POST_DATA, SUCCESS, Row
from gateway.services.errors import RATE_EXCEEDED

_ABOUT = """\
Every operation is a POST with a JSON object and answers HTTP 200 with `code` 0, or another status with `code` and
`errorMessage`.

Sign each call with four headers: `App-Key`, `Nonce` (1 to 64 characters), `Timestamp` (Unix milliseconds) and
`Signature`, the lower-case hex SHA-1 of app secret + nonce + timestamp. Each may also be named `RC-…`. The signature
covers neither path nor body: keep this port private, or send `Authorization: Bearer` with an admin token instead: a
JSON Web Token by the app secret, with `aud` `<app key>/admin`, `exp`, and `scope`, a string of `read`, `write`,
`kick`.

Rates are counted over the whole cluster; over them the answer is HTTP 429 with `Retry-After`. Unknown paths answer 404
and other methods 405, both only to calls that are signed. Operations marked as extensions are not in the hosted
service.
"""

_SIGNED = {
    "appKey": ("App-Key", "The app key."),
    "nonce": ("Nonce", "Any 1 to 64 characters."),
    "timestamp": ("Timestamp", "Unix time in milliseconds; seconds are understood as well."),
    "signature": ("Signature", "Lower-case hex SHA-1 of app secret + nonce + timestamp."),
}

_HTTP_WORDS = {
    400: "Bad request",
    401: "Not signed by this app",
    403: "Refused",
    404: "There is no such path",
    405: "Not a POST",
    413: "The body is too large",
    429: "Too often",
    430: "Not enabled",
    500: "Internal error",
    503: "The store is unavailable",
    504: "The outcome is unknown",
}

_USUAL = {
    401: [errors.SIGNATURE_INVALID],
    403: [errors.RESTRICTED],
    404: [errors.NO_SUCH_ENDPOINT],
    405: [errors.METHOD_NOT_ALLOWED],
    413: [errors.TOO_LARGE],
    429: [RATE_EXCEEDED],
    500: [errors.INTERNAL],
    503: [errors.INTERNAL],
    504: [errors.TIMED_OUT],
}
"""What these statuses mean wherever nothing more is said; every operation may answer them, but for 404 and 405."""

_PERIODS = {1: "a second", 60: "a minute", 3600: "an hour", 86_400: "a day"}

_PROBES = {
    "/healthz": ("Tell that the process lives", "application/json"),
    "/readyz": ("Tell whether this node can do its job, and if not, why", "application/json"),
    "/metrics": ("Counters and gauges in Prometheus' text format", "text/plain"),
    "/openapi.json": ("This document", "application/json"),
    "/docs": ("This document for people", "text/html"),
}


def document(
    rows: Sequence[Operation[Any, Any]], older: Sequence[Row], id_pattern: str, ids_max: int
) -> dict[str, Any]:
    """The whole document.

    Args:
        rows: the v4 operations.
        older: the v1 operations that are served.
        id_pattern: see ``Schemas``.
        ids_max: see ``Schemas``.
    """
    own = [row.performed for row in older if row.performed is not row.operation]
    schemas = Schemas([*rows, *own], id_pattern, ids_max)
    paths: dict[str, Any] = {
        path: {"post": _operation(row, path, schemas, older)} for row in rows for path in row.paths
    }
    paths |= {path: {"post": _v1_operation(row, path, schemas)} for row in older for path in row.paths}
    paths |= {path: {"get": _probe(path, *about)} for path, about in _PROBES.items()}
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "gateway Server API",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{name: [] for name in _SIGNED}, {"adminToken": []}],
        "tags": [{"name": name} for name in dict.fromkeys([*map(tag, rows), *(["v1"] if older else []), "node"])],
        "paths": paths,
        "components": {
            "schemas": {**schemas.components, "Error": _ERROR, "Done": _DONE},
            "securitySchemes": {
                **{
                    name: {"type": "apiKey", "in": "header", "name": header, "description": text}
                    for name, (header, text) in _SIGNED.items()
                },
                "adminToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
            "responses": {str(status): _failure(status, possible) for status, possible in _USUAL.items()},
            "parameters": {"X-Request-ID": {**_REQUEST_ID, "name": "X-Request-ID", "in": "header"}},
            "headers": {"X-Request-ID": {**_REQUEST_ID, "required": True}, "Retry-After": _RETRY_AFTER},
        },
        "x-codes": {str(code): {"httpStatus": status_of(code), "meaning": text} for code, text in MEANINGS.items()},
    }


_ERROR: Schema = {
    "type": "object",
    "description": "The body of every answer outside 200.",
    "properties": {
        "code": {"type": "integer", "description": "The business code; see x-codes."},
        "errorMessage": {"type": "string", "description": "What was wrong, for a person; begins with the field."},
    },
    "required": ["code", "errorMessage"],
}
_DONE: Schema = {
    "type": "object",
    "description": "Success without more to say.",
    "properties": {"code": {"const": 0}},
    "required": ["code"],
}
_REQUEST_ID: Schema = {
    "description": "Names the call in logs; made where none, or none of 1 to 36 visible characters, was sent.",
    "schema": {"type": "string"},
}
_RETRY_AFTER: Schema = {
    "description": "In how many seconds to try again.",
    "required": True,
    "schema": {"type": "string", "pattern": "^[1-9][0-9]*$"},
}


def tag(row: Operation[Any, Any]) -> str:
    """The noun a row belongs to: the file it stands in."""
    return str(row.act.__module__.rpartition(".")[2])


def summary(row: Operation[Any, Any]) -> str:
    """What a row does, in one sentence."""
    return (row.act.__doc__ or "").partition("\n\n")[0].replace("\n", " ").strip().removesuffix(".")


def rate(row: Operation[Any, Any]) -> str:
    """How often it may be called, in words."""
    return " and ".join(_rate(each) for each in row.rates)


def _rate(limit: Rate) -> str:
    period = _PERIODS.get(limit.per_s, f"in {limit.per_s} seconds")
    return f"{limit.most:,} {'' if limit.counted == 'calls' else limit.counted + ' '}{period}"


def status_of(code: int) -> int:
    """The HTTP status that a business code goes out with."""
    return errors.HTTP_STATUS.get(code, 400)


def codes(row: Operation[Any, Any], asked: Schema, *more: int) -> dict[int, list[int]]:
    """HTTP status → business codes, of every error a row may answer.

    Args:
        row: the operation.
        asked: the schema of its request.
        more: codes that only this way of asking has.
    """
    about = asked.get("properties", {})
    found = {status: set(usual) for status, usual in _USUAL.items() if status not in (404, 405)}
    special = [errors.INVALID_PARAMETER, *row.errors, *more]
    special += [errors.INVALID_MINUTES] if "durationMinutes" in about else []
    special += [errors.TOO_LONG] if any(_is_text(each) for each in about.values()) else []
    for code in special:
        found.setdefault(status_of(code), set()).add(code)
    return {status: sorted(found[status]) for status in sorted(found)}


def _is_text(schema: Schema) -> bool:
    kinds = [schema, *schema.get("anyOf", ()), schema.get("items", {})]
    return any(each.get("type") in ("string", "object") or "$ref" in each for each in kinds)


def _operation(row: Operation[Any, Any], path: str, schemas: Schemas, older: Iterable[Row]) -> dict[str, Any]:
    asks, answers = schemas.asks(row), schemas.answers(row)
    asked = schemas.resolved(asks)
    body = dict(row.example) if row.example is not None else example(asked, schemas.resolved, whole=False)
    success: dict[str, Any] = {"code": 0}
    schema: Schema = {"$ref": "#/components/schemas/Done"}
    if answers is not None:
        success["result"] = example(answers, schemas.resolved, whole=True)
        properties = {"code": {"const": 0}, "result": answers}
        schema = {"type": "object", "properties": properties, "required": list(properties)}
    described = {
        "operationId": _operation_id(path),
        "tags": [tag(row)],
        "summary": summary(row),
        "parameters": [{"$ref": "#/components/parameters/X-Request-ID"}],
        "requestBody": {
            "required": bool(asked.get("required")),
            "content": {"application/json": {"schema": asks, "example": body}},
        },
        "responses": {"200": _answer("Done", schema, success), **_failures(codes(row, asked))},
        "x-scope": row.scope,
        "x-rate": rate(row),
        "x-extension": row.extension,
    }
    if row.note:
        described["description"] = row.note
    if served := [each for old in older if old.operation is row for each in old.paths]:
        described["x-v1"] = served
    return described


def _v1_operation(row: Row, path: str, schemas: Schemas) -> dict[str, Any]:
    asked = schemas.resolved(schemas.asks(row.performed))
    fields = asked.get("properties", {})
    required = [
        each.name for each in row.parameters if each.wire in asked.get("required", ()) and each.default is msgspec.UNSET
    ]
    form: Schema = {
        "type": "object",
        "properties": {each.name: fields.get(each.wire, {}) for each in row.parameters},
    }
    schema = {"type": "object", "properties": {"code": {"const": SUCCESS}}, "required": ["code"]}
    return {
        "operationId": _operation_id(path),
        "tags": ["v1"],
        "summary": summary(row.operation),
        "description": f"The same as `{row.operation.paths[0]}`. Takes a form; JSON is understood as well.",
        "requestBody": {
            "content": {
                "application/x-www-form-urlencoded": {"schema": form | ({"required": required} if required else {})}
            }
        },
        "responses": {"200": _answer("Done", schema, None), **_failures(codes(row.performed, asked, NO_POST_DATA))},
        "x-scope": row.operation.scope,
        "x-rate": rate(row.performed),
        "x-extension": False,
    }


def _operation_id(path: str) -> str:
    words = path.removesuffix(".json").replace("/", "-").replace("_", "-").strip("-").split("-")
    return words[0] + "".join(word[:1].upper() + word[1:] for word in words[1:])


def _answer(description: str, schema: Schema, body: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": schema}
    if body is not None:
        content["example"] = body
    return {
        "description": description,
        "headers": {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}},
        "content": {"application/json": content},
    }


def _failures(found: Mapping[int, Sequence[int]]) -> dict[str, Any]:
    return {
        str(status): {"$ref": f"#/components/responses/{status}"}
        if _USUAL.get(status) == possible
        else _failure(status, possible)
        for status, possible in found.items()
    }


def _failure(status: int, possible: Sequence[int]) -> dict[str, Any]:
    schema = {
        "allOf": [{"$ref": "#/components/schemas/Error"}],
        "properties": {"code": {"enum": list(possible)}},
    }
    failure = _answer(_HTTP_WORDS[status], schema, None)
    failure["content"]["application/json"]["examples"] = {
        str(code): {"value": {"code": code, "errorMessage": MEANINGS[code]}} for code in possible
    }
    if status in (429, 503):
        failure["headers"]["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    return failure


def _probe(path: str, text: str, media_type: str) -> dict[str, Any]:
    schema: Schema = {"type": "string"} if media_type.startswith("text/") else {"type": "object"}
    answers = {"200": {"description": "As asked", "content": {media_type: {"schema": schema}}}}
    if path == "/readyz":
        answers["503"] = _failure(503, [errors.INTERNAL])
    return {
        "operationId": path.strip("/").partition(".")[0],
        "tags": ["node"],
        "summary": text,
        "security": [],
        "responses": answers,
    }
