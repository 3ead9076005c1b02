"""Blocklists and allowlists, as admins edit them. A change binds the very next message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.services.errors import ALLOWLIST_OFF, ALLOWLIST_ON, PARAMETER_INVALID, Refused
from gateway.services.settings import Settings
from gateway.store import relationships
from gateway.store.relationships import ListName
from gateway.store.store import Store


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list; ``page`` names the next one, None = this was the last."""

    users: list[str]
    page: str | None


class Relationships:
    """What can be done about who may reach whom.

    While the live setting ``strict_list_mode`` is on, an allowlist is managed only while it binds (1010) and a
    blocklist only while the allowlist does not (1011).

    Args:
        store: where lists are kept.
        settings: the live ones.
        list_max: entries that one list may have.
    """

    def __init__(self, store: Store, settings: Settings, list_max: int) -> None:
        self._store = store
        self._settings = settings
        self._list_max = list_max

    async def block(self, user: str, targets: Sequence[str]) -> None:
        """Puts targets on the user's blocklist. Raises Refused 1002 over the list's limit."""
        await self._edit(user, "block", "add", targets)

    async def unblock(self, user: str, targets: Sequence[str]) -> None:
        """Takes targets off the user's blocklist."""
        await self._edit(user, "block", "remove", targets)

    async def blocked(self, user: str, targets: Sequence[str]) -> dict[str, bool]:
        """Which of the targets are on the user's blocklist."""
        return await self._check(user, "block", targets)

    async def blocklist(self, user: str, *, page: str | None, limit: int, oldest_first: bool = False) -> Page:
        """One page of the blocklist. Raises Refused 1002 for a page that was never given out."""
        return await self._page(user, "block", page, limit, oldest_first)

    async def allow(self, user: str, targets: Sequence[str]) -> None:
        """Puts targets on the user's allowlist. Raises Refused 1002 over the list's limit."""
        await self._edit(user, "allow", "add", targets)

    async def disallow(self, user: str, targets: Sequence[str]) -> None:
        """Takes targets off the user's allowlist."""
        await self._edit(user, "allow", "remove", targets)

    async def allowlist(self, user: str, *, page: str | None, limit: int, oldest_first: bool = False) -> Page:
        """One page of the allowlist. Raises Refused 1002 for a page that was never given out."""
        if self._settings.live.strict_list_mode and not (await self.allowlist_enabled([user]))[user]:
            raise self._wrong_mode(ALLOWLIST_OFF)
        return await self._page(user, "allow", page, limit, oldest_first)

    async def enable_allowlist(self, users: Sequence[str], enabled: bool) -> None:
        """Decides whether the users' allowlists bind."""
        calls = [relationships.set_allowlist(self._store.keys, user, enabled) for user in dict.fromkeys(users)]
        await self._store.execute_all(calls)

    async def allowlist_enabled(self, users: Sequence[str]) -> dict[str, bool]:
        """Whether the users' allowlists bind."""
        wanted = list(dict.fromkeys(users))
        calls = [relationships.allowlist_enabled(self._store.keys, user) for user in wanted]
        replies = await self._store.execute_all(calls)
        return {user: reply == b"1" for user, reply in zip(wanted, replies, strict=True)}

    # Lists.

    async def _edit(self, user: str, name: Literal["block", "allow"], op: str, targets: Sequence[str]) -> None:
        # Oneself is accepted without effect.
        members = [target for target in dict.fromkeys(targets) if target != user]
        if not members:
            return
        strict = self._settings.live.strict_list_mode
        call = relationships.edit(self._store.keys, user, name, op, members, self._list_max, strict=strict)
        reply = await self._store.execute(call)
        if reply in (ALLOWLIST_OFF, ALLOWLIST_ON):
            raise self._wrong_mode(reply)
        if reply:
            raise Refused(PARAMETER_INVALID, f"the {name}list would be over its {self._list_max} entries")

    @staticmethod
    def _wrong_mode(code: int) -> Refused:
        on = "on" if code == ALLOWLIST_ON else "off"
        return Refused(code, f"this user's allowlist is {on}", "user")

    async def _check(self, user: str, name: ListName, targets: Sequence[str]) -> dict[str, bool]:
        members = list(dict.fromkeys(targets))
        scores = await self._store.execute(relationships.check(self._store.keys, user, name, members))
        return {member: score is not None for member, score in zip(members, scores, strict=True)}

    async def _page(self, user: str, name: ListName, page: str | None, limit: int, oldest_first: bool) -> Page:
        call = relationships.page(self._store.keys, user, name, place_of(page), limit, oldest_first)
        entries, following = relationships.parse_page(await self._store.execute(call), limit)
        return Page([entry.user for entry in entries], page_of(following))


def page_of(place: int | None) -> str | None:
    """The opaque name of the page that starts after a place."""
    return None if place is None else f"{place:x}"


def place_of(page: str | None, code: int = PARAMETER_INVALID) -> int | None:
    """The place that a page starts after. Raises Refused, with that code, for what was never given out."""
    if page is None:
        return None
    try:
        place = int(page, 16)
    except ValueError:
        place = -1
    if not 0 < place < 1 << 53 or page != f"{place:x}":
        raise Refused(code, "page: not a page that was given out", "page")
    return place
