"""Friendships, as v1 names them."""

from __future__ import annotations

from gateway.api.v1.kinds import integer, json_object, many
from gateway.api.v1.row import Fields, Parameter, row
from gateway.api.v1.users import USER_ID
from gateway.api.v4 import friends
from gateway.api.v4.friends import Friends, Friendships, Permissions

_TARGET = Parameter("targetId", "targetId")
_TARGETS = Parameter("targetIds", "targetIds", many)
_USERS = Parameter("userIds", "userIds", many)


def _friends(result: Friends) -> Fields:
    listed = [
        {
            "userId": each.user_id,
            "name": each.name,
            "remarkName": each.alias,
            "friendExtProfile": each.extra_profile,
            "time": each.added_at,
        }
        for each in result.friends
    ]
    page = {} if result.page_token is None else {"pageToken": result.page_token}
    return {"totalCount": result.total_count, "friendList": listed} | page


def _checked(result: Friendships) -> Fields:
    return {"results": [{"userId": each.user_id, "result": each.result} for each in result.friendships]}


def _permissions(result: Permissions) -> Fields:
    return {
        "permissionSettings": [{"userId": each.user_id, "type": each.permission_type} for each in result.permissions]
    }


ROWS = (
    row(
        "/friend/add.json",
        of=friends.add,
        takes=[USER_ID, _TARGET, Parameter("optType", "action", integer), Parameter("extra", "extra")],
    ),
    row("/friend/delete.json", of=friends.remove, takes=[USER_ID, _TARGETS]),
    row("/friend/clean.json", of=friends.remove_all, takes=[USER_ID]),
    row(
        "/friend/get.json",
        of=friends.friend_list,
        takes=[
            USER_ID,
            Parameter("pageToken", "pageToken"),
            Parameter("size", "pageSize", integer),
            Parameter("order", "order", integer),
        ],
        answer=_friends,
    ),
    row("/friend/check.json", of=friends.relationship_get, takes=[USER_ID, _TARGETS], answer=_checked),
    row(
        "/friend/profile/set.json",
        of=friends.profile_set,
        takes=[
            USER_ID,
            _TARGET,
            Parameter("remarkName", "alias"),
            Parameter("friendExtProfile", "friendExtProfile", json_object),
        ],
    ),
    row(
        "/friend/permission/set.json",
        of=friends.permission_set,
        takes=[_USERS, Parameter("permissionType", "permissionType", integer)],
    ),
    row("/friend/permission/get.json", of=friends.permission_get, takes=[_USERS], answer=_permissions),
)
"""Every row about friends."""
