"""What an admin is told when an act is refused."""

from __future__ import annotations

from collections.abc import Mapping


class Refused(Exception):
    """A business refusal.

    Attributes:
        code: the Server API's business code.
        reason: for a person; names what was wrong.
        field: the parameter it is about, in the services' own naming, if it is about one.
        details: what else the answer says, as it is written there.
    """

    def __init__(
        self, code: int, reason: str, field: str | None = None, details: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.field = field
        self.details = details or {}


USER_UNKNOWN = 400
PARAMETER_INVALID = 1002
PARAMETER_TOO_LONG = 1005
CALL_RESTRICTED = 1007
RATE_EXCEEDED = 1008
NOT_ENABLED = 1009
DATA_MISSING = 1015
TOO_MANY_WORDS = 1019
ALLOWLIST_OFF = 1010
ALLOWLIST_ON = 1011
USER_LIMIT = 2007
PAGE_TOKEN_UNREADABLE = 25432
ALREADY_FRIENDS = 25460
THEIR_BLOCKLIST, THEIR_ALLOWLIST, MY_BLOCKLIST, MY_ALLOWLIST = 25462, 25463, 25464, 25465
FRIEND_LIMIT, THEIR_FRIEND_LIMIT = 25467, 25468
ATTRIBUTES_TOO_LONG = 25470
FRIENDS_REFUSED = 25471
FRIEND_UNKNOWN = 25472
FRIEND_IS_SELF = 25473
USER_DEACTIVATED = 31029
