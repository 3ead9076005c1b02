"""`gateway connect`: finds the gateway, gets a token, and puts the SDK's client behind a terminal."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from cyclopts import Parameter

from gateway import log
from gateway.cli import reach, words
from gateway.cli.failure import FAILED, USAGE, Failed
from gateway.cli.flags import Given, with_settings
from gateway.cli.screen import Screen
from gateway.cli.subjects import check_ids, kept_credentials
from gateway.client import Client, Closed, Stopped
from gateway.client.upkeep import State
from gateway.config import Config

CALL_WAIT_S = 5.0
SEND_S = 30.0
"""Who types wants to know; until then the next line waits."""


@with_settings("data_dir", "client_host", "client_port", "admin_host", "admin_port", "log_level")
def connect(
    given: Given,
    user: str,
    /,
    *,
    name: Annotated[str | None, Parameter(help="Name of the user, where it is new.", show_default=False)] = None,
    device: Annotated[str | None, Parameter(help="Device id; the same one resumes.", show_default=False)] = None,
    token: Annotated[str | None, Parameter(help="Access token; without it, asked for.", show_default=False)] = None,
    url: Annotated[str | None, Parameter(help="Gateway elsewhere: wss://chat.example.com", show_default=False)] = None,
) -> int:
    """Be a user: an interactive client in the terminal; reads lines from a pipe, too.

    The exit status is 1 when the gateway refuses the user, or anything that came through a pipe.

    The token comes from the Server API of the gateway that runs on the data directory, or by --token.
    """
    config = given.load(os.environ)
    log.configure(config.log_level, config.log_format)
    check_ids(config, user)
    if url is not None and not re.match(r"wss?://[^/]", url):
        raise Failed(f"--url {url}: must begin with ws:// or wss:// and name a host", status=USAGE)
    client, admin = reach.addresses(given, config)
    wallet = _Wallet(_issuer(config, admin, user, name)) if token is None else None
    # What goes wrong is told on the screen.
    logging.getLogger("gateway.client").setLevel(logging.CRITICAL)
    connection = Client(
        url or client,
        wallet.present if wallet else token or "",
        device=device or _device(),
        platform="desktop",
        tls=_trust(config, url),
        connect_s=None,
        # A token takes two calls.
        attempt_s=2 * CALL_WAIT_S + 1,
        send_s=SEND_S,
    )
    screen = Screen(connection, user, wallet.renewed if wallet else None, config.id_pattern)
    return asyncio.run(_converse(connection, screen, url or client))


class _Wallet:
    """The user's token: a new one for every attempt; where none can be had, the last one again."""

    def __init__(self, issue: Callable[[], Awaitable[str]]) -> None:
        self._issue = issue
        self._last: str | None = None

    async def present(self) -> str:
        try:
            return await self.renewed()
        except Failed:
            if self._last is None:
                raise
            return self._last

    async def renewed(self) -> str:
        self._last = await self._issue()
        return self._last


async def _converse(client: Client, screen: Screen, url: str) -> int:
    talking = asyncio.ensure_future(_talk(client, screen, url))
    typing = asyncio.ensure_future(screen.run())
    try:
        await asyncio.wait({talking, typing}, return_when=asyncio.FIRST_COMPLETED)
        if not talking.done():
            return FAILED if typing.result() else 0
        screen.show(words.ended(talking.result()))
        return FAILED
    finally:
        for task in (talking, typing):
            task.cancel()
        await asyncio.gather(talking, typing, return_exceptions=True)
        await client.close()


async def _talk(client: Client, screen: Screen, url: str) -> Stopped:
    """Connects, and waits until there is no point in coming back.

    Raises:
        Failed: the first attempt found nobody, or there was no token for it.
    """
    first: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def moved(state: State, why: str) -> None:
        if state == "live" and not first.done():
            first.set_result(None)
        elif state == "waiting" and not first.done():
            first.set_exception(
                Failed(f"nobody answers at {url} ({why}). Is the gateway running, and is that its client port?")
            )
        elif state == "waiting":
            screen.broke(why)

    def failed(error: Exception) -> None:
        if isinstance(error.__cause__, Failed) and not first.done():
            first.set_exception(error.__cause__)

    client.on_state(moved)
    client.on_error(failed)
    connecting = asyncio.ensure_future(client.connect())
    try:
        await asyncio.wait({connecting, first}, return_when=asyncio.FIRST_COMPLETED)
        if first.done():
            first.result()
        await connecting
        return await client.stopped() or Closed()
    except Stopped as stopped:
        return stopped
    finally:
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)


def _issuer(config: Config, admin: str, user: str, name: str | None) -> Callable[[], Awaitable[str]]:
    """Gets tokens from the Server API, signed as docs/server-api.md says."""
    import httpx

    credentials = kept_credentials(config)

    def headers() -> dict[str, str]:
        import hashlib

        nonce, timestamp = secrets.token_hex(8), str(time.time_ns() // 1_000_000)
        signed = hashlib.sha1((credentials.app_secret + nonce + timestamp).encode(), usedforsecurity=False)
        return {
            "App-Key": credentials.app_key,
            "Nonce": nonce,
            "Timestamp": timestamp,
            "Signature": signed.hexdigest(),
        }

    async def call(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = await client.post(admin + path, json=body, headers=headers())
        try:
            return dict(response.json())
        except ValueError:
            raise Failed(f"{admin} is not a gateway's admin port (HTTP status {response.status_code})") from None

    async def issue() -> str:
        verify: ssl.SSLContext | bool = reach.trust(config) or True
        try:
            async with httpx.AsyncClient(timeout=CALL_WAIT_S, verify=verify, trust_env=False) as client:
                known = await call(client, "/v4/user/get", {"userId": user})
                # Issuing sets the name: who has one keeps it.
                wanted = name or known.get("result", {}).get("name") or user
                answer = await call(client, "/v4/auth/access-token/issue", {"userId": user, "name": wanted})
        except httpx.HTTPError as error:
            shown = str(error) or type(error).__name__
            raise Failed(
                f"no token for {user}: the admin port {admin} does not answer ({shown}). Is the gateway running "
                "(gateway serve)? For one elsewhere give --token and --url"
            ) from error
        if answer.get("code") != 0:
            raise Failed(f"no token for {user}: {answer.get('errorMessage')} ({answer.get('code')})")
        return str(answer["result"]["accessToken"])

    return issue


def _device() -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", f"terminal-{socket.gethostname()}")[:64]


def _trust(config: Config, url: str | None) -> ssl.SSLContext | None:
    if url is None:
        return reach.trust(config)
    return ssl.create_default_context() if url.startswith("wss:") else None
