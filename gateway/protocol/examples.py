"""One example of every command, reply and push: published in the documents, and part of the contract."""

from __future__ import annotations

from msgspec import Raw, Struct

from gateway.protocol import commands, pushes, replies
from gateway.protocol.codes import CloseReason, Code

_AT = 1_767_225_600_000
_CURSOR = "k3f9.1767225600000-0"
_LATER = "k3f9.1767225660000-0"
_MID = "019b76da-a800-7000-8000-000000000001"
_SESSION = "Zx8gJm2pQ4vT1w9c"
_TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"

COMMANDS: tuple[Struct, ...] = (
    commands.Auth(_TOKEN, device="alices-phone", platform="ios", since=_CURSOR),
    commands.Send("c1", "bob", Raw(b'{"text":"hello"}'), key="0f6c2a"),
    commands.Ack(_CURSOR),
    commands.Refresh("c2", _TOKEN),
    commands.Watch("c3", ["bob", "carol"]),
    commands.Unwatch("c4", ["carol"]),
    commands.BlocklistAdd("c5", ["mallory"]),
    commands.BlocklistRemove("c6", ["mallory"]),
    commands.BlocklistCheck("c7", ["mallory", "bob"]),
    commands.BlocklistList("c8", limit=50),
    commands.AllowlistEnable("c9"),
    commands.AllowlistDisable("c10"),
    commands.AllowlistStatus("c11"),
    commands.AllowlistAdd("c12", ["bob"]),
    commands.AllowlistRemove("c13", ["bob"]),
    commands.AllowlistList("c14", page="1767225600000"),
    commands.FriendsList("c15"),
    commands.FriendsCheck("c16", ["bob"]),
    commands.UserGet("c17", ["bob", "carol"]),
    commands.SessionsList("c18"),
    commands.SessionsDrop("c19", _SESSION),
    commands.Ping("c20"),
)

REPLIES: tuple[Struct, ...] = (
    replies.Sent("c1", _MID, _AT, True),
    replies.Error(Code.BLOCKED, "you are on the recipient's blocklist", id="c1"),
    replies.Pong(_AT, id="c20"),
    replies.Ok("c5"),
    replies.OkPresence(
        "c3",
        [
            replies.UserPresence("bob", True, None, ["ios", "web"], 7),
            replies.UserPresence("carol", False, _AT - 60_000, [], 2),
        ],
    ),
    replies.OkChecked("c7", {"mallory": True, "bob": False}),
    replies.OkUserIds("c8", ["mallory"], page="1767225600000"),
    replies.OkAllowlistStatus("c11", True),
    replies.OkFriends("c15", [replies.Friend("bob", "Bob", "", _AT)]),
    replies.OkUsers(
        "c17",
        [
            replies.UserInfo(
                "bob",
                "Bob",
                "https://example.com/bob.png",
                Raw(b'{"version":1790000000000,"userProfile":{"level":7},"userExtProfile":{"ext_city":"Oslo"}}'),
            )
        ],
    ),
    replies.OkSessions("c18", [replies.SessionInfo(_SESSION, "alices-phone", "ios", "node-1", _AT, True)]),
    replies.OkRefreshed("c2", _AT + 3_600_000),
)

PUSHES: tuple[Struct, ...] = (
    pushes.Welcome(
        session=_SESSION,
        user="alice",
        device="alices-phone",
        node="node-1",
        server_time=_AT,
        token_expires_at=_AT + 3_600_000,
        heartbeat_s=25.0,
        cursor=_CURSOR,
        head=_CURSOR,
        recovered=True,
        limits=pushes.Limits(163_840, 200.0, 1000),
    ),
    pushes.Resync(cursor=_CURSOR, head=_LATER, recovered=False),
    pushes.Message(
        mid=_MID,
        from_="alice",
        to="bob",
        kind="text",
        body=Raw(b'{"text":"hello"}'),
        sent_at=_AT,
        cursor=_CURSOR,
    ),
    pushes.Recalled(mid=_MID, from_="alice", to="bob", at=_AT + 60_000, cursor=_LATER),
    pushes.Updated(
        mid=_MID, from_="alice", to="bob", body=Raw(b'{"text":"hello, Bob"}'), at=_AT + 60_000, cursor=_LATER
    ),
    pushes.Presence("bob", False, _AT, _AT, [], 8),
    pushes.SessionChanged("opened", _SESSION, None, "web"),
    pushes.TokenExpiring(_AT + 60_000),
    pushes.GoingAway(1500, "the node drains"),
)

CLOSES: tuple[Struct, ...] = (CloseReason(Code.BANNED_WHILE_CONNECTED, "spam", until=_AT + 300_000),)

ANSWERS: dict[type[Struct], tuple[type[Struct], ...]] = {
    commands.Auth: (pushes.Welcome,),
    commands.Send: (replies.Sent,),
    commands.Ack: (),
    commands.Refresh: (replies.OkRefreshed,),
    commands.Watch: (replies.OkPresence,),
    commands.Unwatch: (replies.OkPresence,),
    commands.BlocklistAdd: (replies.Ok,),
    commands.BlocklistRemove: (replies.Ok,),
    commands.BlocklistCheck: (replies.OkChecked,),
    commands.BlocklistList: (replies.OkUserIds,),
    commands.AllowlistEnable: (replies.Ok,),
    commands.AllowlistDisable: (replies.Ok,),
    commands.AllowlistStatus: (replies.OkAllowlistStatus,),
    commands.AllowlistAdd: (replies.Ok,),
    commands.AllowlistRemove: (replies.Ok,),
    commands.AllowlistList: (replies.OkUserIds,),
    commands.FriendsList: (replies.OkFriends,),
    commands.FriendsCheck: (replies.OkChecked,),
    commands.UserGet: (replies.OkUsers,),
    commands.SessionsList: (replies.OkSessions,),
    commands.SessionsDrop: (replies.Ok,),
    commands.Ping: (replies.Pong,),
}
"""What answers each command when it is carried out; any may be answered by ``error`` instead."""
