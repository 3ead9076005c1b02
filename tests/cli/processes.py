"""The program as its users have it: processes, their output, their terminals."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

from tests.servers import free_ports
from tests.waiting import wait_until

START_DEADLINE_S = 60.0
"""Two cores that others use, too: importing everything takes its time."""


def environment(**more: str) -> dict[str, str]:
    """This process's environment without settings of a gateway."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return kept | {"LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"} | more


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gateway", *arguments]


_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [f"gateway.cli.{name}" for name in ("check", "connect", "ctl", "docs", "health", "serve", "token")]
)


def run(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """One command, to its end, in a process that need not import everything anew."""
    with tempfile.TemporaryDirectory() as directory:
        outputs = [Path(directory, name) for name in ("stdout", "stderr")]
        process = _SERVER.Process(target=_run, args=(arguments, cwd, environment(**env), outputs))
        process.start()
        process.join(60)
        status = process.exitcode
        if status is None:
            process.kill()
            raise AssertionError(f"{' '.join(arguments)} does not end")
        process.close()
        return subprocess.CompletedProcess(arguments, status, *(each.read_text("utf-8") for each in outputs))


def _run(arguments: tuple[str, ...], cwd: Path, env: dict[str, str], outputs: list[Path]) -> None:
    from gateway.cli import app

    for number, path in enumerate(outputs, start=1):
        with path.open("wb") as output:
            os.dup2(output.fileno(), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.exit(app.run(arguments))


class Program:
    """A process that goes on; what it writes to stdout and stderr is in ``output``.

    Attributes:
        program: what Python runs.
    """

    program: tuple[str, ...] = ("-m", "gateway")

    def __init__(self, *arguments: str, cwd: Path, **env: str) -> None:
        name = "-".join(arguments[:2]).replace("/", "_")
        self._written = cwd / f"{name}.{len(list(cwd.glob('*.out')))}.out"
        with self._written.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, *arguments],
                cwd=cwd,
                env=environment(**env),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._written.read_text("utf-8")

    def say(self, line: str) -> None:
        """Types a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def shows(self, text: str, deadline_s: float = 10.0) -> None:
        """Waits until the output has that text."""
        try:
            wait_until(lambda: text in self.output, deadline_s)
        except AssertionError:
            raise AssertionError(f"no {text!r} within {deadline_s:g} s in:\n{self.output}") from None

    def ended(self, deadline_s: float = 20.0) -> int:
        """Waits for the end; returns the exit status."""
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {deadline_s:g} s:\n{self.output}") from None

    def kill(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()


class Gateway(Program):
    """`gateway serve` on free ports, with its data below ``cwd``; ready when made."""

    def __init__(self, cwd: Path, *arguments: str, ports: tuple[int, int] | None = None, **env: str) -> None:
        self.cwd = cwd
        self.client_port, self.admin_port = ports or free_ports(2)
        super().__init__(
            "serve",
            *("--client-host", "127.0.0.1"),
            *("--client-port", str(self.client_port), "--admin-port", str(self.admin_port)),
            *arguments,
            cwd=cwd,
            **env,
        )
        try:
            wait_until(lambda: "Ctrl-C" in self.output or self.process.poll() is not None, START_DEADLINE_S)
            assert self.process.poll() is None, self.output
        except BaseException:
            self.kill()
            raise

    @property
    def store_pid(self) -> int:
        return int(json.loads((self.cwd / "data" / "store.json").read_text())["pid"])

    @property
    def secret(self) -> str:
        return str(json.loads((self.cwd / "data" / "credentials.json").read_text())["app_secret"])

    def ctl(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return run("ctl", *arguments, cwd=self.cwd, **env)

    def connect(self, user: str, *arguments: str) -> Program:
        """A `gateway connect` through pipes, once it is connected."""
        client = Program("connect", user, *arguments, cwd=self.cwd)
        try:
            client.shows(f"connected as {user}", START_DEADLINE_S)
        except BaseException:
            client.kill()
            raise
        return client

    def stop(self) -> int:
        self.process.terminate()
        return self.ended()
