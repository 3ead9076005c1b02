"""Reads one value of a source into the type of its setting, or says what it must be."""

import math
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from gateway.config.redact import without_password
from gateway.config.settings import Setting, without_none

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def parse(row: Setting, value: object, *, typed: bool) -> Any:
    """Turn a value of a source into the setting's type; `typed` sources (TOML) get no reading of text as numbers."""
    inner = without_none(row.type)
    if get_origin(inner) is Literal:
        parsed: object = _one_of(get_args(inner), value)
    elif get_origin(inner) is tuple:
        parsed = _list(get_args(inner)[0], value)
    elif isinstance(value, str) and not typed:
        parsed = _from_text(inner, value.strip())
    else:
        parsed = _from_typed(inner, value)
    if parsed is None:
        shown = "" if row.secret else f", not {without_password(value)!r}"
        raise ValueError(f"must be {_a(row.kind)}{shown}")
    size = len(parsed) if isinstance(parsed, str) else parsed
    if isinstance(size, int | float) and not isinstance(size, bool):
        low, high = row.low, row.high
        if (low is not None and size < low) or (high is not None and size > high):
            shown = "" if row.secret or isinstance(parsed, str) else f", not {parsed}"
            raise ValueError(f"must be {row.bounds}{shown}")
    return parsed


def _from_text(inner: object, text: str) -> object | None:
    if inner is bool:
        return _WORDS.get(text.lower())
    try:
        if inner is int:
            return int(text)
        if inner is float:
            return _from_typed(float, float(text))
        if inner is datetime:
            return _from_typed(datetime, datetime.fromisoformat(text))
    except ValueError:
        return None
    return _from_typed(inner, text)


def _from_typed(inner: object, value: object) -> object | None:
    """The value as that type, or None when it is of another."""
    if inner is Path and isinstance(value, str | Path) and str(value):
        return Path(value)
    if inner is datetime and isinstance(value, str):
        return _from_text(datetime, value)
    if inner is datetime and isinstance(value, date):
        moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if inner is float and type(value) is int and abs(value) < 1 << 53:
        return float(value)
    if inner is float and type(value) is float:
        return value if math.isfinite(value) else None
    # bool is a kind of int to Python, but not to whoever writes `client_port = true`.
    return value if type(value) is inner else None


def _one_of(choices: tuple[str, ...], value: object) -> str | None:
    wanted = str(value).lower()
    return next((choice for choice in choices if choice.lower() == wanted), None)


def _list(of: Any, value: object) -> tuple[str, ...] | None:
    if isinstance(value, str):
        value = [part for part in re.split(r"[,\s]+", value) if part]
    if not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
        return None
    if get_origin(of) is not Literal:
        return tuple(value)
    chosen = {part: _one_of(get_args(of), part) for part in value}
    if unknown := [part for part, choice in chosen.items() if choice is None]:
        raise ValueError(f"has unknown entries: {', '.join(unknown)}; possible are {', '.join(get_args(of))}")
    return tuple(choice for choice in chosen.values() if choice)


def _a(kind: str) -> str:
    if "|" in kind:
        return "one of " + kind
    return f"an {kind}" if kind[0] in "AEIOU" else kind if kind in ("text", "yes or no") else f"a {kind}"
