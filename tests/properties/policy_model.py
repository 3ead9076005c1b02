"""The rules of sessions, policies, drops and the inbox, in plain Python: what the Functions are held against.

Nothing here knows Redis. A method changes the model and says what the caller must be answered; what must be published
meanwhile gathers in ``published``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

NO_SUCH_USER, BLOCKED, NOT_ALLOWED, NOT_FRIENDS, MUTED, INBOX_FULL = 404, 405, 407, 25469, 20106, 20607
BANNED, REPLACED, BANNED_ONLINE, EXPIRED, REFUSED_DEVICE = 31009, 31010, 31011, 31020, 31023
TOO_MANY, DEACTIVATED, LIST_FULL, ALREADY_FRIENDS, KICKED = 31024, 31029, 25467, 25460, 4505

SESSIONS_MAX = 3
LIST_MAX = 2
INBOX_MAX = 6

Place = tuple[int, int]


@dataclass(frozen=True)
class Token:
    issued_at: int
    jti: str


@dataclass
class Live:
    """One session, as its node has it."""

    id: str
    user: str
    node: str
    device: str | None
    platform: str
    token: Token
    order: int = 0

    @property
    def kind(self) -> str:
        return "mobile" if self.platform in ("ios", "android") else self.platform


@dataclass
class User:
    name: str
    registered: bool = False
    deactivated: bool = False
    banned: bool = False
    ban_end: int | None = None
    void_before: int = 0
    # The same for sessions that are live already: expiries that keep connections do not count.
    void_live: int = 0
    revoked: set[str] = field(default_factory=set)
    # What may not be reclaimed: sessions by id, and all ("") or a device's that logged in before a drop.
    dropped: set[str] = field(default_factory=set)
    dropped_logins: dict[str, int] = field(default_factory=dict)
    muted: bool = False
    block: set[str] = field(default_factory=set)
    allow: set[str] = field(default_factory=set)
    allowlist_on: bool = False
    friends: set[str] = field(default_factory=set)
    sessions: dict[str, Live] = field(default_factory=dict)
    last_login: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    inbox: list[tuple[Place, str]] = field(default_factory=list)
    acks: dict[str, Place] = field(default_factory=dict)
    floor: Place = (0, 0)
    head: Place = (0, 0)
    version: int = 0
    was_online: bool = False
    epochs: int = 0


class Model:
    """All users, and the two settings that decide about them."""

    def __init__(self, users: Iterable[str]) -> None:
        self.users = {name: User(name) for name in users}
        self.friends_only = False
        self.device_policy = "platform"
        self.logins = 0
        # Pairs whose deciding half was written and whose other half was not: pair -> whether they become friends.
        self.intents: dict[tuple[str, str], bool] = {}
        # Deactivated users whose friends may still list them.
        self.leaving: set[str] = set()
        self.published: Counter[tuple[object, ...]] = Counter()

    # Messages.

    def relay(self, sender: str, to: str, mid: str, *, retry: bool, ephemeral: bool) -> tuple[int, Place | None]:
        """(code, the place of the first try where this one finds it)."""
        user = self.users[to]
        if not user.registered:
            return NO_SUCH_USER, None
        if retry:
            for place, known in reversed(user.inbox):
                if known == mid:
                    return 0, place
        code = self.verdict(sender, user)
        if code:
            return code, None
        if not ephemeral and not self._room(user):
            return INBOX_FULL, None
        for node in self._nodes(user.sessions.values()):
            self._publish("m", node, to, mid, ephemeral)
        return 0, None

    def verdict(self, sender: str, user: User) -> int:
        if user.deactivated:
            return DEACTIVATED
        if self.users[sender].muted:
            return MUTED
        if sender in user.block:
            return BLOCKED
        if user.allowlist_on and sender != user.name and sender not in user.allow:
            return NOT_ALLOWED
        if self.friends_only and sender != user.name and sender not in user.friends:
            return NOT_FRIENDS
        return 0

    def stored(self, to: str, mid: str, place: Place) -> None:
        """The message that ``relay`` let through got this place."""
        self.users[to].inbox.append((place, mid))
        self.users[to].head = place

    def echo(self, session: Live, mid: str) -> tuple[int, bool]:
        """(code, stored) of the sender's own copy, for the other devices."""
        user = self.users[session.user]
        if not user.registered:
            return NO_SUCH_USER, False
        if user.deactivated:
            return DEACTIVATED, False
        room = self._room(user, INBOX_MAX / 2, (min,))
        for node in self._nodes(user.sessions.values()):
            self._publish("o", node, user.name, session.id, mid, room)
        return 0, room

    def has_other_devices(self, session: Live) -> bool:
        user = self.users[session.user]
        return len(user.sessions) > 1 or bool(user.acks.keys() - {session.device})

    def _room(
        self, user: User, limit: float = INBOX_MAX, choices: tuple[Callable[[Iterable[Place]], Place], ...] = (min, max)
    ) -> bool:
        for choose in choices:
            if len(user.inbox) < limit:
                return True
            if user.acks:
                acked = choose(user.acks.values())
                gone = [place for place, _ in user.inbox if place <= acked]
                if gone:
                    user.floor = gone[-1]
                    user.inbox = [entry for entry in user.inbox if entry[0] > acked]
        return len(user.inbox) < limit

    def ack(self, name: str, device: str, place: Place) -> int:
        user = self.users[name]
        if device in user.acks and place <= user.acks[device]:
            return 0
        user.acks[device] = place
        return 1

    # Sessions.

    def refused(self, user: User, token: Token, live: bool = False) -> int:
        if token.issued_at < (user.void_live if live else user.void_before) or token.jti in user.revoked:
            return EXPIRED
        if user.deactivated:
            return DEACTIVATED
        return BANNED if user.banned else 0

    def connect(self, session: Live) -> tuple[int, list[Live]]:
        """(code, sessions replaced)."""
        user = self.users[session.user]
        code = self.refused(user, session.token) or (0 if user.registered else NO_SUCH_USER)
        if code:
            return code, []
        replaced = []
        for other in user.sessions.values():
            rival = self._rivals(session, other)
            if (session.device and other.device == session.device) or (rival and self.device_policy != "refuse"):
                replaced.append(other)
            elif rival:
                return REFUSED_DEVICE, []
        if len(user.sessions) - len(replaced) >= SESSIONS_MAX:
            return TOO_MANY, []
        before = list(user.sessions.values())
        for other in replaced:
            del user.sessions[other.id]
            self._publish("d", other.node, user.name, frozenset({other.id}), 4504, REPLACED, False)
        for other in replaced:
            self._tell(user, "closed", other)
        self._tell(user, "opened", session)
        self.logins += 1
        session.order = self.logins
        user.last_login[session.kind] = (session.order, session.device)
        user.sessions[session.id] = session
        self._presence(user, before)
        if session.device:
            user.acks.setdefault(session.device, max(user.acks.values(), default=(0, 0)))
        return 0, replaced

    def _rivals(self, one: Live, other: Live) -> bool:
        if self.device_policy == "unlimited":
            return False
        return self.device_policy == "single" or one.kind == other.kind

    def replay(self, session: Live, since: Place | None, current: bool) -> tuple[Place, bool]:
        """(where the replay starts, recovered) after a connect; ``current``: since is of this epoch."""
        user = self.users[session.user]
        if since is not None and current and user.floor <= since <= user.head:
            return since, True
        start = user.acks.get(session.device or "", max(user.acks.values(), default=(0, 0)))
        return start, since is None and user.floor <= start

    def reclaim(self, session: Live, node: str) -> int:
        user = self.users[session.user]
        code = self.refused(user, session.token, live=True)
        if code:
            return BANNED_ONLINE if code == BANNED else code
        if session.id in user.dropped:
            return KICKED
        if any(session.order <= user.dropped_logins.get(which, 0) for which in ("", session.device or "")):
            return KICKED
        if self._overtaken(user, session):
            return REPLACED
        before = list(user.sessions.values())
        others = [other for other in before if other.id != session.id]
        if len(others) == len(before):
            self._tell(user, "opened", session)
        session.node = node
        user.sessions[session.id] = session
        self._presence(user, before)
        return 0

    def _overtaken(self, user: User, session: Live) -> bool:
        for other in user.sessions.values():
            if other.id != session.id and other.order > session.order:
                if session.device and other.device == session.device:
                    return True
                if self._rivals(session, other):
                    return True
        for kind, (order, device) in user.last_login.items():
            if order > session.order:
                if self.device_policy == "single" or (session.device and session.device == device):
                    return True
                if self.device_policy == "platform" and kind == session.kind:
                    return True
        return False

    def refresh(self, session: Live, token: Token, node: str) -> int:
        user = self.users[session.user]
        code = self.refused(user, token)
        if code:
            return BANNED_ONLINE if code == BANNED else code
        held = user.sessions.get(session.id)
        if held is None or held.node != node:
            return EXPIRED
        held.token = token
        return 0

    def disconnect(self, session: Live, node: str) -> int:
        user = self.users[session.user]
        held = user.sessions.get(session.id)
        if held is None:
            return 2
        if held.node != node:
            return 0
        before = list(user.sessions.values())
        del user.sessions[session.id]
        if not user.sessions:
            user.was_online = True
        self._presence(user, before)
        self._tell(user, "closed", session)
        return 1

    # Drops.

    def drop(self, name: str, close_code: int, code: int, selects: Callable[[Live], bool] | None) -> list[Live]:
        """Tells the nodes of the sessions selected; they stay until their node has cut them, and never come back.

        Nor do sessions that a reaper has taken off the list while their node, cut off, still holds them.
        """
        selected = [each for each in self.users[name].sessions.values() if selects is None or selects(each)]
        self.users[name].dropped |= {each.id for each in selected}
        if selects is None:
            self.users[name].dropped_logins[""] = self.logins
        for node in self._nodes(selected):
            ids = frozenset(each.id for each in selected if each.node == node)
            self._publish("d", node, name, ids, close_code, code, selects is None)
        return selected

    def ban(self, name: str, end: int, over: bool) -> list[Live]:
        user = self.users[name]
        user.banned, user.ban_end = not over, end
        return self.drop(name, 4502, BANNED_ONLINE, None)

    def expire(self, name: str, cut_off: int, keep: bool) -> list[Live]:
        user = self.users[name]
        user.void_before = max(user.void_before, cut_off)
        if not keep:
            user.void_live = max(user.void_live, cut_off)
        return self.drop(name, 4501, EXPIRED, lambda each: not keep and each.token.issued_at < cut_off)

    def revoke(self, name: str, jti: str) -> list[Live]:
        self.users[name].revoked.add(jti)
        return self.drop(name, 4501, EXPIRED, lambda each: each.token.jti == jti)

    def kick(self, name: str, by: str, wanted: str) -> list[Live]:
        """All (``by`` is empty), one session or one device."""
        user = self.users[name]
        if by == "session":
            user.dropped.add(wanted)
            return self.drop(name, KICKED, KICKED, lambda each: each.id == wanted)
        if by == "device":
            user.dropped_logins[wanted] = self.logins
            return self.drop(name, KICKED, KICKED, lambda each: each.device == wanted)
        return self.drop(name, KICKED, KICKED, None)

    def deactivate(self, name: str) -> list[Live]:
        user = self.users[name]
        user.deactivated, user.allowlist_on = True, False
        user.block, user.allow, user.inbox, user.acks = set(), set(), [], {}
        user.floor = user.head = (0, 0)
        user.epochs += 1
        if user.friends or self._held(name):
            self.leaving.add(name)
        return self.drop(name, 4503, DEACTIVATED, None)

    def reactivate(self, name: str) -> int:
        """0 was not deactivated, 1 is back, 3 has friends to leave first."""
        user = self.users[name]
        if not user.deactivated:
            return 0
        if user.friends or self._held(name):
            return 3
        user.deactivated = False
        self.leaving.discard(name)
        return 1

    # Lists.

    def edit(self, name: str, which: str, members: list[str], add: bool) -> int:
        held: set[str] = getattr(self.users[name], which)
        changed = set(members) - held if add else set(members) & held
        if not changed:
            return 0
        if add and len(held | changed) > LIST_MAX:
            return LIST_FULL
        held.symmetric_difference_update(changed)
        if which == "block":
            self._publish("b" if add else "u", name, frozenset(changed))
        return 0

    def mute(self, name: str, muted: bool) -> None:
        user = self.users[name]
        user.muted = muted
        for node in self._nodes(user.sessions.values()):
            self._publish("s", node, name, muted)

    def decide_friendship(self, pair: tuple[str, str], add: bool) -> int:
        """A place on the larger id's list, then the deciding half; the other one follows by ``finish_friendship``."""
        smaller, larger = (self.users[name] for name in pair)
        if not add:
            if larger.name in smaller.friends:
                smaller.friends.discard(larger.name)
                self.intents[pair] = False
            return 0
        if larger.deactivated:
            return DEACTIVATED
        if len(larger.friends - {smaller.name}) + self._held(larger.name, but=pair) >= LIST_MAX:
            return LIST_FULL
        if smaller.deactivated:
            return DEACTIVATED
        if larger.name in smaller.friends:
            return ALREADY_FRIENDS
        if len(smaller.friends) + self._held(smaller.name) >= LIST_MAX:
            return LIST_FULL
        smaller.friends.add(larger.name)
        self.intents[pair] = True
        return 0

    def _held(self, name: str, but: tuple[str, str] | None = None) -> int:
        """Places held for halves that were not written yet."""
        return sum(add and pair[1] == name and pair != but for pair, add in self.intents.items())

    def finish_friendship(self, pair: tuple[str, str]) -> None:
        if pair not in self.intents:
            return
        smaller, larger = (self.users[name] for name in pair)
        if not self.intents.pop(pair):
            larger.friends.discard(smaller.name)
        elif larger.deactivated:
            smaller.friends.discard(larger.name)
        else:
            larger.friends.add(smaller.name)

    def finish_leaving(self) -> None:
        """Whoever was deactivated is on no friend's list any more; what was half done has been finished before."""
        for name in self.leaving:
            for other in self.users[name].friends:
                self.users[other].friends.discard(name)
            self.users[name].friends = set()
        self.leaving.clear()

    # What is published.

    def _publish(self, *push: object) -> None:
        self.published[push] += 1

    def _nodes(self, sessions: Iterable[Live]) -> set[str]:
        return {each.node for each in sessions}

    def _tell(self, user: User, event: str, session: Live) -> None:
        others = [other for other in user.sessions.values() if other.id != session.id]
        for node in self._nodes(others):
            self._publish("e", node, user.name, event, session.id, session.device, session.platform)

    def _presence(self, user: User, before: list[Live]) -> None:
        platforms = self.platforms(user)
        if bool(before) != bool(user.sessions) or {each.platform for each in before} != set(platforms):
            user.version += 1
            self._publish("p", user.name, bool(user.sessions), platforms, user.version)

    def platforms(self, user: User) -> tuple[str, ...]:
        return tuple(sorted({each.platform for each in user.sessions.values()}))
