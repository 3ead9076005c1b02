"""Load test runs as their users have them: a process, its output, what it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from loadtest.cli import main
from loadtest.result import Result, read
from tests.cli.processes import Gateway, environment

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120.0
LIFTED = (
    *("--connect-rate-per-address-s", "0", "--send-rate-per-s", "0", "--no-rate-limits"),
    *("--drain-s", "0.5", "--reconnect-spread-ms", "200"),
    *("--log-level", "warning"),
)
"""Flags of a gateway whose limits are not what is tested, and whose drains are short."""


def start(*arguments: str, prepare: Callable[[], None] | None = None, **env: str) -> subprocess.Popen[str]:
    """`python -m loadtest …` in a process group of its own, as a shell starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "loadtest", *arguments],
        cwd=ROOT,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=prepare,
        start_new_session=True,
    )


def heard(process: subprocess.Popen[str], words: str, deadline_s: float = DEADLINE_S) -> None:
    """Returns when it has said so."""
    assert process.stdout is not None
    # Reading blocks: what stays silent is ended.
    silence = threading.Timer(deadline_s, os.killpg, (process.pid, signal.SIGKILL))
    silence.start()
    said = []
    try:
        while words not in (line := process.stdout.readline()):
            said.append(line)
            assert line, f"has not said {words!r}:\n{''.join(said)}"
    finally:
        silence.cancel()


def finished(process: subprocess.Popen[str], deadline_s: float = DEADLINE_S) -> tuple[int, str]:
    """(exit status, all it said)."""
    try:
        output, _ = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        output, _ = process.communicate()
        raise AssertionError(f"still runs after {deadline_s:g} s:\n{output}") from None
    return process.returncode, output


def run(*arguments: str, prepare: Callable[[], None] | None = None, **env: str) -> tuple[int, str]:
    """One command to its end: (exit status, all it said)."""
    return finished(start(*arguments, prepare=prepare, **env))


def against(gateway: Gateway) -> tuple[str, ...]:
    """Flags for a run against a gateway that is there."""
    return (
        *("--url", f"ws://127.0.0.1:{gateway.client_port}/v1/connect"),
        *("--api", f"http://127.0.0.1:{gateway.admin_port}"),
        *("--data-dir", str(gateway.cwd / "data")),
    )


def measured(directory: Path, *arguments: str) -> Result:
    """A run that must be fine, and its result; conducted from this process."""
    written = directory / "result.json"
    status = main(["run", *arguments, "--plain", "--json", str(written)])
    result = read(written)
    assert (status, result.failures, result.verdict.examples) == (0, [], [])
    assert result.fine
    assert result.verdict.faults == 0
    return result
