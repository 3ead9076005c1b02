"""The screen half of `gateway connect`: lines typed or piped in, lines shown above the prompt."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

from rich.console import Console
from rich.text import Text

from gateway.cli import words
from gateway.cli.conversation import Answer, Conversation, Unanswered
from gateway.cli.failure import Failed

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

WATCH_AT_ONCE = 100


class Screen:
    """One user's terminal.

    Args:
        user: who.
        token: gets a new token for `/refresh`; None where the user brought the token.
        id_pattern: what a user id looks like.
    """

    def __init__(self, user: str, token: Callable[[], Awaitable[str]] | None, id_pattern: str) -> None:
        self.user = user
        self._token = token
        self._is_user = re.compile(id_pattern).fullmatch
        self._to: str | None = None
        self._failed = False
        self._watched: dict[str, bool] = {}
        self._watching: asyncio.Task[None] | None = None
        self._interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self._console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
        self._conversation: Conversation | None = None
        self._acts: dict[str, Callable[[list[str]], Awaitable[None]]] = {
            "block": self._edit("blocklist.add", "blocked"),
            "unblock": self._edit("blocklist.remove", "unblocked"),
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

    # What is shown.

    def pushed(self, message: Answer) -> None:
        """A push came."""
        line = words.push(message, self.user)
        if line is not None:
            self.show(line)
        if message["type"] == "presence" and message["user"] in self._watched:
            self._watched[message["user"]] = message["online"]
        elif message["type"] == "welcome" and self._watched:
            # Watches end with the session.
            self._watching = asyncio.ensure_future(self._watch_again())

    def state(self, sentence: str) -> None:
        """The connection changed."""
        self.show(Text(f"! {sentence}", "yellow"))

    def show(self, line: Text | str, style: str = "") -> None:
        """Prints a line above the prompt."""
        self._console.print(line if isinstance(line, Text) else Text(line, style))

    def _hint(self, text: str) -> None:
        self._failed = True
        self.show(Text(f"! {text}", "red"))

    # What is typed.

    async def run(self, conversation: Conversation) -> bool:
        """Carries lines out until `/quit` or the end of the input.

        Returns:
            Whether any line of a pipe could not be carried out.
        """
        self._conversation = conversation
        self.show("type /to bob hello, /help for the rest, /quit to leave", "dim")
        read = self._prompt() if self._interactive else _piped()
        # Only under a prompt must lines be put above it.
        with _patched() if self._interactive else nullcontext():
            while True:
                line = await read()
                if line is None or line.strip() in ("/quit", "/exit", "/q"):
                    if not self._interactive:
                        await conversation.welcomed()
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
        except _RefusedReply as refusal:
            self._failed = True
            self.show(words.refused(refusal.answer))
        except (Unanswered, Failed) as error:
            self._hint(str(error))

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
        assert self._conversation is not None
        sent = await self._conversation.send(self._to, {"text": text})
        if sent["type"] == "error":
            raise _RefusedReply(sent)
        where = "delivered" if sent["online"] else f"stored: {self._to} is offline"
        self.show(f"  {where}", "dim")

    async def _ask(self, type_: str, **fields: Any) -> Answer:
        assert self._conversation is not None
        answer = await self._conversation.ask(type_, **fields)
        if answer["type"] == "error":
            raise _RefusedReply(answer)
        return answer

    def _check(self, users: list[str]) -> None:
        wrong = [user for user in users if not self._is_user(user)]
        if wrong:
            raise Failed(f"{', '.join(words.clean(user) for user in wrong)}: not a user id")

    def _edit(self, type_: str, done: str) -> Callable[[list[str]], Awaitable[None]]:
        async def act(users: list[str]) -> None:
            if not users:
                raise _Misused("block" if type_ == "blocklist.add" else "unblock")
            self._check(users)
            await self._ask(type_, users=users)
            self.show(f"* {done}: {', '.join(users)}")

        return act

    async def _blocked(self, _: list[str]) -> None:
        self._list("blocked", await self._ask("blocklist.list", limit=1000))

    async def _allow(self, arguments: list[str]) -> None:
        first, *users = arguments or [""]
        if first in ("on", "off") and not users:
            await self._ask(f"allowlist.{'enable' if first == 'on' else 'disable'}")
            self.show("* only those on your allowlist reach you" if first == "on" else "* your allowlist does not bind")
        elif first == "list" and not users:
            status = await self._ask("allowlist.status")
            self._list(
                "allowed (on)" if status["enabled"] else "allowed (off)", await self._ask("allowlist.list", limit=1000)
            )
        elif first == "remove" and users:
            self._check(users)
            await self._ask("allowlist.remove", users=users)
            self.show(f"* no longer allowed: {', '.join(users)}")
        elif first and first not in ("on", "off", "list", "remove"):
            self._check(arguments)
            await self._ask("allowlist.add", users=arguments)
            self.show(f"* allowed: {', '.join(arguments)}")
        else:
            raise _Misused("allow")

    def _list(self, title: str, answer: Answer) -> None:
        users = ", ".join(answer["users"]) or "nobody"
        self.show(f"* {title}: {users}{' …' if answer.get('page') else ''}")

    async def _watch(self, users: list[str]) -> None:
        if not users:
            raise _Misused("watch")
        self._check(users)
        for state in (await self._ask("watch", users=users))["users"]:
            self._watched[state["user"]] = state["online"]
            self.show(words.presence(state))

    async def _unwatch(self, users: list[str]) -> None:
        if not users:
            raise _Misused("unwatch")
        self._check(users)
        # Forgotten first: a reconnect meanwhile must not bring them back.
        for user in users:
            self._watched.pop(user, None)
        await self._ask("unwatch", users=users)
        self.show(f"* no longer watched: {', '.join(users)}")

    async def _watch_again(self) -> None:
        """Watches the same users in a new session, and tells who came or went meanwhile."""
        wanted = list(self._watched)
        try:
            for start in range(0, len(wanted), WATCH_AT_ONCE):
                for state in (await self._ask("watch", users=wanted[start : start + WATCH_AT_ONCE]))["users"]:
                    if self._watched.get(state["user"]) not in (None, state["online"]):
                        self._watched[state["user"]] = state["online"]
                        self.show(words.presence(state))
        except _RefusedReply as refusal:
            self.show(words.refused(refusal.answer))
        except Unanswered:
            # The connection broke again: the next welcome brings the next try.
            pass

    async def _friends(self, _: list[str]) -> None:
        answer = await self._ask("friends.list", limit=1000)
        answer["users"] = [f"{each['user']} ({words.clean(each['name'])})" for each in answer["users"]]
        self._list("friends", answer)

    async def _who(self, users: list[str]) -> None:
        if not users:
            raise _Misused("who")
        self._check(users)
        found = {each["user"]: each for each in (await self._ask("user.get", users=users))["users"]}
        for user in users:
            name = words.clean(found[user]["name"]) if user in found else "no such user"
            self.show(f"* {user}: {name or 'no name'}")

    async def _sessions(self, _: list[str]) -> None:
        for each in (await self._ask("sessions.list"))["sessions"]:
            device = f" {words.clean(each['device'])}" if each["device"] else ""
            mine = ", this one" if each["this"] else ""
            since = words.moment(each["connected_at"])
            self.show(f"* {each['session']}  {each['platform']}{device} on {each['node']} since {since}{mine}")

    async def _drop(self, arguments: list[str]) -> None:
        if len(arguments) != 1:
            raise _Misused("drop")
        sessions = [each["session"] for each in (await self._ask("sessions.list"))["sessions"]]
        meant = [each for each in sessions if each.startswith(arguments[0])]
        if len(meant) != 1:
            self._hint(f"{len(meant) or 'no'} sessions begin with {arguments[0]}; /sessions lists them")
            return
        await self._ask("sessions.drop", session=meant[0])
        self.show(f"* dropped: {meant[0]}")

    async def _refresh(self, _: list[str]) -> None:
        if self._token is None:
            self._hint("this token was given with --token; only who issues tokens can make a new one")
            return
        answer = await self._ask("refresh", token=await self._token())
        ends = answer["token_expires_at"]
        self.show(f"* the new token {'ends at ' + words.moment(ends) if ends else 'does not expire'}")

    async def _help(self, _: list[str]) -> None:
        width = max(len(usage) for usage, _ in COMMANDS.values())
        for usage, meaning in COMMANDS.values():
            self.show(Text.assemble("  ", (usage.ljust(width), "cyan"), "  ", meaning))
        self.show(Text.assemble("  ", ("//TEXT".ljust(width), "cyan"), "  send /TEXT, a message that begins with a /"))


class _Misused(Exception):
    """A command was typed in another form than its own; names the command."""


class _RefusedReply(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer["reason"])
        self.answer = answer


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
