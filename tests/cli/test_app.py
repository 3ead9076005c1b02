"""The command line as a whole: help, usage errors, and the last resort."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gateway import __version__
from gateway.cli import app
from gateway.cli.flags import Given
from gateway.config import settings_table
from tests.cli.processes import command, environment, run


def test_help_names_every_command_and_version_the_version(tmp_path: Path) -> None:
    done = run(cwd=tmp_path)
    assert done.returncode == 0
    assert all(f" {name} " in done.stdout for name in ("serve", "check", "health", "connect", "token", "ctl", "docs"))
    assert run("--version", cwd=tmp_path).stdout == f"{__version__}\n"


def test_every_setting_is_a_flag_of_serve_with_its_variable_and_default(tmp_path: Path) -> None:
    shown = run("serve", "--help", cwd=tmp_path, COLUMNS="300").stdout
    for row in settings_table():
        assert f"{row.flag} " in shown
        assert f"[{row.env}; " in shown
    assert "[GATEWAY_CLIENT_PORT; 8080]" in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["frobnicate"], 'gateway: Unknown command "frobnicate".'),
        (["serve", "--client-port"], "gateway: "),
        (["token"], "gateway: "),
        (["ctl", "ban", "--colour", "red"], "gateway: Unknown option: --colour."),
    ],
)
def test_wrong_usage_ends_with_status_2_and_says_where_help_is(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(told)
    assert done.stderr.endswith(" --help.\n")


def test_flags_beat_variables_and_variables_beat_the_file(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text("client_port = 1\nadmin_port = 2\nlease_renew_s = 1.5\n")
    environ = {"GATEWAY_CLIENT_PORT": "3", "GATEWAY_ADMIN_PORT": "4"}
    config = Given({"client_port": "5", "v1_enabled": True, "admin_host": None}, file).load(environ)
    assert (config.client_port, config.admin_port, config.lease_renew_s, config.v1_enabled) == (5, 4, 1.5, True)


def test_what_nobody_thought_of_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    failure = app.unforeseen(RuntimeError("first line\nsecond line"), ["serve"])
    assert failure.lines == ["internal error: RuntimeError: first line (--log-level debug shows more)"]
    assert capsys.readouterr().err == ""
    app.unforeseen(RuntimeError("first line"), ["serve", "--log-level=debug"])
    assert "RuntimeError" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error_of_ours(tmp_path: Path) -> None:
    with subprocess.Popen(
        command("serve", "--help"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
