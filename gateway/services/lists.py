"""The commands by which a client edits and reads its own lists, and looks users and sessions up."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gateway.core.close import Refusal
from gateway.core.session import Session
from gateway.protocol import commands, replies
from gateway.protocol.codes import Code
from gateway.services import refusals
from gateway.services.context import NodeContext
from gateway.services.errors import Refused
from gateway.services.gather import Gather, fault_among
from gateway.services.relationships import page_of, place_of
from gateway.store import accounts, drops, friends, relationships, sessions
from gateway.store.call import Call
from gateway.store.relationships import ListName

Edit = commands.BlocklistAdd | commands.BlocklistRemove | commands.AllowlistAdd | commands.AllowlistRemove
Listing = commands.BlocklistList | commands.AllowlistList

_EDITS: dict[type, tuple[Literal["block", "allow"], str]] = {
    commands.BlocklistAdd: ("block", "add"),
    commands.BlocklistRemove: ("block", "remove"),
    commands.AllowlistAdd: ("allow", "add"),
    commands.AllowlistRemove: ("allow", "remove"),
}
_LISTINGS: dict[type, ListName] = {commands.BlocklistList: "block", commands.AllowlistList: "allow"}
_CHECKS: dict[type, ListName] = {commands.BlocklistCheck: "block", commands.FriendsCheck: "friends"}


class Lists:
    """Handlers; each asks the store and answers from its callback."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._keys = context.keys
        self._list_max = context.config.list_max
        self._is_user = re.compile(context.config.id_pattern).fullmatch

    def _ask(self, session: Session, command_id: str, call: Call, answer: Callable[[Any], Struct]) -> None:
        session.pending += 1
        self._context.bus.call(call, self._answered, (session, command_id, answer))

    def _answered(self, context: tuple[Session, str, Callable[[Any], Struct]], reply: Any) -> None:
        session, command_id, answer = context
        if isinstance(reply, Exception):
            session.refuse(command_id, refusals.of_fault(reply))
        else:
            try:
                session.reply(answer(reply))
            except Refusal as refusal:
                session.refuse(command_id, refusal)
        session.settle()

    def edit(self, session: Session, command: Edit, now: float) -> None:
        """``blocklist.add``, ``.remove``, ``allowlist.add``, ``.remove``."""
        name, op = _EDITS[type(command)]
        for index, user in enumerate(command.users):
            if not self._is_user(user):
                raise Refusal(Code.MALFORMED, f"$.users[{index}]: not a user id")
        # Oneself is accepted without effect.
        members = [user for user in dict.fromkeys(command.users) if user != session.user]
        if not members:
            session.reply(replies.Ok(command.id))
            return
        call = relationships.edit(self._keys, session.user, name, op, members, self._list_max)
        self._ask(session, command.id, call, partial(self._edited, command.id))

    def _edited(self, command_id: str, reply: int) -> Struct:
        if reply:
            raise Refusal(reply, f"the list holds at most {self._list_max}")
        return replies.Ok(command_id)

    def listing(self, session: Session, command: Listing, now: float) -> None:
        """``blocklist.list`` and ``allowlist.list``."""
        call = relationships.page(
            self._keys, session.user, _LISTINGS[type(command)], _place(command.page), command.limit
        )
        self._ask(session, command.id, call, partial(_listed, command.id, command.limit))

    def check(self, session: Session, command: commands.BlocklistCheck | commands.FriendsCheck, now: float) -> None:
        """``blocklist.check`` and ``friends.check``."""
        users = list(dict.fromkeys(command.users))
        call = relationships.check(self._keys, session.user, _CHECKS[type(command)], users)
        self._ask(session, command.id, call, partial(_checked, command.id, users))

    def allowlist_enable(self, session: Session, command: commands.AllowlistEnable, now: float) -> None:
        """``allowlist.enable``."""
        call = relationships.set_allowlist(self._keys, session.user, True)
        self._ask(session, command.id, call, lambda _: replies.Ok(command.id))

    def allowlist_disable(self, session: Session, command: commands.AllowlistDisable, now: float) -> None:
        """``allowlist.disable``."""
        call = relationships.set_allowlist(self._keys, session.user, False)
        self._ask(session, command.id, call, lambda _: replies.Ok(command.id))

    def allowlist_status(self, session: Session, command: commands.AllowlistStatus, now: float) -> None:
        """``allowlist.status``."""
        call = relationships.allowlist_enabled(self._keys, session.user)
        self._ask(session, command.id, call, lambda reply: replies.OkAllowlistStatus(command.id, reply == b"1"))

    def friends(self, session: Session, command: commands.FriendsList, now: float) -> None:
        """``friends.list``: the page first, then the names."""
        call = friends.page(self._keys, session.user, _place(command.page), command.limit)
        session.pending += 1
        self._context.bus.call(call, self._friends_listed, (session, command))

    def _friends_listed(self, context: tuple[Session, commands.FriendsList], reply: Any) -> None:
        session, command = context
        if isinstance(reply, Exception):
            session.refuse(command.id, refusals.of_fault(reply))
            session.settle()
            return
        page = friends.parse_page(reply, command.limit)
        if not page.friends:
            session.reply(replies.OkFriends(command.id, []))
            session.settle()
            return
        # The page itself was one call; the names are as many as there are entries.
        session.pending += len(page.friends) - 1
        self._names(session, command.id, [entry.user for entry in page.friends], partial(_friends, page))

    def users(self, session: Session, command: commands.UserGet, now: float) -> None:
        """``user.get``."""
        users = list(dict.fromkeys(command.users))
        session.pending += len(users)
        self._names(session, command.id, users, _users)

    def _names(
        self,
        session: Session,
        command_id: str,
        users: Sequence[str],
        answer: Callable[[str, list[accounts.Card]], Struct],
    ) -> None:
        def done(records: list[Any]) -> None:
            fault = fault_among(records)
            if fault is not None:
                session.refuse(command_id, refusals.of_fault(fault))
            else:
                found = [accounts.parse_card(user, record) for user, record in zip(users, records, strict=True)]
                session.reply(answer(command_id, found))
            session.settle(len(users))

        Gather.calls(self._context.bus, [accounts.card(self._keys, user) for user in users], done)

    def sessions(self, session: Session, command: commands.SessionsList, now: float) -> None:
        """``sessions.list``: one's own."""
        call = sessions.list_of(self._keys, session.user)
        self._ask(session, command.id, call, partial(_sessions, command.id, session.id))

    def drop(self, session: Session, command: commands.SessionsDrop, now: float) -> None:
        """``sessions.drop``: one of one's own, this one included."""
        call = drops.kick(self._keys, session.user, "", "dropped by the user", "session", command.session)
        self._ask(session, command.id, call, partial(_dropped, command.id))


