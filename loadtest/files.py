"""Files that commands leave: asked for before the work begins, and written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


class FileFault(Exception):
    """A file could not be written; the message says which and why."""


def faults(*paths: Path | None) -> list[str]:
    """Why files cannot be written, as far as that can be known beforehand: it must not cost a run."""
    found: list[str] = []
    named: set[Path] = set()
    for path in paths:
        if path is None:
            continue
        if path.resolve() in named and not _is_other(path):
            found.append(f"{path}: named twice; one would take the other's place")
        named.add(path.resolve())
        if not path.parent.is_dir():
            found.append(f"{path}: no such directory: {path.parent}")
        elif path.is_dir():
            found.append(f"{path}: a directory; name a file in it")
        elif _is_other(path):
            if not os.access(path, os.W_OK):
                found.append(f"{path}: may not be written")
        else:
            draft = _draft(path)
            try:
                draft.touch()
            except OSError as error:
                found.append(f"{path}: no file can be made in {path.parent}: {error.strerror or error}")
            finally:
                if draft.exists():
                    draft.unlink()
    return found


def put(path: Path, content: str | bytes) -> None:
    """Writes all of it or nothing: an earlier file stays whole until the new one takes its place.

    Args:
        path: a file, a link to one, or what is no file (a device, a pipe), which stays what it is.
        content: a text is written in UTF-8.

    Raises:
        FileFault: it cannot be written.
    """
    raw = content.encode() if isinstance(content, str) else content
    try:
        if _is_other(path):
            path.write_bytes(raw)
            return
        # Of a link, what it leads to is replaced.
        place = path.resolve()
        draft = _draft(place)
        try:
            draft.write_bytes(raw)
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise FileFault(f"{path}: {error.strerror or error}") from None


def _is_other(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")
