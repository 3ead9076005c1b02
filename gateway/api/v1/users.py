"""Users and their tokens, as v1 names them."""

from __future__ import annotations

from gateway.api.v1.kinds import integer, many
from gateway.api.v1.row import Fields, Parameter, row
from gateway.api.v4 import bans, tokens, users
from gateway.api.v4.bans import BannedUsers
from gateway.api.v4.tokens import Issued
from gateway.api.v4.users import Accepted, Account, ConnectionStatus

USER_ID = Parameter("userId", "userId")
USER_IDS = Parameter("userId", "userIds", many)
NAME = Parameter("name", "name")
PORTRAIT = Parameter("portraitUri", "avatarUrl")

UNKNOWN = {"userName": "", "userPortrait": "", "createTime": ""}


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
    row("/user/reactivate.json", "/user/activate.json", of=users.restore, takes=[USER_IDS], answer=_accepted),
)
"""Every row about users and their tokens."""
