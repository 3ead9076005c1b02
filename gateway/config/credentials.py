"""The app's key and secret: given by the settings, or made once and kept in the data directory."""

import dataclasses
import datetime
import fcntl
import json
import os
import secrets
from pathlib import Path
from typing import NamedTuple, Self

from gateway.config.faults import ConfigError, Fault
from gateway.config.settings import Config


class Secret(NamedTuple):
    """One app secret.

    Attributes:
        value: the secret itself.
        until_ms: Unix ms after which it is no longer accepted; None = no end.
    """

    value: str
    until_ms: int | None = None

    def valid(self, now_ms: int) -> bool:
        """Whether it may still sign."""
        return self.until_ms is None or now_ms < self.until_ms


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """The app's key (public) and secret (signs tokens and Server API calls)."""

    app_key: str
    app_secret: str = dataclasses.field(repr=False)

    def secrets(self, config: Config) -> tuple[Secret, ...]:
        """What may sign tokens and calls: the present secret first, then the one before it until its date."""
        present = Secret(self.app_secret)
        if config.previous_app_secret is None:
            return (present,)
        until = config.previous_app_secret_until
        if until is None:
            return (present, Secret(config.previous_app_secret))
        aware = until if until.tzinfo is not None else until.replace(tzinfo=datetime.UTC)
        return (present, Secret(config.previous_app_secret, int(aware.timestamp() * 1000)))

    @classmethod
    def load_or_create(cls, data_dir: Path, config: Config) -> Self:
        """Take them from the config; what it leaves out comes from `credentials.json`, made at the first start.

        Safe for processes that start at the same time: one makes the file, all read it. A file that others may read
        gets its mode 0600 back.

        Raises:
            ConfigError: the directory cannot be written, or the file is damaged or cannot be protected.
        """
        if config.app_key is not None and config.app_secret is not None:
            return cls(config.app_key, config.app_secret)
        path = data_dir / "credentials.json"
        try:
            if not path.exists():
                _create_credentials(path)
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
            content = path.read_bytes()
        except OSError as error:
            problem = f"cannot be read or written by this user: {error.strerror}"
            raise ConfigError([Fault(str(path), "data_dir", problem)]) from error
        kept = _parse_credentials(path, content)
        return cls(config.app_key or kept["app_key"], config.app_secret or kept["app_secret"])


def _create_credentials(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        problem = f"cannot be made: {error.strerror}; see --data-dir"
        raise ConfigError([Fault(f"data directory {path.parent}", "data_dir", problem)]) from error
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        if path.exists():
            return
        content = json.dumps({"app_key": secrets.token_hex(8), "app_secret": secrets.token_hex(32)}, indent=2)
        # Renamed when complete, so that nobody ever reads half a file, not even after a power cut.
        draft = path.with_name(f".credentials.{secrets.token_hex(4)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        os.fsync(directory)
    finally:
        os.close(directory)


def _parse_credentials(path: Path, content: bytes) -> dict[str, str]:
    try:
        kept = json.loads(content)
        if all(isinstance(kept[name], str) and kept[name] for name in ("app_key", "app_secret")):
            return {"app_key": kept["app_key"], "app_secret": kept["app_secret"]}
    except (ValueError, LookupError, TypeError):
        pass
    problem = (
        "is damaged: no app_key and app_secret in it. Restore it from a backup, or remove it to get new ones; "
        "tokens issued so far then end"
    )
    raise ConfigError([Fault(str(path), "app_secret", problem)])
