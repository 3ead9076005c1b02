"""Socket.IO 4 on Node with its Redis adapter (socketio_node/), and what speaks its protocol: python-socketio too."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from loadtest.peers.peer import BUILD, Running, with_redis

SOURCE = Path(__file__).parent / "socketio_node"
INSTALLED = BUILD / "socketio_node"


@contextmanager
def started(core: int | None) -> Iterator[Running]:
    """Node in production mode."""
    with with_redis(["node", "server.js"], core, cwd=INSTALLED, NODE_ENV="production") as running:
        yield running


def missing() -> str:
    """Nothing, or how it gets there."""
    if shutil.which("node") is None:
        return "node is not installed: on Debian install the packages nodejs and npm"
    current = all(
        (INSTALLED / path.name).is_file() and (INSTALLED / path.name).read_bytes() == path.read_bytes()
        for path in _files()
    )
    return "" if current and (INSTALLED / "node_modules").is_dir() else "its packages are missing: run `make peers`"


def versions() -> Mapping[str, str]:
    """Node's and the packages'."""
    wanted = json.loads((INSTALLED / "package.json").read_text())["dependencies"]
    found = {"node": subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()}
    for name in wanted:
        found[name] = json.loads((INSTALLED / "node_modules" / name / "package.json").read_text())["version"]
    return found


def install() -> None:
    """Installs the packages beside a copy of the server.

    Raises:
        subprocess.CalledProcessError: npm failed; it says why itself.
    """
    INSTALLED.mkdir(parents=True, exist_ok=True)
    for path in _files():
        shutil.copy(path, INSTALLED)
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"], cwd=INSTALLED, check=True)


def _files() -> list[Path]:
    return [SOURCE / "package.json", SOURCE / "server.js"]
