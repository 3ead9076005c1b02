"""The RongCloud v1 operations: the same acts as in v4, in the words of older client libraries. Off by default."""

from __future__ import annotations

from gateway.api.v1 import broadcasts, friends, lists, messages, profiles, users
from gateway.api.v1.row import Row

ROWS: tuple[Row, ...] = (
    *users.ROWS,
    *profiles.ROWS,
    *lists.ROWS,
    *friends.ROWS,
    *messages.ROWS,
    *broadcasts.ROWS,
)
"""Every row that is served when v1 is enabled."""
