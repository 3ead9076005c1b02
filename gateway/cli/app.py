"""Every command, what its errors look like, and the last resort when one fails in a way nobody thought of."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from cyclopts import App, CycloptsError, UnusedCliTokensError
from rich.console import Console
from rich.text import Text

from gateway import __version__
from gateway.cli.failure import FAILED, USAGE, Failed, explained
from gateway.log import starred

INTERRUPTED = 130

_COMMANDS = (
    ("serve", "gateway.cli.serve:serve", "Run the gateway."),
    ("check", "gateway.cli.check:check", "Tell everything that serve would mind, all at once."),
    ("health", "gateway.cli.health:health", "Ask a running gateway whether it can do its job."),
    ("connect", "gateway.cli.connect:connect", "Be a user: an interactive client in the terminal."),
    ("token", "gateway.cli.token:token", "Issue an access token."),
    ("ctl", "gateway.cli.ctl:app", "Ban, kick, list and change things while everything runs."),
    ("docs", "gateway.cli.docs:docs", "Write the generated documents."),
)


def build() -> App:
    """The command line as one App."""
    app = App(
        name="gateway",
        help="A self-hosted real-time WebSocket connection gateway.",
        version=__version__,
        help_format="plaintext",
        result_action="return_value",
        error_formatter=_faulty,
        error_console=Console(stderr=True, soft_wrap=True, highlight=False),
        # Ctrl-C is a status of its own, not a traceback and not a success.
        suppress_keyboard_interrupt=False,
    )
    for place, (name, path, text) in enumerate(_COMMANDS):
        app.command(path, name=name, help=text, sort_key=place)
    return app


def run(arguments: Sequence[str]) -> int:
    """Runs one command line.

    Returns:
        The exit status: 0 success, 1 failed or refused, 2 wrong usage or settings, 130 interrupted.
    """
    # PyJWT's, about short secrets: `serve` says it once, in words for the person (banner.py).
    warnings.filterwarnings("ignore", message="The HMAC key is ")
    try:
        status = build()(arguments, exit_on_error=False)
    except CycloptsError:
        # Already printed, by `_faulty`.
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not try to flush the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        failure = explained(error) or unforeseen(error, arguments)
        complain(*failure.lines)
        return failure.status
    return status if isinstance(status, int) else 0


def complain(*lines: str) -> None:
    """Prints lines on stderr."""
    for line in lines:
        sys.stderr.write(f"gateway: {line}\n")
    sys.stderr.flush()


def _faulty(error: CycloptsError) -> Text:
    # "… serve", where it is known in which command the fault is.
    chain = " ".join(("gateway", *(error.command_chain or ())))
    if isinstance(error, UnusedCliTokensError):
        left = " ".join(error.unused_tokens or ())
        return Text(
            f"gateway: not understood: {left} (what is yes or no is --name or --no-name, without a value)\n"
            f"See {chain} --help."
        )
    return Text(f"gateway: {error}\nSee {chain} --help.")


def unforeseen(error: Exception, arguments: Sequence[str]) -> Failed:
    """Something that is a fault of this program."""
    shown = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if _debugging(arguments):
        sys.stderr.write(starred("".join(traceback.format_exception(error))))
    return Failed(f"internal error: {starred(shown.splitlines()[0])} (--log-level debug shows more)")


def _debugging(arguments: Sequence[str]) -> bool:
    given = " ".join(arguments).replace("=", " ")
    return "--log-level debug" in given or os.environ.get("GATEWAY_LOG_LEVEL", "").lower() == "debug"
