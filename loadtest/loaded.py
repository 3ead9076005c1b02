"""How a result tells what was loaded: as the command line had it, without what is secret."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.config.redact import without_password

# Addresses of webhooks often hold a token.
SECRET = re.compile(r"""(--(?:[a-z-]*secret|webhook-url)(?:=|\s+))('[^']*'|"[^"]*"|\S+)""")


def words(url: str | None, data_dir: Path | None, start: str | None, peer: str | None) -> str:
    """The command that starts it, or where it runs already."""
    if peer:
        told = f"--peer {peer}"
    elif url or data_dir:
        told = " ".join(f"{flag} {value}" for flag, value in (("--url", url), ("--data-dir", data_dir)) if value)
    else:
        told = start or "gateway serve"
    return str(without_password(SECRET.sub(r"\1***", told)))
