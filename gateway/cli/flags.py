"""Settings as flags: every command takes those it needs, generated from the settings table."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

from cyclopts import Group, Parameter

from gateway.cli import opening
from gateway.cli.failure import USAGE, Failed
from gateway.config import Config, ConfigError, Setting, load, settings_table

DEFAULT_FILE = Path("gateway.toml")

SECTIONS: Mapping[str, str] = {
    "client_host": "Where it listens",
    "redis_url": "Store",
    "app_key": "Credentials and tokens",
    "jwt_algorithms": "Tokens made by the app",
    "tls_cert": "Who may connect",
    "auth_timeout_s": "One connection",
    "inbox_max": "What is kept",
    "list_call_max": "Admin side",
    "webhook_url": "Webhooks",
    "drain_s": "Stopping and logging",
}
"""The setting that begins each section of the help and of docs/config.md."""

COMMON = ("data_dir", "redis_url", "partitions", "log_level")
"""What a command needs to find a running gateway; the rest it takes from file and environment."""


class Given(NamedTuple):
    """The settings that a command line gave: flags by name, and the file."""

    flags: Mapping[str, object]
    file: Path | None

    def load(self, environ: Mapping[str, str]) -> Config:
        """Merges flags, environment and file.

        Raises:
            Failed: with a line for every fault, status 2.
        """
        file = self.file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
        try:
            return load(self.flags, environ, file, opening.RULES)
        except ConfigError as error:
            raise Failed(*map(str, error.faults), status=USAGE) from error


def sections() -> list[tuple[str, list[Setting]]]:
    """The settings table by section."""
    found: list[tuple[str, list[Setting]]] = []
    for row in settings_table():
        if row.name in SECTIONS or not found:
            found.append((SECTIONS.get(row.name, "Settings"), []))
        found[-1][1].append(row)
    return found


def with_settings(*names: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Gives a command flags for these settings (all of them where none is named) and `--config`.

    The command gets them as its first argument, a ``Given``.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        own = list(inspect.signature(command).parameters.values())[1:]
        hints = get_type_hints(command, include_extras=True)
        parameters = [each.replace(annotation=hints[each.name]) for each in own] + _parameters(names)

        def called(*arguments: Any, **options: Any) -> int:
            file = options.pop("config", None)
            flags = {row.name: options.pop(row.name) for row in settings_table() if row.name in options}
            return command(Given(flags, file), *arguments, **options)

        called.__name__, called.__doc__, called.__module__ = command.__name__, command.__doc__, command.__module__
        called.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": int}
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return called

    return decorate


def _parameters(names: tuple[str, ...]) -> list[inspect.Parameter]:
    parameters = [_keyword("config", Annotated[Path | None, _CONFIG])]
    for place, (title, rows) in enumerate(sections()):
        group = Group(title if not names else "Settings", sort_key=place + 10 if not names else 10)
        parameters += [_keyword(row.name, _annotation(row, group)) for row in rows if not names or row.name in names]
    return parameters


_CONFIG = Parameter(
    name="--config",
    help=f"Settings file; without it {DEFAULT_FILE} of this directory where there is one.",
    show_default=False,
    group=Group("Settings file", sort_key=9),
)


def _keyword(name: str, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _annotation(row: Setting, group: Group) -> Any:
    # Values stay text here: `config.load` reads them, and tells all faults of all sources at once.
    kind = bool if row.type is bool else str
    parameter = Parameter(name=row.flag, help=f"{row.help} [{row.env}; {shown_default(row)}]", group=group, negative="")
    if kind is bool:
        parameter = Parameter(name=row.flag, help=f"{row.help} [{row.env}; {shown_default(row)}]", group=group)
    return Annotated[kind | None, parameter, Parameter(show_default=False)]


def shown_default(row: Setting) -> str:
    """A setting's default in words."""
    if row.default is None or row.default == ():
        return "none"
    if isinstance(row.default, bool):
        return "yes" if row.default else "no"
    if isinstance(row.default, tuple):
        return ",".join(row.default)
    return f"{row.default:g}" if isinstance(row.default, float) else str(row.default)
