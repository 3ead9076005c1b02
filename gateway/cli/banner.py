"""What `gateway serve` prints: what runs where, and how to try it."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from gateway import __version__
from gateway.cli import record
from gateway.cli.record import Running
from gateway.config import Config, Credentials
from gateway.config.rules import is_loopback
from gateway.protocol import PATH
from gateway.store.topology import parse
from gateway.transport import demo

SECRET_BYTES_SOUND = 32
"""What RFC 7518 asks of a key of HS256."""

_LABEL = 12


def show(config: Config, credentials: Credentials, running: Running) -> None:
    """Prints it on stdout."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(Text.assemble((f"gateway {__version__}", "bold"), f" runs as {_nodes(config, running.node)}"))
    if running.client is not None:
        _line(console, "clients", running.client + PATH, _everywhere(config.client_host))
    if running.admin is not None:
        _line(console, "Server API", running.admin + "/v4", _everywhere(config.admin_host))
        _line(console, "API docs", running.admin + "/docs", "")
    if running.client is not None and _shows_demo(config):
        # ws:// becomes http://, wss:// https://.
        _line(console, "demo", f"http{running.client.removeprefix('ws')}{demo.PATH}", " (for browsers on this machine)")
    _line(console, "app key", credentials.app_key, f" (the secret is in {_secret_place(config)})")
    _line(console, "store", *_store(config))
    if running.admin is not None and not is_loopback(config.admin_host):
        safety = "" if config.tls_cert is not None else ", without TLS"
        console.print(
            f"warning: the Server API is open beyond this machine{safety}: let only your own servers reach it",
            style="yellow",
        )
    if running.admin is not None and config.v1_enabled and config.v1_app_secret is None:
        console.print(
            "warning: v1 is on and signed with the app's own secret, so its signatures open /v4 too: see v1_app_secret",
            style="yellow",
        )
    if len(credentials.app_secret.encode()) < SECRET_BYTES_SOUND:
        console.print(
            f"warning: the app secret is shorter than {SECRET_BYTES_SOUND} bytes: who has a token can try to guess it",
            style="yellow",
        )
    if running.client is not None and running.admin is not None:
        console.print("\nTry it: paste these lines into two other terminals, in this directory.")
        for user in ("alice", "bob"):
            console.print(Text(f"  {connect_line(config, user)}", "cyan"))
    console.print("\nCtrl-C stops it.", style="dim")


def stopping(sessions: int) -> None:
    """Says that it ends."""
    clients = f"{sessions} client{'s' if sessions != 1 else ''}"
    _dim(f"stopping: sending {clients} away; once more stops at once" if sessions else "stopping")


def stopping_workers(workers: int) -> None:
    """Says that all workers end."""
    _dim(f"stopping {workers} workers, one after another; once more stops them at once")


def _dim(text: str) -> None:
    Console(soft_wrap=True, highlight=False).print(text, style="dim")


def _nodes(config: Config, node: str) -> str:
    if config.workers == 1:
        return f"node {node}"
    return f"nodes {node}-0 to {node}-{config.workers - 1}, {config.workers} workers on one client port"


def connect_line(config: Config, user: str) -> str:
    """What to paste to connect as a user."""
    words = [program(), "connect", user]
    if config.data_dir != Path("data"):
        words += ["--data-dir", shlex.quote(str(config.data_dir))]
    return " ".join(words)


def program() -> str:
    """How this program is called from this directory."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{_near(Path(sys.executable))} -m gateway"
    on_path = shutil.which(started.name)
    if on_path is not None and Path(on_path).absolute() == started.absolute():
        return started.name
    return _near(started)


def _near(path: Path) -> str:
    # Not resolved: the interpreter of a virtual environment is a link to one outside of it.
    path = path.absolute()
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return shlex.quote(str(shown))


def _line(console: Console, label: str, value: str, note: str) -> None:
    console.print(Text.assemble("  ", (label.ljust(_LABEL), "dim"), (value, "green"), (note, "dim")))


def _everywhere(host: str) -> str:
    return " (every address of this machine)" if host in ("0.0.0.0", "::") else ""


def _shows_demo(config: Config) -> bool:
    return config.environment == "development" and is_loopback(record.reachable(config.client_host))


def _secret_place(config: Config) -> str:
    return "your settings" if config.app_secret is not None else str(config.data_dir / "credentials.json")


def _store(config: Config) -> tuple[str, str]:
    if config.redis_url is not None:
        return parse(config.redis_url).shown, ""
    return f"embedded Valkey, append-only file in {config.data_dir / 'valkey'}", ""
