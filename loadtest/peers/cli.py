"""The command ``peers``: installs them, runs them beside the gateway, writes what was found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from loadtest import files
from loadtest.document import put
from loadtest.peers import ejabberd, socketio
from loadtest.peers.document import text
from loadtest.peers.registry import PEERS, peer
from loadtest.peers.rounds import Found, measured
from loadtest.target import TargetFault

FINE, FAILED, INTERRUPTED = 0, 1, 130
INSTALLERS = {"socketio": socketio.install, "ejabberd": ejabberd.unpack}


def peers(
    *names: str,
    rounds: int = 3,
    seconds: float = 5.0,
    connections: int = 2000,
    install: Annotated[bool, Parameter(negative=())] = False,
    install_only: Annotated[bool, Parameter(negative=())] = False,
    json: Path | None = None,
    write: Path | None = None,
    from_json: Path | None = None,
) -> int:
    """Measure other servers at the gateway's work, beside it, each on one core.

    Args:
        names: Which of them: socketio, ejabberd, python_socketio, fastapi, bare; all, without.
        rounds: How often each is run; figures are medians.
        seconds: Measured time of each run with messages.
        connections: Idle connections for the memory.
        install: Install what is missing first: into the virtual environment, nowhere else.
        install_only: Install it and measure nothing.
        json: Where all figures go.
        write: The document whose part "peers" is replaced.
        from_json: Measure nothing; write the document of the figures in this file.
    """
    if rounds < 1 or seconds < 0.1 or connections < 2:
        raise TargetFault("--rounds is at least 1, --seconds at least 0.1, --connections at least 2")
    if faults := files.faults(json, write):
        raise TargetFault("\n".join(faults))
    if from_json is not None:
        found = _read(from_json)
    else:
        wanted = [peer(name).name for name in names or PEERS]
        ready, absent = _ready(wanted, install or install_only, asked=bool(names))
        if install_only:
            return FAILED if absent else FINE
        found = measured(ready, rounds, seconds, connections, _say)
        found.absent |= absent
    if json is not None:
        files.put(json, msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    if found.interrupted:
        _say("interrupted: the document is left as it was")
        return INTERRUPTED
    whole = text(found)
    if write is None:
        print(whole)
    else:
        put(write, "peers", whole)
        _say(f'{write}: part "peers" written')
    for fault in found.faults:
        _say(fault)
    return FAILED if found.faults else FINE


def _ready(names: list[str], install: bool, *, asked: bool) -> tuple[list[str], dict[str, str]]:
    """Who can be started, and why the others cannot.

    Raises:
        TargetFault: one that was asked for by its name cannot.
    """
    ready: list[str] = []
    absent: dict[str, str] = {}
    for name in names:
        if peer(name).missing() and install and name in INSTALLERS:
            _say(f"installing {peer(name).title} …")
            try:
                INSTALLERS[name]()
            except (OSError, subprocess.CalledProcessError) as error:
                _say(f"{peer(name).title} could not be installed: {error}")
        if why := peer(name).missing():
            if asked:
                raise TargetFault(f"{name}: {why}")
            absent[name] = why
            _say(f"{peer(name).title} is left out: {why}")
        else:
            ready.append(name)
    return ready, absent


def _read(path: Path) -> Found:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Found)
    except OSError as error:
        raise TargetFault(f"{path}: {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise TargetFault(f"{path}: no figures of peers: {error}") from None


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
