"""Tags: what an app calls its users; kept and given back, no more."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.services.accounts import PACE
from gateway.services.errors import PARAMETER_TOO_LONG, Refused
from gateway.store import accounts
from gateway.store.store import Store

TAG_BYTES_MAX = 40


class Tags:
    """What can be done about tags."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def set(self, users: Sequence[str], tags: Sequence[str]) -> None:
        """Replaces the tags of each user; none = takes them away.

        Raises:
            Refused: 1005, a tag has more than 40 bytes.
        """
        wanted = list(dict.fromkeys(tags))
        for index, tag in enumerate(wanted):
            if len(tag.encode()) > TAG_BYTES_MAX:
                raise Refused(PARAMETER_TOO_LONG, f"tags[{index}]: is longer than {TAG_BYTES_MAX} bytes")
        whose = list(dict.fromkeys(users))
        for start in range(0, len(whose), PACE):
            some = whose[start : start + PACE]
            await self._store.execute_all([accounts.tag(self._store.keys, user, wanted) for user in some])

    async def get(self, users: Sequence[str]) -> dict[str, list[str]]:
        """Each user's tags, in the order in which they were given."""
        asked = list(dict.fromkeys(users))
        replies = await self._store.execute_all([accounts.tags(self._store.keys, user) for user in asked])
        return {user: accounts.parse_tags(reply) for user, reply in zip(asked, replies, strict=True)}
