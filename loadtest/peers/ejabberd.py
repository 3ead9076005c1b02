"""ejabberd from Debian's package, spoken to over XMPP on WebSocket (RFC 7395).

The package and the Erlang that it needs are unpacked into the virtual environment by ``make peers``: no root is needed,
nothing is installed into the system, and no service of its own is started. Configuration and spool directory are the
run's own.
"""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from loadtest.peers.peer import BUILD, SECRET, PeerFault, Running, listens, process, until

HOST = "localhost"
UNPACKED = BUILD / "ejabberd"
ERLANG = UNPACKED / "usr/lib/erlang"

CONFIGURATION = """\
hosts: [{host}]
loglevel: warning
listen:
  - port: {port}
    ip: "127.0.0.1"
    module: ejabberd_http
    backlog: 4096
    request_handlers:
      /ws: ejabberd_http_ws
# A token is checked at login, as the gateway does it; nobody is registered, so nothing is read from a database.
auth_method: [jwt]
jwt_key: {directory}/jwt.jwk
jwt_jid_field: jid
websocket_ping_interval: 60
websocket_timeout: 300
# No shaper: none is named, so none slows anybody down. No roster, archive, offline store or privacy lists.
modules:
  mod_ping: {{}}
"""

# One scheduler for one core, and none that spins while it waits: its CPU time is then its work's.
EMULATOR: tuple[str, ...] = ("+K", "true", "+S", "1:1", "+P", "250000", "+Q", "65536")
EMULATOR += ("+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none")


@contextmanager
def started(core: int | None) -> Iterator[Running]:
    """ejabberd in memory, with a spool directory of its own."""
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        directory, port = Path(name), _free_port()
        (directory / "ejabberd.yml").write_text(CONFIGURATION.format(host=HOST, port=port, directory=directory))
        key = base64.urlsafe_b64encode(SECRET.encode()).rstrip(b"=").decode()
        (directory / "jwt.jwk").write_text(json.dumps({"kty": "oct", "k": key, "alg": "HS256"}))
        command = [
            str(_binaries() / "erlexec"),
            "-noinput",
            "-os_mon",
            "start_memsup",
            "false",
            "-mnesia",
            "dir",
            f'"{directory}/mnesia"',
            *EMULATOR,
        ]
        for code in _code():
            command += ["-pa", str(code)]
        log = directory / "errors.log"
        # At its end Erlang's own watchdogs complain that it is gone; who reads that thinks something is wrong.
        with log.open("w") as errors:
            with process([*command, "-s", "ejabberd"], core, _environment(directory), directory, errors) as child:
                try:
                    until(lambda: listens(port), child, "ejabberd")
                except PeerFault as fault:
                    raise PeerFault(f"{fault}\n{log.read_text()}{_tail(directory / 'ejabberd.log')}") from None
                yield Running(f"ws://127.0.0.1:{port}/ws", {"server": child.pid})


def missing() -> str:
    """Nothing, or how it gets there."""
    return "" if _code() and ERLANG.is_dir() else "ejabberd is not unpacked: run `make peers` (it needs apt and dpkg)"


def versions() -> Mapping[str, str]:
    """The package's, and Erlang's."""
    erts = _binaries().parent.name.removeprefix("erts-")
    release = next((ERLANG / "releases").glob("*/OTP_VERSION"), None)
    otp = release.read_text().strip() if release else f"erts {erts}"
    package = sorted(path.parent.name for path in _code())[-1]
    return {"ejabberd": package.removeprefix("ejabberd-"), "Erlang/OTP": otp}


def unpack() -> None:
    """Downloads the Debian package with all that is missing here, as any user, and unpacks it.

    Raises:
        subprocess.CalledProcessError: apt or dpkg failed; they say why themselves.
    """
    archives = BUILD / "debian"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    apt = ["apt-get", "--quiet=2", "--yes", "--no-install-recommends", "--download-only", "-o", "Debug::NoLocking=1"]
    subprocess.run([*apt, "-o", f"Dir::Cache::archives={archives}/", "install", "ejabberd"], check=True)
    for archive in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(archive), str(UNPACKED)], check=True)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text().splitlines()[-10:]) if log.is_file() else ""


def _environment(directory: Path) -> dict[str, str]:
    # The variables that Debian's `erl` and `ejabberdctl` would set, with the paths of an unpacked package.
    return {
        "ROOTDIR": str(ERLANG),
        "BINDIR": str(_binaries()),
        "EMU": "beam",
        "PROGNAME": "erl",
        "HOME": str(directory),
        "LD_LIBRARY_PATH": str(next(UNPACKED.glob("usr/lib/*-linux-gnu"))),
        "EJABBERD_CONFIG_PATH": str(directory / "ejabberd.yml"),
        "EJABBERD_LOG_PATH": str(directory / "ejabberd.log"),
        "SPOOL_DIR": str(directory),
        "ERL_CRASH_DUMP_BYTES": "0",
    }


def _binaries() -> Path:
    return next(ERLANG.glob("erts-*/bin"))


def _code() -> list[Path]:
    return sorted(UNPACKED.glob("usr/lib/*-linux-gnu/ejabberd-*/ebin"))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
