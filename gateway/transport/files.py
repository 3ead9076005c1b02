"""Files that come with the package and are served on the client port, each kept in memory."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

from websockets.http11 import Request

from gateway.transport.answers import Answer

PACKAGE = Path(__file__).parent.parent

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ts": "application/typescript; charset=utf-8",
}
"""Media types by the end of a file's name."""

ASKED_AGAIN = ("Cache-Control", "no-cache")
"""Kept by browsers and asked about each time: a page must not run last release's code, and a 304 costs little."""

AS_NAMED = ("X-Content-Type-Options", "nosniff")

FOR_ANY_PAGE = (
    ("Access-Control-Allow-Origin", "*"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
)
"""A module of another origin is only run where this says so; it is public, and no cookie opens anything here."""


class File:
    """One file.

    Args:
        path: where it is; read once.
        headers: header fields of its answers beside those of every file.

    Raises:
        OSError: It cannot be read.
    """

    def __init__(self, path: Path, headers: tuple[tuple[str, str], ...] = ()) -> None:
        body = path.read_bytes()
        self.tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = (("ETag", self.tag), ASKED_AGAIN, AS_NAMED, *headers)
        self._whole = Answer(200, body, TYPES[path.suffix], headers)
        self._unchanged = Answer(304, b"", "", headers)

    def answer(self, request: Request) -> Answer:
        """What GET and HEAD get; other methods are refused."""
        if request.method not in ("GET", "HEAD"):
            return Answer.fault(405, "only GET and HEAD", Allow="GET, HEAD")
        return self._unchanged if self._known(request) else self._whole

    def _known(self, request: Request) -> bool:
        # RFC 9110 section 13.1.2: compared weakly.
        tags = [tag.strip() for value in request.headers.get_all("If-None-Match") for tag in value.split(",")]
        return any(tag == "*" or tag.removeprefix("W/") == self.tag for tag in tags)


@functools.cache
def sdk() -> Mapping[str, File]:
    """The JavaScript SDK by request path: one module, and its types."""
    return {f"/sdk/{name}": File(PACKAGE / "sdk" / name, FOR_ANY_PAGE) for name in ("gateway.js", "gateway.d.ts")}
