"""The screen half of `gateway connect`: lines typed or piped in, lines shown above the prompt."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from typing import Any

from rich.console import Console
from rich.text import Text

from gateway.cli import words
from gateway.cli.failure import Failed
from gateway.client import Client, GatewayError, Message, Presence, Recalled, Stopped, Updated

COMMANDS: dict[str, tuple[str, str]] = {
    "to": ("/to USER [TEXT]", "send TEXT to USER; lines without a / go there from now on"),
    "block": ("/block USER …", "their messages no longer reach you"),
    "unblock": ("/unblock USER …", "they do again"),
    "blocked": ("/blocked", "whom you have blocked"),
    "allow": ("/allow USER … | remove USER … | on | off | list", "your allowlist, and whether it binds"),
    "watch": ("/watch USER …", "see them come and go"),
    "unwatch": ("/unwatch USER …", "no longer"),
    "friends": ("/friends", "your friends"),
    "who": ("/who USER …", "their names"),
    "sessions": ("/sessions", "your own devices"),
    "drop": ("/drop SESSION", "end one of them (the first letters will do)"),
    "refresh": ("/refresh", "swap the token for a new one"),
    "help": ("/help", "this list"),
    "quit": ("/quit", "leave; Ctrl-D too"),
}


LINE_BYTES_MAX = 128 * 1024
"""A longer line is not sent: the gateway would close the connection over it, and a prompt crawls under a huge paste."""

_TOO_LONG = f"more than {LINE_BYTES_MAX // 1024} KiB are not sent in one line"

LISTED_MAX = 1000
"""As many of a list as one wants to read in a terminal."""


class Screen:
    """One user's terminal.

    Args:
        client: the user's connection.
        user: who.
        token: gets a new token for `/refresh`; None where the user brought the token.
        id_pattern: what a user id looks like.
    """

    def __init__(self, client: Client, user: str, token: Callable[[], Awaitable[str]] | None, id_pattern: str) -> None:
        self.user = user
        self._client = client
        self._token = token
        self._is_user = re.compile(id_pattern).fullmatch
        self._to: str | None = None
        self._failed = False
        self._session = ""
        self._welcomed = asyncio.Event()
        self._shown: dict[str, tuple[bool, list[str]]] = {}
        self._interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self._console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
        self._acts: dict[str, Callable[[list[str]], Awaitable[None]]] = {
            "block": self._edit("block", client.blocklist.add, "blocked"),
            "unblock": self._edit("unblock", client.blocklist.remove, "unblocked"),
            "blocked": self._blocked,
            "allow": self._allow,
            "watch": self._watch,
            "unwatch": self._unwatch,
            "friends": self._friends,
            "who": self._who,
            "sessions": self._sessions,
            "drop": self._drop,
            "refresh": self._refresh,
            "help": self._help,
        }
        client.on_message(self._received)
        client.on_recalled(self._recalled)
        client.on_updated(self._updated)
        client.on_presence(self._presence)
        client.on_session(lambda change: self.show(words.device(change)))
        client.on_resumed(self._resumed)

    # What is shown.

    def broke(self, why: str) -> None:
        """The connection is away and will be back."""
        self.show(Text(f"! {words.clean(why)}; connecting again", "yellow"))

    def _resumed(self, recovered: bool) -> None:
        # A store that has failed over resumes a session that stays.
        if self._client.session != self._session:
            self._session = self._client.session
            self.show(words.welcome(self.user, self._client.node, self._session))
        if not recovered:
            self.show(Text("! messages in between may be missing", "yellow"))
        self._welcomed.set()

    def _received(self, message: Message) -> None:
        self.show(words.message(message, self.user))

    def _recalled(self, recalled: Recalled) -> None:
        self.show(words.recalled(recalled, self.user))

    def _updated(self, updated: Updated) -> None:
        self.show(words.updated(updated, self.user))

    def _presence(self, presence: Presence) -> None:
        """Shown where it is another than was shown last, and somebody waits for no answer that says the same."""
        if self._shown.get(presence.user) not in (None, _state(presence)):
            self._show_presence(presence)

    def _show_presence(self, presence: Presence) -> None:
        self._shown[presence.user] = _state(presence)
        self.show(words.presence(presence))

    def show(self, line: Text | str, style: str = "") -> None:
        """Prints a line above the prompt."""
        self._console.print(line if isinstance(line, Text) else Text(line, style))

    def _hint(self, text: str) -> None:
        self._failed = True
        self.show(Text(f"! {text}", "red"))

    # What is typed.

    async def run(self) -> bool:
        """Carries lines out until `/quit` or the end of the input.

        Returns:
            Whether any line of a pipe could not be carried out.
        """
        self.show("type /to bob hello, /help for the rest, /quit to leave", "dim")
        read = self._prompt() if self._interactive else _piped()
        # Only under a prompt must lines be put above it.
        with _patched() if self._interactive else nullcontext():
            while True:
                line = await read()
                if line is None or line.strip() in ("/quit", "/exit", "/q"):
                    if not self._interactive:
                        await self._welcomed.wait()
                    return self._failed and not self._interactive
                if len(line.encode(errors="replace")) > LINE_BYTES_MAX:
                    self._hint(_TOO_LONG)
                elif line.strip():
                    await self._carry_out(line.strip())

    def _prompt(self) -> Callable[[], Awaitable[str | None]]:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
        from prompt_toolkit.keys import Keys

        completer = WordCompleter([f"/{name}" for name in COMMANDS], sentence=True)
        keys = KeyBindings()

        @keys.add(Keys.BracketedPaste)
        def _(event: KeyPressEvent) -> None:
            if len(event.data.encode(errors="replace")) > LINE_BYTES_MAX:
                self._hint(_TOO_LONG)
            else:
                event.current_buffer.insert_text(event.data.replace("\r\n", "\n").replace("\r", "\n"))

        session: PromptSession[str] = PromptSession(completer=completer, complete_while_typing=False, key_bindings=keys)

        async def read() -> str | None:
            to = f" → {self._to}" if self._to else ""
            try:
                return await session.prompt_async(f"{self.user}{to}> ")
            except (EOFError, KeyboardInterrupt):
                return None

        return read

    async def _carry_out(self, line: str) -> None:
        try:
            if not line.startswith("/") or line.startswith("//"):
                await self._say(line[1:] if line.startswith("//") else line)
                return
            name, _, rest = line[1:].partition(" ")
            if name == "to":
                await self._address(rest.strip())
            elif name in self._acts:
                await self._acts[name](rest.replace(",", " ").split())
            else:
                self._hint(f"there is no command /{name}; /help lists them, //{name} sends it as a message")
        except _Misused as misuse:
            self._hint(f"write {COMMANDS[str(misuse)][0]}")
        except GatewayError as error:
            self._failed = True
            self.show(words.refused(error))
        except Failed as error:
            self._hint(str(error))
        except Stopped:
            # Told by whoever waits for the end.
            self._failed = True

    async def _address(self, rest: str) -> None:
        to, _, text = rest.partition(" ")
        if not to:
            raise _Misused("to")
        self._check([to])
        self._to = to
        if text.strip():
            await self._say(text.strip())
        elif not self._interactive:
            self.show(f"lines go to {to}", "dim")

    async def _say(self, text: str) -> None:
        if self._to is None:
            self._hint("to whom? write /to bob hello; after that, lines go to bob")
            return
        sent = await self._client.send(self._to, {"text": text})
        where = "delivered" if sent.online else f"stored: {self._to} is offline"
        self.show(f"  {where}", "dim")

    def _check(self, users: list[str]) -> None:
        wrong = [user for user in users if not self._is_user(user)]
        if wrong:
            raise Failed(f"{', '.join(words.clean(user) for user in wrong)}: not a user id")

    def _edit(
        self, name: str, edit: Callable[[list[str]], Awaitable[None]], done: str
    ) -> Callable[[list[str]], Awaitable[None]]:
        async def act(users: list[str]) -> None:
            if not users:
                raise _Misused(name)
            self._check(users)
            await edit(users)
            self.show(f"* {done}: {', '.join(users)}")

        return act

    async def _blocked(self, _: list[str]) -> None:
        await self._list("blocked", self._client.blocklist.list())

    async def _allow(self, arguments: list[str]) -> None:
        allowlist = self._client.allowlist
        first, *users = arguments or [""]
        if first in ("on", "off") and not users:
            await (allowlist.enable() if first == "on" else allowlist.disable())
            self.show("* only those on your allowlist reach you" if first == "on" else "* your allowlist does not bind")
        elif first == "list" and not users:
            await self._list("allowed (on)" if await allowlist.status() else "allowed (off)", allowlist.list())
        elif first == "remove" and users:
            self._check(users)
            await allowlist.remove(users)
            self.show(f"* no longer allowed: {', '.join(users)}")
        elif first and first not in ("on", "off", "list", "remove"):
            self._check(arguments)
            await allowlist.add(arguments)
            self.show(f"* allowed: {', '.join(arguments)}")
        else:
            raise _Misused("allow")

    async def _list(self, title: str, entries: AsyncIterator[str]) -> None:
        shown: list[str] = []
        async for entry in entries:
            shown.append(entry if len(shown) < LISTED_MAX else "…")
            if len(shown) > LISTED_MAX:
                break
        self.show(f"* {title}: {', '.join(shown) or 'nobody'}")

    async def _watch(self, users: list[str]) -> None:
        if not users:
            raise _Misused("watch")
        self._check(users)
        for user in users:
            self._shown.pop(user, None)
        for presence in (await self._client.watch(users)).values():
            self._show_presence(presence)

    async def _unwatch(self, users: list[str]) -> None:
        if not users:
            raise _Misused("unwatch")
        self._check(users)
        for user in users:
            self._shown.pop(user, None)
        await self._client.unwatch(users)
        self.show(f"* no longer watched: {', '.join(users)}")

    async def _friends(self, _: list[str]) -> None:
        friends = self._client.friends.list()
        await self._list("friends", (f"{each.user} ({words.clean(each.name)})" async for each in friends))

    async def _who(self, users: list[str]) -> None:
        if not users:
            raise _Misused("who")
        self._check(users)
        for user, found in zip(users, await asyncio.gather(*map(self._client.users.refresh, users)), strict=True):
            self.show(f"* {user}: {(words.clean(found.name) or 'no name') if found else 'no such user'}")

    async def _sessions(self, _: list[str]) -> None:
        async for each in self._client.sessions.list():
            device = f" {words.clean(each.device)}" if each.device else ""
            mine = ", this one" if each.this else ""
            since = words.moment(each.connected_at)
            self.show(f"* {each.session}  {each.platform}{device} on {each.node} since {since}{mine}")

    async def _drop(self, arguments: list[str]) -> None:
        if len(arguments) != 1:
            raise _Misused("drop")
        sessions = [each.session async for each in self._client.sessions.list()]
        meant = [each for each in sessions if each.startswith(arguments[0])]
        if len(meant) != 1:
            self._hint(f"{len(meant) or 'no'} sessions begin with {arguments[0]}; /sessions lists them")
            return
        await self._client.sessions.drop(meant[0])
        self.show(f"* dropped: {meant[0]}")

    async def _refresh(self, _: list[str]) -> None:
        if self._token is None:
            self._hint("this token was given with --token; only who issues tokens can make a new one")
            return
        answer = await self._client.ask("refresh", token=await self._token())
        ends = answer["token_expires_at"]
        self.show(f"* the new token {'ends at ' + words.moment(ends) if ends else 'does not expire'}")

    async def _help(self, _: list[str]) -> None:
        width = max(len(usage) for usage, _ in COMMANDS.values())
        for usage, meaning in COMMANDS.values():
            self.show(Text.assemble("  ", (usage.ljust(width), "cyan"), "  ", meaning))
        self.show(Text.assemble("  ", ("//TEXT".ljust(width), "cyan"), "  send /TEXT, a message that begins with a /"))


class _Misused(Exception):
    """A command was typed in another form than its own; names the command."""


def _state(presence: Presence) -> tuple[bool, list[str]]:
    return presence.online, sorted(presence.platforms)


def _patched() -> Any:
    from prompt_toolkit.patch_stdout import patch_stdout

    return patch_stdout(raw=True)


def _piped() -> Callable[[], Awaitable[str | None]]:
    """Reads lines from a pipe or a file without stopping the loop; None at the end."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def put(line: str | None) -> None:
        # The loop may have ended meanwhile: then nobody wants the line.
        if not loop.is_closed():
            loop.call_soon_threadsafe(lines.put_nowait, line)

    def read() -> None:
        for line in sys.stdin:
            put(line)
        put(None)

    # A daemon: it hangs in a read that nothing can end, and must not keep the process.
    threading.Thread(target=read, daemon=True, name="stdin").start()
    return lines.get
