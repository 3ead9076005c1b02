"""Blocklists and allowlists, under the names that v1 gives them on the wire."""

from __future__ import annotations

from gateway.api.v1.kinds import boolean, integer, many
from gateway.api.v1.row import Fields, Parameter, row
from gateway.api.v1.users import USER_ID, USER_IDS
from gateway.api.v4 import allowlist, blocklist
from gateway.api.v4.allowlist import AllowedUsers, Settings
from gateway.api.v4.blocklist import BlockedUsers

_PAGE = (Parameter("pageToken", "pageToken"), Parameter("size", "pageSize", integer))
_ALLOWED = Parameter("whiteUserId", "targetUserIds", many)
_ON = Parameter("whiteSetting", "enabled", boolean)


def _users(users: list[str], page: str | None) -> Fields:
    return {"users": users} | ({"next": page} if page is not None else {})


def _blocked(result: BlockedUsers) -> Fields:
    return _users(result.blocked_user_ids, result.page_token)


def _allowed(result: AllowedUsers) -> Fields:
    return _users(result.target_user_ids, result.page_token)


def _settings(result: Settings) -> Fields:
    return {
        "users": [{"userId": each.user_id, "whiteSetting": "1" if each.enabled else "0"} for each in result.settings]
    }


ROWS = (
    row(
        "/user/blacklist/add.json",
        of=blocklist.add,
        takes=[USER_ID, Parameter("blackUserId", "targetUserIds", many)],
    ),
    row(
        "/user/blacklist/remove.json",
        of=blocklist.remove,
        takes=[USER_ID, Parameter("blackUserId", "blockedUserIds", many)],
    ),
    row("/user/blacklist/query.json", of=blocklist.get, takes=[USER_ID, *_PAGE], answer=_blocked),
    row("/user/whitelist/add.json", of=allowlist.add, takes=[USER_ID, _ALLOWED]),
    row("/user/whitelist/remove.json", of=allowlist.remove, takes=[USER_ID, _ALLOWED]),
    row("/user/whitelist/query.json", of=allowlist.get, takes=[USER_ID, *_PAGE], answer=_allowed),
    row("/user/whitesetting/set.json", of=allowlist.setting_set, takes=[USER_IDS, _ON]),
    row("/user/whitesetting/query.json", of=allowlist.setting_get, takes=[USER_IDS], answer=_settings),
)
"""Every row about lists."""
