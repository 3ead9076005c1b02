"""What watchers were told about whom they watch, held against what happened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

EXAMPLES_MAX = 5


class Told(msgspec.Struct, frozen=True):
    """A presence push, as far as it is judged here.

    Attributes:
        user: who came or went.
        version: of that user's presence; higher is later.
    """

    user: str
    online: bool
    version: int


class _Change(NamedTuple):
    online: bool
    at_us: int


class Sightings:
    """Keeps what happened to each watched user, and what each watcher last heard.

    A push is timed from the change it tells of: the newest one with the same state, as users take turns in changing. A
    watcher who had not heard of a change by that user's next one counts as ``overtaken`` (presence promises that the
    state is right in the end, not that every step is told).

    Attributes:
        overtaken: changes that a watcher had not heard of before the next one.
        stale: pushes that came after one of a higher version, or twice.
        strange: pushes about somebody whom the watcher does not watch.
        examples: the first few stale and strange ones, in words.
    """

    def __init__(self) -> None:
        self._changes: dict[str, _Change] = {}
        # (watcher, user) → (online, version)
        self._known: dict[tuple[str, str], tuple[bool, int]] = {}
        # Watchers of a user who have yet to hear of the last change.
        self._due: dict[str, set[str]] = {}
        self._watchers: dict[str, set[str]] = {}
        self._watched: dict[str, set[str]] = {}
        self.overtaken = self.stale = self.strange = 0
        self.examples: list[str] = []

    def asks(self, watcher: str, users: Iterable[str]) -> None:
        """The watcher wants to watch them: from now on it may be told about them, answer or not."""
        self._watched.setdefault(watcher, set()).update(users)

    def watches(self, watcher: str, user: str, online: bool, version: int) -> None:
        """The answer to ``watch``: the state from which the watcher goes on, unless a push has overtaken it."""
        self._watched.setdefault(watcher, set()).add(user)
        self._watchers.setdefault(user, set()).add(watcher)
        known = self._known.get((watcher, user))
        if known is None or version > known[1]:
            self._known[watcher, user] = (online, version)

    def watching(self, watcher: str) -> int:
        """How many this watcher watches, as it was answered."""
        return sum(watcher in self._watchers.get(user, ()) for user in self._watched.get(watcher, ()))

    def changed(self, user: str, online: bool, at_us: int) -> None:
        """The user begins to come or to go at that time, on the clock of ``pushed``."""
        self.overtaken += len(self._due.get(user, ()))
        self._changes[user] = _Change(online, at_us)
        watchers = self._watchers.get(user, ())
        self._due[user] = {watcher for watcher in watchers if self._known[watcher, user][0] != online}

    def disturbed(self, user: str) -> None:
        """The user came or went for another reason than ``changed``: what is told of that is not timed."""
        self._changes.pop(user, None)
        self._due.pop(user, None)

    def pushed(self, watcher: str, told: Told, at_us: int) -> int | None:
        """A watcher was told.

        Returns:
            µs since the change it tells of; None where it tells of none that is still news to this watcher.
        """
        known = self._known.get((watcher, told.user))
        if told.user not in self._watched.get(watcher, ()):
            self.strange += 1
            self._example(f"{watcher} was told about {told.user}, whom it does not watch")
            return None
        if known is not None and told.version <= known[1]:
            self.stale += 1
            self._example(f"{watcher} was told version {told.version} of {told.user} after {known[1]}")
            return None
        self._known[watcher, told.user] = (told.online, told.version)
        change, due = self._changes.get(told.user), self._due.get(told.user)
        if change is None or due is None or change.online != told.online or watcher not in due:
            return None
        due.discard(watcher)
        return at_us - change.at_us

    def waiting(self) -> int:
        """How many (watcher, change) pairs are still to be told."""
        return sum(len(watchers) for watchers in self._due.values())

    def forget(self, watcher: str) -> None:
        """The watcher's socket is gone: what it was told counts no more."""
        for user in self._watched.pop(watcher, ()):
            self._watchers.get(user, set()).discard(watcher)
            self._due.get(user, set()).discard(watcher)
            self._known.pop((watcher, user), None)

    def wrong(self, online: Iterable[str]) -> list[str]:
        """Who believes the wrong thing, in words.

        Args:
            online: the watched users who are online in truth.
        """
        there = set(online)
        return [
            f"{watcher} believes that {user} is {'online' if known else 'offline'}"
            for (watcher, user), (known, _) in self._known.items()
            if known != (user in there)
        ]

    def _example(self, text: str) -> None:
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(text)
