"""How the values of a v1 field are read, whichever way a client library writes them.

Each takes what was sent under one name (at least one value, except for an empty JSON list) and returns what the v4
request holds; UNSET means that nothing was said. What does not look like its kind is passed on as it is: the v4 row
says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

Kind = Callable[[list[Any]], Any]

_integer = re.compile(r"-?[0-9]{1,18}").fullmatch
_FLAGS = {"1": True, "true": True, "0": False, "false": False}


def text(values: list[Any]) -> Any:
    """One text; an empty one is none, for some libraries send every field they know. Of repeated ones the first."""
    return msgspec.UNSET if not values or values[0] == "" else values[0]


def many(values: list[Any]) -> list[Any]:
    """A list: repeated, joined by commas, a JSON list, or one value alone."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, str):
            found += [part for part in value.split(",") if part]
        else:
            found.append(value)
    return found


def integer(values: list[Any]) -> Any:
    """A whole number, written in digits."""
    value = text(values)
    return int(value) if isinstance(value, str) and _integer(value) else value


def boolean(values: list[Any]) -> Any:
    """A switch that v4 has as true or false: 1, 0, true, false in any case."""
    value = text(values)
    word = value.lower() if isinstance(value, str) else str(value) if type(value) is int else None
    return value if word is None else _FLAGS.get(word, value)


def switch(values: list[Any]) -> Any:
    """A switch that v4 has as 1 or 0."""
    value = boolean(values)
    return int(value) if isinstance(value, bool) else value


def json_object(values: list[Any]) -> Any:
    """A JSON object, written as text or, in a JSON body, standing there itself.

    Raises:
        ValueError: it is something else.
    """
    value = text(values)
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            value = None
    if value is not msgspec.UNSET and not isinstance(value, dict):
        raise ValueError("must be the text of a JSON object")
    return value
