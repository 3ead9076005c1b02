"""Crowds that are thrown out, come back and watch each other, against a server that lies: each lie is found."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from loadtest import dropping, visiting
from loadtest.dialect import GatewayDialect
from loadtest.dropping import DroppingCrowd
from loadtest.plan import Plan
from loadtest.scenario import Drop, Scenario
from tests.waiting import eventually

CLOSES = {"kick": 4505, "ban": 4502, "expire": 4501}


class Server:
    """Enough of a gateway for drops and presence.

    Attributes:
        closes: the close code of each kind of drop; None = the socket stays open.
        bars: whether who is banned, or whose token was voided, is refused.
        statuses: how they are.
        abrupt: how many of the next drops are made without a close frame.
        copies: how often each change of presence is pushed.
    """

    def __init__(self) -> None:
        self.closes: dict[str, int | None] = dict(CLOSES)
        self.bars = True
        self.statuses = {"ban": HTTPStatus.FORBIDDEN, "expire": HTTPStatus.UNAUTHORIZED}
        self.abrupt = 0
        self.copies = 1
        self.users: dict[str, ServerConnection] = {}
        self.banned: set[str] = set()
        self.tokens: dict[str, str] = {}
        self.voided: set[str] = set()
        self.watchers: dict[str, set[str]] = {}
        self.versions: dict[str, int] = {}

    def judge(self, socket: ServerConnection, request: Request) -> Response | None:
        """Before the upgrade."""
        if self.bars and _user(request) in self.banned:
            return socket.respond(self.statuses["ban"], "{}")
        if self.bars and request.headers["Authorization"] in self.voided:
            return socket.respond(self.statuses["expire"], "{}")
        return None

    async def talk(self, socket: ServerConnection) -> None:
        """One client."""
        assert socket.request is not None
        user = _user(socket.request)
        self.users[user] = socket
        self.tokens[user] = socket.request.headers["Authorization"]
        await _say(socket, {"type": "welcome", "cursor": "0", "recovered": True})
        await self._changed(user, True)
        with contextlib.suppress(ConnectionClosed):
            async for text in socket:
                command = orjson.loads(text)
                if command["type"] == "watch":
                    await self._watch(socket, user, command)
        self.users.pop(user, None)
        await self._changed(user, False)

    async def _watch(self, socket: ServerConnection, user: str, command: dict[str, Any]) -> None:
        found = []
        for each in command["users"]:
            self.watchers.setdefault(each, set()).add(user)
            found.append({"user": each, "online": each in self.users, "version": self.versions.get(each, 0)})
        await _say(socket, {"type": "ok", "id": command["id"], "users": found})

    async def _changed(self, user: str, online: bool) -> None:
        self.versions[user] = self.versions.get(user, 0) + 1
        push = {"type": "presence", "user": user, "online": online, "version": self.versions[user]}
        for watcher in self.watchers.get(user, ()):
            for _ in range(self.copies if watcher in self.users else 0):
                await _say(self.users[watcher], push)

    async def api(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The Server API."""
        while head := await reader.readline():
            size = 0
            while (line := await reader.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            asked = orjson.loads(await reader.readexactly(size))
            await self._act(head.split()[1].decode().rpartition("/")[2], asked["userIds"][0])
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()

    async def _act(self, kind: str, user: str) -> None:
        if kind == "unban":
            self.banned.discard(user)
        if kind == "ban":
            self.banned.add(user)
        if kind == "expire":
            self.voided.add(self.tokens[user])
        code = self.closes.get(kind)
        if code is not None and self.abrupt:
            self.abrupt -= 1
            self.users[user].transport.abort()
        elif code is not None and user in self.users:
            await self.users[user].close(code, '{"code":1,"reason":"out"}')


def _user(request: Request) -> str:
    token = request.headers["Authorization"].split(".")[1]
    return str(orjson.loads(base64.urlsafe_b64decode(token + "=="))["sub"])


async def _say(socket: ServerConnection, what: dict[str, object]) -> None:
    await socket.send(orjson.dumps(what).decode())


@asynccontextmanager
async def crowd_at(server: Server, users: int = 4, watch: int = 0) -> AsyncIterator[tuple[DroppingCrowd, str]]:
    """A crowd that is online, and the address of the Server API."""
    scenario = Scenario(users=users, watch=watch)
    api = await asyncio.start_server(server.api, "127.0.0.1", 0)
    async with (
        api,
        serve(
            server.talk,
            "127.0.0.1",
            0,
            subprotocols=["gateway.v1"],  # type: ignore[list-item]
            compression=None,
            process_request=server.judge,
        ) as listening,
    ):
        port = next(iter(listening.sockets)).getsockname()[1]
        url = f"ws://127.0.0.1:{port}/v1/connect"
        plan = Plan(
            scenario=scenario,
            run="test",
            number=0,
            first=0,
            behind=users,
            url=url,
            host="127.0.0.1",
            port=port,
            app_key="app",
            app_secret="s" * 32,
            sources=[""],
        )
        crowd = DroppingCrowd(plan, GatewayDialect(url))
        try:
            assert all([await crowd.open(user) for user in crowd.users.values()])
            yield crowd, f"http://127.0.0.1:{api.sockets[0].getsockname()[1]}"
        finally:
            for user in crowd.users.values():
                await crowd.close(user)


async def _drops(crowd: DroppingCrowd, api: str, kind: Drop) -> None:
    await crowd.do({"do": "drops", "per_s": 20, "seconds": 0.1, "kinds": [kind], "api": api})


@pytest.mark.parametrize("kind", ["kick", "ban", "expire"])
async def test_an_honest_server_is_found_fine(kind: Drop) -> None:
    async with crowd_at(Server()) as (crowd, api):
        await _drops(crowd, api, kind)
        assert crowd.failures == []
        assert crowd.counts["drops"] == crowd.counts[f"drops_{kind}"] >= 2
        assert crowd.counts.get("kept_out", 0) == (0 if kind == "kick" else crowd.counts["drops"])
        assert crowd.histograms["drop"].total == crowd.histograms["drop_answer"].total == crowd.counts["drops"]
        await eventually(lambda: crowd.away == 0)
        # Refusals that must be are nobody's failure.
        assert not any(count for name, count in crowd.counts.items() if name.startswith("login_refused"))


async def test_a_socket_that_stays_open_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropping, "DROP_S", 0.1)
    server = Server()
    server.closes["kick"] = None
    async with crowd_at(server) as (crowd, api):
        await _drops(crowd, api, "kick")
        assert "still connected" in crowd.failures[0]
        assert crowd.counts.get("drops", 0) == 0