def _place(page: str | None) -> int | None:
    try:
        return place_of(page)
    except Refused as refused:
        raise Refusal(Code.MALFORMED, f"$.{refused.reason}") from refused


def _listed(command_id: str, limit: int, reply: Any) -> Struct:
    entries, following = relationships.parse_page(reply, limit)
    return replies.OkUserIds(command_id, [entry.user for entry in entries], page_of(following))


def _checked(command_id: str, users: Sequence[str], scores: Sequence[Any]) -> Struct:
    return replies.OkChecked(command_id, {u: score is not None for u, score in zip(users, scores, strict=True)})


def _friends(page: friends.Page, command_id: str, found: list[accounts.Card]) -> Struct:
    listed = [
        replies.Friend(entry.user, account.name, entry.alias, entry.added_at)
        for entry, account in zip(page.friends, found, strict=True)
    ]
    return replies.OkFriends(command_id, listed, page_of(page.following))


def _users(command_id: str, found: list[accounts.Card]) -> Struct:
    return replies.OkUsers(command_id, [_user(card) for card in found if card.exists])


def _user(card: accounts.Card) -> replies.UserInfo:
    profile = msgspec.UNSET if card.profile is None else msgspec.Raw(card.profile)
    return replies.UserInfo(card.user, card.name, card.avatar_url, profile)


def _sessions(command_id: str, this: str, reply: Any) -> Struct:
    return replies.OkSessions(
        command_id,
        [
            replies.SessionInfo(
                record.session,
                record.device,
                record.platform,  # type: ignore[arg-type]
                record.node.partition(".")[0],
                record.connected_at,
                record.session == this,
            )
            for record in sessions.parse_list(reply)
        ],
    )


def _dropped(command_id: str, reply: Any) -> Struct:
    selected, _ = drops.parse_dropped(reply)
    if not selected:
        raise Refusal(Code.NO_SUCH_USER, "$.session: no such session of yours")
    return replies.Ok(command_id)
