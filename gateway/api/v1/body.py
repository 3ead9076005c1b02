"""Request bodies of the v1 dialect as its client libraries really send them, read into names and values.

Forms by the letter, forms that nothing was escaped in (raw UTF-8, ``?``, ``=``, ``:`` in values), JSON under any
content type: what the body is decides, not what the header says.
"""

from __future__ import annotations

import re
from binascii import a2b_qp
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from gateway.api.errors import INVALID_PARAMETER, Problem

Values = Mapping[str, list[Any]]
"""What was sent under each name, in order: texts from a form, any JSON values otherwise. Never an empty entry for a
name that was not sent; an empty list is a JSON ``[]``."""

FIELDS_MAX = 4096
"""More ``name=value`` pairs than any call takes (1,000 recipients and a dozen other fields)."""


def read(content_type: str | None, body: bytes) -> Values:
    """The fields of a request.

    Args:
        content_type: as sent; only forms in parts (``multipart/…``) are refused by it.
        body: the bytes.

    Raises:
        Problem: 1002, the body is neither a form nor a JSON object.
    """
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind.startswith("multipart/"):
        raise Problem(INVALID_PARAMETER, "Content-Type must be application/x-www-form-urlencoded or application/json")
    if body.lstrip()[:1] == b"{" or kind == "application/json":
        return _of_json(body)
    return _of_form(body)


def _of_json(body: bytes) -> Values:
    try:
        sent = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(INVALID_PARAMETER, f"the body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise Problem(INVALID_PARAMETER, "the body is not valid JSON: nested too deep") from error
    if not isinstance(sent, dict):
        raise Problem(INVALID_PARAMETER, "the body: Expected `object`")
    return {name: value if isinstance(value, list) else [value] for name, value in sent.items() if value is not None}


def _of_form(body: bytes) -> Values:
    fields: dict[str, list[Any]] = {}
    pairs = body.split(b"&", FIELDS_MAX)
    if len(pairs) > FIELDS_MAX:
        raise Problem(INVALID_PARAMETER, f"the body: more than {FIELDS_MAX} fields")
    for pair in pairs:
        name, equals, value = pair.partition(b"=")
        if name or equals:
            fields.setdefault(_unescaped(name), []).append(_unescaped(value))
    return fields


def _unescaped(escaped: bytes) -> str:
    # A "+" is a space even where a client escaped nothing: the hosted service reads it so, and ids that arrive with
    # a space in them are refused rather than guessed at.
    text = escaped.replace(b"+", b" ")
    if b"%" in text:
        text = unquote_to_bytes(text) if _stray_percent(text) else _unquoted(text)
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise Problem(INVALID_PARAMETER, "the body is not UTF-8") from error


_stray_percent = re.compile(rb"%(?![0-9A-Fa-f]{2})").search


def _unquoted(text: bytes) -> bytes:
    """``unquote_to_bytes`` where every ``%`` is an escape.

    That one takes 70 ms for 128 KiB of Chinese, in which the event loop would relay nothing; quoted-printable differs
    in its sign only, and C reads it in a tenth of the time.
    """
    return a2b_qp(text.replace(b"=", b"=3D").replace(b"%", b"="))
