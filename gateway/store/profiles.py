"""Hosted profiles: a JSON text in the user's record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from gateway.store.call import Call, function
from gateway.store.keys import Keys


class Profile(Struct, rename="camel", frozen=True):
    """A user's hosted profile.

    Attributes:
        version: rises with every change.
        user_profile: the keys that every app has.
        user_ext_profile: the app's own.
    """

    version: int
    user_profile: dict[str, str | int]
    user_ext_profile: dict[str, str]


class ProfileRecord(Struct, frozen=True):
    """What is known of a user's profile; ``profile`` is None where none was set."""

    user: str
    deactivated: bool
    profile: Profile | None


_decode = msgspec.json.Decoder(Profile).decode
_encode = msgspec.json.Encoder().encode


def change(
    keys: Keys, user_id: str, basic: Mapping[str, str | int], extended: Mapping[str, str], extended_max: int
) -> Call:
    """Sets keys, leaving the others; replies ``[0, version]`` or ``[code, 0]``."""
    user = keys.user(user_id)
    return function(user.partition, "set_profile", (user.user,), _encode(basic), _encode(extended), extended_max)


def get(keys: Keys, user_id: str) -> Call:
    """The profile and whether the user is deactivated."""
    user = keys.user(user_id)
    return Call(user.partition, ("HMGET", user.user, "profile", "deactivated_at"))


def parse_get(user_id: str, reply: Any) -> ProfileRecord:
    raw, deactivated_at = reply
    return ProfileRecord(user_id, deactivated_at is not None, None if raw is None else _decode(raw))


def delete(keys: Keys, user_id: str) -> Call:
    """Removes the whole profile."""
    user = keys.user(user_id)
    return Call(user.partition, ("HDEL", user.user, "profile"))
