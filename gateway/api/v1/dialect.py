"""Which requests belong to the v1 dialect, and how it words an error.

Its errors have HTTP status and code of the v4 ones, the v1 names of fields in the message and the path beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.types import ExceptionHandler, ExceptionHandlersMap

from gateway.api.errors import ErrorBody, Problem

NAMES = "v1_names"
"""The option of a route that maps the v4 names of its fields to the v1 names."""

_FIELDS = re.compile(r"^[A-Za-z]+(?=[\[.:])|\b[a-z]+(?:[A-Z][a-z]+)+\b")
"""What in a message is the name of a field: whatever it begins with, and further on what only names look like."""


def speaks_v1(path: str) -> bool:
    """Whether a path is of this dialect: its paths all end in ``.json``, those of v4 never do."""
    return path.endswith(".json") and not path.startswith("/v4/")


def in_dialect(handlers: ExceptionHandlersMap) -> ExceptionHandlersMap:
    """The handlers of exceptions, with v1 errors worded as v1 does."""
    return {kind: _worded(handler) for kind, handler in handlers.items()}


def error_body(content: Any, path: str, names: Mapping[str, str]) -> dict[str, Any]:
    """An error of v4 as v1 writes it.

    Args:
        content: the v4 error.
        path: of the request.
        names: v4 name of a field → v1 name.
    """
    body: dict[str, Any] = {**msgspec.to_builtins(content), "url": path}
    body["errorMessage"] = _FIELDS.sub(lambda found: names.get(found[0], found[0]), body["errorMessage"])
    return body


def error_json(problem: Problem, path: str) -> bytes:
    """The body of a refusal that came before routing."""
    return msgspec.json.encode(error_body(ErrorBody(problem.code, problem.message), path, {}))


def _worded(handler: Any) -> ExceptionHandler[Any]:
    def worded(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
        response: Response[Any] = handler(request, error)
        path = request.scope["path"]
        if speaks_v1(path):
            # There is no route where the path is not served.
            route: Any = request.scope.get("route_handler")
            names = route.opt.get(NAMES, {}) if route is not None else {}
            response.content = error_body(response.content, path, names)
        return response

    return worded
