"""Hosted profiles: what an app keeps about its users with the gateway, for other users to read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.services.directories import Directory
from gateway.services.errors import PARAMETER_INVALID, USER_UNKNOWN, Refused
from gateway.services.outbox import Outbox
from gateway.services.settings import Settings
from gateway.store import profiles
from gateway.store.profiles import ProfileRecord
from gateway.store.store import Store

NO_SUCH_KEY, NO_SUCH_EXT_KEY, TOO_MANY_KEYS, VALUE_TOO_LONG = 24361, 24362, 24363, 24364
NO_SUCH_USER, NUMBER_WANTED, OUT_OF_RANGE = 24366, 24367, 24368

TEXT_MAX: Mapping[str, int] = {
    "uniqueId": 32,
    "name": 64,
    "portraitUri": 1024,
    "email": 128,
    "birthday": 32,
    "location": 32,
}
"""Basic keys that hold text, with the most characters."""

NUMBER_MAX: Mapping[str, int] = {"gender": 2, "role": 100, "level": 100}
"""Basic keys that hold a number from 0."""

EXT_KEYS_MAX = 20
EXT_KEY_MAX = 32
EXT_VALUE_MAX = 256

_STRICT_KEY = re.compile(r"ext_[A-Za-z0-9]+")
_LENIENT_KEY = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True)
class ProfilePage:
    """Some users' profiles, and how many users there are in all."""

    records: Sequence[ProfileRecord]
    total: int


class Profiles:
    """What can be done about hosted profiles."""

    def __init__(self, store: Store, settings: Settings, outbox: Outbox) -> None:
        self._store = store
        self._outbox = outbox
        self._settings = settings
        self._users = Directory(store, "users")

    async def set(self, user: str, basic: Mapping[str, Any], extended: Mapping[str, Any]) -> int:
        """Sets the keys that are named; the others stay.

        Returns:
            The profile's new version.

        Raises:
            Refused: 2436x, whose ``details`` name the ``profileKey``; 24366 no such user.
        """
        await self._settings.get()
        for key, value in basic.items():
            _check_basic(key, value)
        for key, value in extended.items():
            _check_extended(key, value, _STRICT_KEY if self._settings.live.strict_ext_keys else _LENIENT_KEY)
        if len(extended) > EXT_KEYS_MAX:
            raise _too_many(extended)
        code, version = await self._store.execute(
            profiles.change(self._store.keys, user, basic, extended, EXT_KEYS_MAX)
        )
        if code == TOO_MANY_KEYS:
            raise _too_many(extended)
        if code:
            raise Refused(NO_SUCH_USER, f"user {user} does not exist", "user")
        if self._outbox.profiles:
            await self._outbox.add([self._outbox.profile(user, basic, extended)])
        return int(version)

    async def get(self, users: Sequence[str]) -> list[ProfileRecord]:
        """The profiles of those who have one.

        Raises:
            Refused: 400, one of the users is deactivated.
        """
        records = await self._read(list(dict.fromkeys(users)))
        for record in records:
            if record.deactivated:
                raise Refused(USER_UNKNOWN, f"user {record.user} does not exist", "users")
        return [record for record in records if record.profile is not None]

    async def list(self, *, offset: int, limit: int, newest_first: bool = False) -> ProfilePage:
        """All registered users in the order of their registration, with their profiles."""
        page = await self._users.page(offset, limit, newest_first=newest_first)
        return ProfilePage(await self._read([entry.user for entry in page.entries]), page.total)

    async def delete(self, users: Sequence[str]) -> None:
        """Removes whole profiles."""
        wanted = list(dict.fromkeys(users))
        removed = await self._store.execute_all([profiles.delete(self._store.keys, user) for user in wanted])
        if self._outbox.profiles:
            cleared = [user for user, count in zip(wanted, removed, strict=True) if int(count)]
            await self._outbox.add([self._outbox.profile(user, {}, {}) for user in cleared])

    async def _read(self, users: Sequence[str]) -> Sequence[ProfileRecord]:
        replies = await self._store.execute_all([profiles.get(self._store.keys, user) for user in users])
        return [profiles.parse_get(user, reply) for user, reply in zip(users, replies, strict=True)]


def _check_basic(key: str, value: Any) -> None:
    where = f"userProfile.{key}"
    if key in TEXT_MAX:
        if not isinstance(value, str):
            raise _refused(PARAMETER_INVALID, where, "must be text", key)
        if len(value) > TEXT_MAX[key]:
            raise _refused(VALUE_TOO_LONG, where, f"must have at most {TEXT_MAX[key]} characters", key)
    elif key in NUMBER_MAX:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _refused(NUMBER_WANTED, where, "must be a whole number", key)
        if not 0 <= value <= NUMBER_MAX[key]:
            raise _refused(OUT_OF_RANGE, where, f"must be from 0 to {NUMBER_MAX[key]}", key)
    else:
        raise _refused(NO_SUCH_KEY, where[:128], f"no such key; there are {', '.join((*TEXT_MAX, *NUMBER_MAX))}", key)


def _check_extended(key: str, value: Any, wanted: re.Pattern[str]) -> None:
    where = f"userExtProfile.{key}"[:128]
    if len(key) > EXT_KEY_MAX:
        raise _refused(VALUE_TOO_LONG, where, f"a key has at most {EXT_KEY_MAX} characters", key)
    if not wanted.fullmatch(key):
        form = "ext_ and letters and digits" if wanted is _STRICT_KEY else "letters, digits and _"
        raise _refused(NO_SUCH_EXT_KEY, where, f"a key consists of {form}", key)
    if not isinstance(value, str):
        raise _refused(PARAMETER_INVALID, where, "must be text", key)
    if len(value) > EXT_VALUE_MAX:
        raise _refused(VALUE_TOO_LONG, where, f"must have at most {EXT_VALUE_MAX} characters", key)


def _too_many(extended: Mapping[str, Any]) -> Refused:
    reason = f"a profile has at most {EXT_KEYS_MAX} of them"
    return _refused(TOO_MANY_KEYS, "userExtProfile", reason, list(extended)[-1])


def _refused(code: int, where: str, reason: str, key: str) -> Refused:
    return Refused(code, f"{where}: {reason}", details={"profileKey": key[:128]})
