"""Friendships, as v1 names them."""

from __future__ import annotations

from gateway.api.v1.kinds import integer, many
from gateway.api.v1.row import Fields, Parameter, row
from gateway.api.v1.users import USER_ID
from gateway.api.v4 import friends
from gateway.api.v4.friends import Friendships

_TARGET = Parameter("targetId", "targetId")
_TARGETS = Parameter("targetIds", "targetIds", many)


def _checked(result: Friendships) -> Fields:
    return {"results": [{"userId": each.user_id, "result": each.result} for each in result.friendships]}


ROWS = (
    row(
        "/friend/add.json",
        of=friends.add,
        takes=[USER_ID, _TARGET, Parameter("optType", "action", integer), Parameter("extra", "extra")],
    ),
    row("/friend/delete.json", of=friends.remove, takes=[USER_ID, _TARGETS]),
    row("/friend/check.json", of=friends.relationship_get, takes=[USER_ID, _TARGETS], answer=_checked),
)
"""Every row about friends."""