@pytest.mark.parametrize(("abrupt", "found"), [(1, False), (2, True)])
async def test_more_drops_than_a_few_without_a_close_frame_are_found(abrupt: int, found: bool) -> None:
    server = Server()
    server.abrupt = abrupt
    async with crowd_at(server, users=20) as (crowd, api):
        await crowd.do({"do": "drops", "per_s": 150, "seconds": 0.1, "kinds": ["kick"], "api": api})
        drops = crowd.counts["drops"]
        assert 10 <= drops < 20
        assert crowd.counts["drops_abrupt"] == abrupt
        assert crowd.failures == [f"{abrupt} of {drops} drops ended without a close frame"] * found


async def test_a_wrong_close_code_is_found() -> None:
    server = Server()
    server.closes["ban"] = 4505
    async with crowd_at(server) as (crowd, api):
        await _drops(crowd, api, "ban")
        assert "was told 4505 at the ban, not 4502" in crowd.failures[0]


@pytest.mark.parametrize("kind", ["ban", "expire"])
async def test_who_comes_in_again_is_found(kind: Drop) -> None:
    server = Server()
    server.bars = False
    async with crowd_at(server) as (crowd, api):
        await _drops(crowd, api, kind)
        assert f"came in again after the {kind}" in crowd.failures[0]


@pytest.mark.parametrize("kind", ["ban", "expire"])
async def test_who_is_refused_for_another_reason_is_found(kind: Drop) -> None:
    server = Server()
    server.statuses = {"ban": HTTPStatus.IM_A_TEAPOT, "expire": HTTPStatus.IM_A_TEAPOT}
    async with crowd_at(server) as (crowd, api):
        await _drops(crowd, api, kind)
        assert f"was refused with 418, not {dropping.REFUSED[kind]}" in crowd.failures[0]
        failures = len(crowd.failures)
        server.statuses = dict.fromkeys(server.statuses, HTTPStatus.SERVICE_UNAVAILABLE)
        await _drops(crowd, api, kind)
        assert len(crowd.failures) == failures
        assert _unforeseen(crowd)["unforeseen_503"] >= 2


