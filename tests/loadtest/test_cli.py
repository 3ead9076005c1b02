"""The command line: what there is, what it says to wrong words, and its statuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest import loaded
from loadtest.cli import FAILED, USAGE, main
from loadtest.peers.registry import PEERS
from loadtest.report import html
from loadtest.result import Machine, Result
from loadtest.scenario import keys, shipped
from tests.loadtest.runs import measured, run


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A run's result."""
    path = tmp_path / "run.json"
    machine = Machine(architecture="x86_64", cores=2)
    Result(name="chat", scenario={}, machine=machine, started_at="2026-01-01T00:00:00+00:00", seconds=1.0).write(path)
    return path


def test_without_words_it_tells_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    for word in ("run", "report", "compare", "budget", "peers", *shipped()):
        assert word in shown


def test_the_help_of_run_tells_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--help"]) == 0
    shown = capsys.readouterr().out
    for key in keys().keys() - {"phases"}:
        assert f"--{key.replace('_', '-')}" in shown


def test_the_help_of_peers_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["peers", "--help"]) == 0
    # A help's lines are broken where the terminal ends.
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert ", ".join(PEERS) in shown


@pytest.mark.parametrize("missing", ["hdrh", "cyclopts"])
def test_without_what_it_needs_it_says_how_to_get_it(tmp_path: Path, missing: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\n")
    status, output = run("run", "chat", "--start", "", PYTHONPATH=str(tmp_path))
    assert (status, output) == (
        2,
        f"loadtest: {missing} is not installed: make loadtest, or pip install -e '.[loadtest]'\n",
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["walk"], "walk"),
        (["run"], "scenario"),
        (["run", "chatt"], "did you mean chat"),
        (["run", "chat", "--usres", "5"], "--usres: no such key; did you mean users?"),
        (["run", "chat", "--start", "", "--peer", "bare"], "only one service"),
        (["run", "chat", "--json", "/no/such/directory/x.json"], "no such directory"),
        (["run", "chat", "--json", "/proc/x.json"], "/proc/x.json: no file can be made"),
        (["run", "chat", "--html", "/proc"], "/proc: a directory"),
        (["run", "chat", "--start", "no-such-program serve"], "no-such-program: No such file"),
        (["run", "chat", "--start", "gateway 'serve"], "No closing quotation"),
        (["run", "chat", "--start", "true"], "ended with status 0"),
        (["run", "chat", "--app-key", "key"], "--app-secret: one is of no use without the other"),
        (["run", "chat", "--api", "http://127.0.0.1:8081"], "give its --url"),
        (["budget", "--json", "/proc/x.json"], "/proc/x.json: no file can be made"),
        (["peers", "--json", "/proc/x.json"], "/proc/x.json: no file can be made"),
        (["run", "chat", "--peer", "nobody"], "nobody"),
        (["report", "/no/such/file.json"], "/no/such/file.json"),
        (["compare"], "compare A.json B.json"),
        (["compare", "one.json"], "compare A.json B.json"),
        (["compare", "one.json", "--"], "compare A.json B.json"),
        (["compare", "one.json", "two.json", "three.json"], "compare A.json B.json"),
    ],
)
def test_wrong_words_are_told_apart_from_failed_runs(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == USAGE
    shown = capsys.readouterr()
    assert said.lower() in (shown.out + shown.err).lower()
    assert "Traceback" not in shown.err


def test_no_line_of_the_help_is_wider_than_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["run", "--help"]):
        assert main(words) == 0
        epilogue = capsys.readouterr().out.partition("Scenarios:" if not words else "Keys of a scenario:")[2]
        # What goes on in the next line stands in the same column: only names stand in front of it.
        assert {len(line) - len(line.lstrip()) for line in epilogue.strip("\n").splitlines()} <= {2, 14, 24}


def test_a_result_that_cannot_be_written_any_more_is_told(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(result), "-o", "/dev/full"]) == FAILED
    assert "/dev/full: No space left on device" in capsys.readouterr().err


def test_a_report_does_not_take_the_place_of_its_result(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = result.read_bytes()
    link = result.with_suffix(".html")
    link.symlink_to(result)
    for words in (["-o", str(result)], ["-o", str(link)], []):
        assert main(["report", str(result), *words]) == USAGE
        assert "the result itself" in capsys.readouterr().err
    assert result.read_bytes() == before


def test_one_file_for_result_and_report_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, same = tmp_path / "one", tmp_path / "." / "x" / ".." / "one"
    (tmp_path / "x").mkdir()
    assert main(["run", "chat", "--json", str(one), "--html", str(same)]) == USAGE
    assert "named twice" in capsys.readouterr().err
    assert not one.exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ((None, None, None, None), "gateway serve"),
        ((None, None, "", None), "gateway serve"),
        ((None, None, None, "bare"), "--peer bare"),
        (("ws://me:word@host:1/v1/connect", None, None, None), "--url ws://***@host:1/v1/connect"),
        ((None, Path("data"), None, None), "--data-dir data"),
        (
            (
                None,
                None,
                "gateway serve --app-secret=a --jwt-secret 'b c' --previous-app-secret-until 9 --drain-s 1",
                None,
            ),
            "gateway serve --app-secret=*** --jwt-secret *** --previous-app-secret-until 9 --drain-s 1",
        ),
        ((None, None, "gateway serve --redis-url redis://:a@host", None), "gateway serve --redis-url redis://***@host"),
    ],
)
def test_what_was_loaded_is_told_without_secrets(
    flags: tuple[str | None, Path | None, str | None, str | None], told: str
) -> None:
    assert loaded.words(*flags) == told


def test_a_result_says_what_was_loaded(tmp_path: Path) -> None:
    command = "gateway serve --drain-s 0.5"
    found = measured(tmp_path, "chat", "--users", "2", "--seconds", "0.2", "--warm-s", "0", "--start", command)
    assert found.loaded == command
    assert command in html(found)


def test_a_report_lies_beside_its_result(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(result)]) == 0
    written = Path(capsys.readouterr().out.strip())
    assert written == result.with_suffix(".html")
    assert "<html" in written.read_text()
    elsewhere = result.with_name("other.html")
    assert main(["report", str(result), "-o", str(elsewhere)]) == 0
    assert elsewhere.exists()
