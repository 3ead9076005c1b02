"""The Nexconn v4 operations, one noun a file."""

from __future__ import annotations

from typing import Any

from gateway.api.operation import Operation
from gateway.api.v4 import (
    allowlist,
    bans,
    blocklist,
    broadcasts,
    friends,
    messages,
    mutes,
    profiles,
    sessions,
    settings,
    stats,
    tags,
    tokens,
    users,
    words,
)

OPERATIONS: tuple[Operation[Any, Any], ...] = (
    *tokens.OPERATIONS,
    *users.OPERATIONS,
    *tags.OPERATIONS,
    *mutes.OPERATIONS,
    *profiles.OPERATIONS,
    *bans.OPERATIONS,
    *blocklist.OPERATIONS,
    *allowlist.OPERATIONS,
    *friends.OPERATIONS,
    *messages.OPERATIONS,
    *broadcasts.OPERATIONS,
    *sessions.OPERATIONS,
    *settings.OPERATIONS,
    *stats.OPERATIONS,
    *words.OPERATIONS,
)
"""Every row that is served under /v4."""
