"""Why the users of a process were not let in."""

from __future__ import annotations

from loadtest.crowd import Crowd, User
from loadtest.dialect import Dialect
from loadtest.plan import Plan

WORDS_MAX = 200


class TellingCrowd(Crowd):
    """Keeps what a refused login was told.

    Attributes:
        refusals: by the name of the count, the words of the first that was refused so.
    """

    def __init__(self, plan: Plan, dialect: Dialect) -> None:
        super().__init__(plan, dialect)
        self.refusals: dict[str, str] = {}

    def ended(self, user: User, code: int | None, reason: bytes) -> None:
        if code is not None and code < 0:
            self.refusals.setdefault(f"login_refused_{-code}", reason.decode(errors="replace").strip()[:WORDS_MAX])
        super().ended(user, code, reason)
