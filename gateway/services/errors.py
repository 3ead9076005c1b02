"""What an admin is told when an act is refused."""

from __future__ import annotations


class Refused(Exception):
    """A business refusal.

    Attributes:
        code: the Server API's business code.
        reason: for a person; names what was wrong.
        field: the parameter it is about, in the services' own naming, if it is about one.
    """

    def __init__(self, code: int, reason: str, field: str | None = None) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.field = field


USER_UNKNOWN = 400
PARAMETER_INVALID = 1002
PARAMETER_TOO_LONG = 1005
RATE_EXCEEDED = 1008
NOT_ENABLED = 1009
DATA_MISSING = 1015
TOO_MANY_WORDS = 1019
USER_LIMIT = 2007
ALREADY_FRIENDS = 25460
FRIEND_LIMIT = 25467
FRIEND_IS_SELF = 25473
USER_DEACTIVATED = 31029
