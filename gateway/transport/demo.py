"""The demo: a page on which a few made-up people chat, and the admin acts that it shows.

It hands out tokens to whoever asks, so it answers this machine alone, and only in environment development.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import structlog
from websockets.datastructures import Headers
from websockets.http11 import Request

from gateway.config.rules import is_loopback
from gateway.services.drops import Acknowledgement
from gateway.services.errors import Refused
from gateway.services.services import Services
from gateway.store.errors import OutcomeUnknown, StoreError
from gateway.transport.answers import JSON, Answer
from gateway.transport.files import PACKAGE, File

log = structlog.get_logger(__name__)

PATH = "/demo"

PEOPLE = ("alice", "bob", "carol", "dave")
"""Who may be played: a token for anybody else would open the accounts that somebody develops with."""

TOKEN_LIFETIME_S = 600
"""Short, so that a page left open shows how a token is renewed."""

BAN_MINUTES = 1

ACTS_MAX = 16
"""Acts under way at the same time; more are refused."""

ASKED_BY_PAGE = "X-Gateway-Demo"
"""The page adds this to what it asks for. No page of another origin can: a browser would have to ask here first."""

_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)

_FORWARDED = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    # Not every browser takes 'self' for sockets as well.
    "connect-src 'self' ws://localhost:* ws://127.0.0.1:* wss://localhost:* wss://127.0.0.1:*; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)

_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
)

_NEVER_KEPT = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))


@functools.cache
def _files() -> Mapping[str, File]:
    names = ("index.html", "demo.css", "demo.js", "transcript.js", "view.js", "icon.svg")
    files = {f"{PATH}/{name}": File(PACKAGE / "demo" / name, _HEADERS) for name in names}
    files[PATH] = files[f"{PATH}/"] = files.pop(f"{PATH}/index.html")
    return files


class Demo:
    """The demo of one node.

    Args:
        services: carries out what the page asks for.
        spawn: runs an act beside the event loop's callbacks.
    """

    def __init__(self, services: Services, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._services = services
        self._spawn = spawn
        self._files = _files()
        self._under_way = 0
        self._acts: dict[str, Callable[[str], Awaitable[dict[str, Any]]]] = {
            "token": self._token,
            "kick": self._kick,
            "ban": self._ban,
            "unban": self._unban,
        }

    def answer(self, request: Request, address: str, later: Callable[[Answer], None]) -> Answer | None:
        """Answers a request for a path of the demo.

        Args:
            request: the request.
            address: where its connection comes from.
            later: takes the answer where an act has to be carried out first.

        Returns:
            The answer; None = it goes to ``later``.
        """
        if not is_loopback(address) or not _asked_of_this_machine(request.headers):
            return Answer.fault(403, "the demo answers this machine alone: open it as http://localhost")
        path = request.path.partition("?")[0]
        file = self._files.get(path)
        if file is not None:
            return file.answer(request)
        act = self._acts.get(path.removeprefix(f"{PATH}/"))
        if act is None:
            return Answer.fault(404, f"the demo is at {PATH}")
        return self._begin(act, request, later)

    def _begin(
        self, act: Callable[[str], Awaitable[dict[str, Any]]], request: Request, later: Callable[[Answer], None]
    ) -> Answer | None:
        if request.method != "GET":
            return Answer.fault(405, "only GET", Allow="GET")
        if ASKED_BY_PAGE not in request.headers:
            return Answer.fault(403, f"only the demo's own page asks for this, with the header {ASKED_BY_PAGE}")
        user = parse_qs(urlsplit(request.path).query).get("user", [""])[0]
        if user not in PEOPLE:
            return Answer.fault(400, f"user must be one of {', '.join(PEOPLE)}")
        if self._under_way >= ACTS_MAX:
            return Answer.fault(503, "the demo has much to do already", Retry_After="1")
        self._under_way += 1
        self._spawn(self._carry_out(act, user, later))
        return None

    async def _carry_out(
        self, act: Callable[[str], Awaitable[dict[str, Any]]], user: str, later: Callable[[Answer], None]
    ) -> None:
        answer = Answer.fault(503, "not carried out")
        try:
            answer = Answer(200, orjson.dumps(await act(user)), JSON, _NEVER_KEPT)
        except Refused as error:
            answer = Answer.fault(409, str(error))
        except OutcomeUnknown:
            answer = Answer.fault(504, "it is not known whether that was done")
        except StoreError as error:
            log.info("an act of the demo was not carried out", reason=str(error))
            answer = Answer.fault(503, "the store is away")
        finally:
            self._under_way -= 1
            later(answer)

    async def _token(self, user: str) -> dict[str, Any]:
        for other in PEOPLE:
            if other != user:
                # One can write to them before they come. Where that fails, writing to them says it.
                with contextlib.suppress(Refused):
                    await self._services.accounts.register(other, other.title(), None)
        return {"token": await self._services.tokens.issue(user, user.title(), lifetime_s=TOKEN_LIFETIME_S)}

    async def _kick(self, user: str) -> dict[str, Any]:
        return _done(await self._services.control.kick(users=[user], reason="kicked in the demo"))

    async def _ban(self, user: str) -> dict[str, Any]:
        return _done(await self._services.bans.ban([user], minutes=BAN_MINUTES, reason="banned in the demo"))

    async def _unban(self, user: str) -> dict[str, Any]:
        return {"lifted": await self._services.bans.unban([user])}


def _done(acknowledgement: Acknowledgement) -> dict[str, Any]:
    return {"sessions_closed": acknowledgement.sessions_closed, "took_ms": acknowledgement.took_ms}


def _asked_of_this_machine(headers: Headers) -> bool:
    """Whether the request was meant for this machine.

    A page of a foreign name that resolves to 127.0.0.1 sends its own name as Host; a proxy on this machine, which would
    lend its address to the whole world, says that it forwards.
    """
    hosts = headers.get_all("Host")
    named = len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None
    return named and not any(name in headers for name in _FORWARDED)
