"""Users, their tokens, tags and mutes, as v1 names them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.api.operation import USUAL
from gateway.api.v1.kinds import integer, many
from gateway.api.v1.row import Fields, Parameter, row
from gateway.api.v4 import bans, mutes, tags, tokens, users
from gateway.api.v4.bans import BannedUsers
from gateway.api.v4.fields import UserId
from gateway.api.v4.mutes import Muted
from gateway.api.v4.tags import TaggedUsers
from gateway.api.v4.tokens import Issued
from gateway.api.v4.users import Accepted, Account, ConnectionStatus, ListedUsers, SoftDeleted

USER_ID = Parameter("userId", "userId")
USER_IDS = Parameter("userId", "userIds", many)
NAME = Parameter("name", "name")
PORTRAIT = Parameter("portraitUri", "avatarUrl")
TAGS = Parameter("tags", "tags", many)

UNKNOWN = {"userName": "", "userPortrait": "", "createTime": ""}


class OneTagging(tags.Tagging):
    """One user's tags to replace; asked for more often than those of many.

    Attributes:
        user_ids: whose.
        tags: all the user's tags from now on; none = there are none.
    """

    user_ids: Annotated[list[UserId], Meta(min_length=1, max_length=1)]


def _issued(result: Issued) -> Fields:
    return {"userId": result.user_id, "token": result.access_token}


def _account(result: Account) -> Fields:
    return {"userName": result.name, "userPortrait": result.avatar_url, "createTime": result.created_at}


def _status(result: ConnectionStatus) -> Fields:
    return {"status": result.status}


def _banned(result: BannedUsers) -> Fields:
    return {"users": [{"userId": each.user_id, "blockEndTime": each.ban_expires_at} for each in result.banned_users]}


def _accepted(result: Accepted) -> Fields:
    return {"operateId": result.operation_id}


def _deactivated(result: SoftDeleted) -> Fields:
    return {"users": result.user_ids}


def _listed(result: ListedUsers) -> Fields:
    users = [
        {
            "userId": each.user_id,
            "userName": each.name,
            "userPortrait": each.avatar_url,
            "regTime": each.created_at,
        }
        for each in result.users
    ]
    return {"total": result.total_count, "users": users}


def _tagged(result: TaggedUsers) -> Fields:
    return {"result": {each.user_id: each.tags for each in result.users}}


def _muted(result: Muted) -> Fields:
    return {"total": result.total_count, "users": result.muted_user_ids}


def _page(values: list[object]) -> object:
    """A page number; 0 asks for no pages."""
    page = integer(values)
    return None if page == 0 else page


ROWS = (
    row("/user/getToken.json", of=tokens.issue, takes=[USER_ID, NAME, PORTRAIT], answer=_issued),
    row("/user/token/expire.json", of=tokens.expire, takes=[USER_IDS, Parameter("time", "expiresAt", integer)]),
    row("/user/refresh.json", of=users.update, takes=[USER_ID, NAME, PORTRAIT]),
    row("/user/info.json", of=users.get, takes=[USER_ID], answer=_account, unknown_user=UNKNOWN),
    row("/user/checkOnline.json", of=users.connection_status, takes=[USER_ID], answer=_status),
    row("/user/block.json", of=bans.ban, takes=[USER_IDS, Parameter("minute", "durationMinutes", integer)]),
    row("/user/unblock.json", of=bans.unban, takes=[USER_IDS]),
    row(
        "/user/block/query.json",
        of=bans.ban_list,
        takes=[Parameter("page", "page", _page), Parameter("size", "pageSize", integer)],
        answer=_banned,
    ),
    row("/user/deactivate.json", of=users.soft_delete, takes=[USER_IDS], answer=_accepted),
    row(
        "/user/deactivate/query.json",
        of=users.soft_deleted_list,
        takes=[Parameter("pageNo", "page", integer), Parameter("pageSize", "pageSize", integer)],
        answer=_deactivated,
    ),
    row("/user/reactivate.json", "/user/activate.json", of=users.restore, takes=[USER_IDS], answer=_accepted),
    row(
        "/user/query.json",
        of=users.user_list,
        takes=[
            Parameter("page", "page", integer, default=1),
            Parameter("pageSize", "pageSize", integer),
            Parameter("order", "order", integer),
        ],
        answer=_listed,
    ),
    row("/user/delusers.json", of=users.delete, takes=[USER_IDS]),
    row("/user/tag/set.json", of=tags.tag_set, takes=[USER_IDS, TAGS], asks=OneTagging, rate=USUAL),
    row("/user/tag/batch/set.json", of=tags.tag_set, takes=[Parameter("userIds", "userIds", many), TAGS]),
    row("/user/tags/get.json", of=tags.tag_get, takes=[Parameter("userIds", "userIds", many)], answer=_tagged),
    row(
        "/user/chat/fb/set.json",
        of=mutes.mute_set,
        takes=[USER_IDS, Parameter("state", "muteState", integer), Parameter("type", "channelTypes", many)],
    ),
    row(
        "/user/chat/fb/querylist.json",
        of=mutes.mute_list,
        takes=[
            Parameter("type", "channelType"),
            Parameter("num", "pageSize", integer),
            Parameter("offset", "offset", integer),
        ],
        answer=_muted,
    ),
)
"""Every row about users, their tokens, tags and mutes."""
