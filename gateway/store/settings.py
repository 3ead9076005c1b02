"""Live settings: one hash, the truth that every node re-reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.store.call import Call, function, text
from gateway.store.keys import SETTINGS, Keys


def read(keys: Keys) -> Call:
    """All settings that were ever changed."""
    return Call(keys.settings_place, ("HGETALL", SETTINGS))


def parse_read(reply: Any) -> dict[str, str]:
    items = list(reply.items()) if isinstance(reply, dict) else list(zip(reply[::2], reply[1::2], strict=True))
    return {text(name): text(value) for name, value in items}


def change(keys: Keys, changes: Mapping[str, str]) -> Call:
    """Writes a subset and raises the version; replies with it."""
    flat = [part for pair in changes.items() for part in pair]
    return function(keys.settings_place, "settings", (SETTINGS,), *flat)