async def test_an_admins_call_that_fails_is_told() -> None:
    async with crowd_at(Server()) as (crowd, _):
        await _drops(crowd, "http://127.0.0.1:1", "kick")
        assert "/v4/user/kick" in crowd.failures[0]


async def test_who_is_sent_away_comes_back_and_is_timed() -> None:
    server = Server()
    async with crowd_at(server) as (crowd, _):
        for socket in list(server.users.values()):
            await socket.close(1001, '{"code":1001,"reason":"the node drains","retry_after_ms":300}')
        await eventually(lambda: crowd.counts.get("reconnects", 0) == 4)
        assert crowd.failures == []
        assert not _unforeseen(crowd)
        # Nobody came before the time that was asked for, and the waiting counts.
        assert min(crowd.histograms["reconnect"].counts) >= 290_000


def _unforeseen(crowd: DroppingCrowd) -> dict[str, int]:
    return {name: count for name, count in crowd.counts.items() if name.startswith("unforeseen")}


async def test_who_is_cut_off_without_a_reason_comes_back_and_is_counted() -> None:
    server = Server()
    async with crowd_at(server) as (crowd, _):
        first, *others = list(server.users.values())
        await first.close(4001, "{}")
        for socket in others:
            socket.transport.abort()
        await eventually(lambda: crowd.counts.get("reconnects", 0) == 4)
        assert _unforeseen(crowd) == {"unforeseen_4001": 1, "unforeseen_none": 3}


async def test_drops_and_visits_explain_the_ends_that_they_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visiting, "AWAY_S", 0.05)
    async with crowd_at(Server()) as (crowd, api):
        for kind in dropping.CLOSES:
            await _drops(crowd, api, kind)
        await crowd.do({"do": "churn", "per_s": 20, "seconds": 0.1})
        assert crowd.counts["drops"] >= 6
        assert crowd.counts["changes"] >= 4
        assert not _unforeseen(crowd)


async def test_who_is_told_to_stay_away_for_no_reason_is_a_failure() -> None:
    server = Server()
    async with crowd_at(server) as (crowd, _):
        await next(iter(server.users.values())).close(4505, "{}")
        await eventually(lambda: crowd.failures)
        assert "told to stay away: 4505" in crowd.failures[0]


async def _churned(crowd: DroppingCrowd) -> None:
    await eventually(lambda: _all_watch(crowd))
    await crowd.do({"do": "churn", "per_s": 20, "seconds": 0.1})
    await crowd.do({"do": "judge", "seconds": 0.2})


async def test_honest_presence_is_found_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visiting, "AWAY_S", 0.05)
    async with crowd_at(Server(), users=6, watch=3) as (crowd, _):
        await _churned(crowd)
        assert crowd.failures == []
        assert crowd.counts["changes"] >= 4
        assert crowd.counts["presence"] == 3 * crowd.counts["changes"]
        assert crowd.histograms["presence"].total == crowd.counts["presence"]


@pytest.mark.parametrize(("copies", "said"), [(0, "believes that"), (2, "late or doubled")])
async def test_presence_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch, copies: int, said: str) -> None:
    monkeypatch.setattr(visiting, "AWAY_S", 0.05)
    server = Server()
    async with crowd_at(server, users=6, watch=3) as (crowd, _):
        await eventually(lambda: _all_watch(crowd))
        server.copies = copies
        guest = crowd.users[1]
        await crowd.close(guest)
        await eventually(lambda: guest.name not in server.users)
        await crowd.do({"do": "judge", "seconds": 0.2})
        assert any(said in failure for failure in crowd.failures)


async def _all_watch(crowd: DroppingCrowd) -> bool:
    return bool((await crowd.do({"do": "watching"}))["so"])


async def test_a_share_of_the_users_goes_and_comes_in_pairs() -> None:
    async with crowd_at(Server(), users=8) as (crowd, _):
        await crowd.do({"do": "online", "share": 0.5, "per_s": 0})
        assert [user.online for user in crowd.users.values()] == [True] * 4 + [False] * 4
        await crowd.do({"do": "online", "share": 1.0, "per_s": 0})
        assert all(user.online for user in crowd.users.values())
        assert crowd.failures == []
