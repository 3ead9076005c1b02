"""`gateway connect`: finds the gateway, gets a token, and joins the two halves of the client."""

from __future__ import annotations

import asyncio
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
from gateway.cli.conversation import Conversation, Ended, Peer, Unreachable
from gateway.cli.failure import FAILED, USAGE, Failed
from gateway.cli.flags import Given, with_settings
from gateway.cli.screen import Screen
from gateway.cli.subjects import check_ids, kept_credentials
from gateway.config import Config

CALL_WAIT_S = 10.0


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
    wallet = _Wallet(token, None if token is not None else _issuer(config, admin, user, name))
    peer = Peer(url or client, wallet.present, device or _device(), _trust(config, url))
    return asyncio.run(_converse(peer, Screen(user, wallet.renewed if wallet.issue else None, config.id_pattern)))


class _Wallet:
    """The user's token: brought along, or issued; a reconnect uses the one there is."""

    def __init__(self, token: str | None, issue: Callable[[], Awaitable[str]] | None) -> None:
        self._token = token
        self.issue = issue

    async def present(self) -> str:
        return self._token if self._token is not None else await self.renewed()

    async def renewed(self) -> str:
        assert self.issue is not None
        self._token = await self.issue()
        return self._token


async def _converse(peer: Peer, screen: Screen) -> int:
    conversation = Conversation(peer, screen.pushed, screen.state)
    talking = asyncio.ensure_future(conversation.run())
    typing = asyncio.ensure_future(screen.run(conversation))
    try:
        await asyncio.wait({talking, typing}, return_when=asyncio.FIRST_COMPLETED)
        if not talking.done():
            return FAILED if typing.result() else 0
        typing.cancel()
        await asyncio.gather(typing, return_exceptions=True)
        talking.result()
        return 0
    except Ended as end:
        screen.show(words.ended(end))
        return FAILED
    except Unreachable as error:
        raise Failed(f"{error}. Is the gateway running, and is that its client port?") from error
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        await conversation.close()


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
