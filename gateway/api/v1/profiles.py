"""Hosted profiles, which v1 writes as JSON inside strings."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.api.v1.kinds import integer, json_object
from gateway.api.v1.row import Fields, Parameter, row
from gateway.api.v1.users import USER_ID, USER_IDS
from gateway.api.v4 import profiles
from gateway.api.v4.fields import ManyUsers, UserList
from gateway.api.v4.profiles import Profile, Profiles


class Batch(UserList):
    """Up to 100 users, as the older client libraries have it.

    Attributes:
        user_ids: whose profiles.
    """

    user_ids: ManyUsers


def _profiles(result: Profiles) -> Fields:
    return {"userList": [_profile(each) for each in result.users]}


def _profile(profile: Profile) -> dict[str, Any]:
    fields = {
        "userId": profile.user_id,
        "version": profile.version,
        "userProfile": _written(profile.user_profile),
        "userExtProfile": _written(profile.user_ext_profile),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _written(keys: dict[str, Any] | None) -> str | None:
    return None if keys is None else msgspec.json.encode(keys).decode()


ROWS = (
    row(
        "/user/profile/set.json",
        of=profiles.profile_set,
        takes=[
            USER_ID,
            Parameter("userProfile", "userProfile", json_object),
            Parameter("userExtProfile", "userExtProfile", json_object),
        ],
    ),
    row("/user/profile/clean.json", of=profiles.profile_delete, takes=[USER_IDS]),
    row("/user/profile/batch/query.json", of=profiles.batch_get, takes=[USER_IDS], answer=_profiles, asks=Batch),
    row(
        "/user/profile/query.json",
        of=profiles.profile_list,
        takes=[
            Parameter("page", "page", integer),
            Parameter("size", "pageSize", integer),
            Parameter("order", "order", integer),
        ],
        answer=_profiles,
    ),
)
"""Every row about hosted profiles."""
