"""Where settings come from: `gateway.toml`, the environment, flags; merged in that order and checked together."""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gateway.config.faults import ConfigError, Fault
from gateway.config.rules import RULES, Rule, Rules
from gateway.config.settings import Config, Setting, settings_table
from gateway.config.values import parse


def load(flags: Mapping[str, object], environ: Mapping[str, str], toml: Path | None, more: Rules = ()) -> Config:
    """Merge the sources and check the result.

    Args:
        flags: by field name; a value may be typed or text, None means not given.
        environ: the process environment; only `GATEWAY_*` is looked at, an empty value means not given.
        toml: the settings file, None where there is none.
        more: rules beside this package's own, over what only the caller knows.

    Raises:
        ConfigError: with every fault of every source, not only the first.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    faults: list[Fault] = []
    rows = {row.name: row for row in settings_table()}
    for source, key, value, typed in _given(flags, environ, toml, faults):
        row = rows.get(key)
        if row is None:
            faults.append(Fault(source, key, _tables(value) or "unknown setting" + _nearest(source, key, rows)))
            continue
        sources[key] = source
        try:
            values[key] = parse(row, value, typed=typed)
        except ValueError as error:
            faults.append(Fault(source, key, str(error)))
    config = Config(**values)
    faulty = {fault.key for fault in faults}
    for keys, check in RULES:
        # A rule over a setting that is already faulty would only complain about its default.
        if faulty.isdisjoint(keys):
            faults += _judge(keys, check, config, sources)
    faulty = {fault.key for fault in faults}
    for keys, check in more:
        # They may rest on what the rules above look at.
        if faulty.isdisjoint(keys):
            faults += _judge(keys, check, config, sources)
    if faults:
        raise ConfigError(faults)
    return config


def _judge(keys: tuple[str, ...], check: Rule, config: Config, sources: Mapping[str, str]) -> Iterator[Fault]:
    problem = check(config)
    if problem:
        key = next((key for key in keys if key in sources), keys[0])
        yield Fault(sources.get(key, key), key, problem)


# Kubernetes and Docker give every container such variables for a service called "gateway…".
_SERVICE_LINK = re.compile(r"GATEWAY_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP)(?:_\w+)?)")


def _given(
    flags: Mapping[str, object], environ: Mapping[str, str], toml: Path | None, faults: list[Fault]
) -> Iterator[tuple[str, str, object, bool]]:
    """Yield (source, key, value, whether the source has types) from the lowest source to the highest."""
    if toml is not None:
        for key, value in _read_toml(toml, faults).items():
            yield f"{toml.name}: {key}", key, value, True
    for name, text in environ.items():
        is_link = _SERVICE_LINK.fullmatch(name) or text.startswith(("tcp://", "udp://"))
        key = name.removeprefix("GATEWAY_").lower()
        known = key in Config.__dataclass_fields__
        if name.startswith("GATEWAY_") and text and (known or not is_link):
            yield name, key, text, False
    for key, flag in flags.items():
        if flag is not None:
            yield "--" + key.replace("_", "-"), key.replace("-", "_"), flag, False


def _read_toml(path: Path, faults: list[Fault]) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        problem = "is not UTF-8 text"
    except tomllib.TOMLDecodeError as error:
        problem = f"is not valid TOML: {error}"
    faults.append(Fault(str(path), "", problem))
    return {}


def _tables(value: object) -> str | None:
    """The problem of a `[table]` in the file."""
    if not isinstance(value, dict):
        return None
    example = next((name for name in value if name in Config.__dataclass_fields__), None)
    given = value.get(example)
    # Only numbers and switches: a text may be a secret.
    shown = str(given).lower() if isinstance(given, int | float) else "…"
    return f"tables are not used; write {example or 'the setting'} = {shown} at the top"


def _nearest(source: str, key: str, rows: Mapping[str, Setting]) -> str:
    for name in difflib.get_close_matches(key, rows, n=1, cutoff=0.6):
        row = rows[name]
        hint = row.flag if source.startswith("--") else row.env if source.startswith("GATEWAY_") else name
        return f"; did you mean {hint}?"
    return ""
