"""This node's sessions, found by id and by user."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gateway.core.session import Session

_NONE: tuple[Session, ...] = ()


class Hub:
    """Every session of this node that has a user, from the moment its ``connect`` is on its way to Redis.

    A session is added *before* ``connect`` is called, so that a drop published by a ban in the same instant finds it.
    """

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self._users: dict[str, tuple[Session, ...]] = {}

    def __len__(self) -> int:
        return len(self.sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self.sessions.values()))

    @property
    def users(self) -> Iterable[str]:
        return self._users.keys()

    def add(self, session: Session) -> None:
        self.sessions[session.id] = session
        self._users[session.user] = (*self._users.get(session.user, _NONE), session)

    def remove(self, session: Session) -> bool:
        """Forgets a session. Returns whether it was there."""
        if self.sessions.pop(session.id, None) is None:
            return False
        left = tuple(other for other in self._users.get(session.user, _NONE) if other is not session)
        if left:
            self._users[session.user] = left
        else:
            self._users.pop(session.user, None)
        return True

    def of(self, user: str) -> tuple[Session, ...]:
        """The user's sessions on this node, oldest first."""
        return self._users.get(user, _NONE)
