"""Logging, set up once per process: structlog and the standard library's loggers, one form, to stderr.

No secret reaches a line: values under telling keys are left out, tokens and passwords inside texts are starred.
"""

import logging
import re
import sys
from collections.abc import Iterable, MutableMapping
from functools import partial
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

QUIET_LOGGERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "litestar", "websockets", "httpx", "httpcore", "asyncio")

_SECRET_WORDS = frozenset({"token", "tokens", "secret", "password", "authorization", "credentials"})
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]*\.?[\w-]*")
_URL_USER = re.compile(r"://[^/@\s]*@")
_NESTING_MAX = 4


def configure(
    level: str,
    style: Literal["auto", "console", "json"] = "auto",
    stream: TextIO | None = None,
    worker: int | None = None,
) -> None:
    """Send every log line from `level` ("debug" … "error") upwards to stderr; libraries only from warning upwards.

    Every line of one of several workers bears its number. May be called again; the last call holds. Start uvicorn with
    `log_config=None`, or it brings its own handlers.
    """
    output = stream or sys.stderr
    threshold = getattr(logging, level.upper())
    as_json = style == "json" or (style == "auto" and not output.isatty())
    renderers: Iterable[structlog.typing.Processor] = _json() if as_json else _console(output)
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        hide_secrets,
    ]
    if worker is not None:
        before.insert(0, partial(_of_worker, worker))
    structlog.configure(
        processors=[*before, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=output),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *before],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(threshold)
    for name in QUIET_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(threshold, logging.WARNING))


def _of_worker(worker: int, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["worker"] = worker
    return event


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leave out what is named like a secret, and star what looks like one inside a text."""
    return _hide(event, _NESTING_MAX)


def _hide(values: MutableMapping[Any, Any], depth: int) -> dict[Any, Any]:
    return {key: _starred(value, depth) for key, value in values.items() if not _is_secret(key)}


def _is_secret(key: object) -> bool:
    return isinstance(key, str) and key.lower().replace("-", "_").rpartition("_")[2] in _SECRET_WORDS


def _starred(value: object, depth: int) -> object:
    if isinstance(value, str):
        return starred(value)
    if depth and isinstance(value, dict):
        return _hide(value, depth - 1)
    if depth and isinstance(value, list | tuple):
        return [_starred(item, depth - 1) for item in value]
    return value


def starred(text: str) -> str:
    """The text without the tokens and the URL passwords in it."""
    if "eyJ" in text:
        text = _JWT.sub("***", text)
    if "@" in text:
        text = _URL_USER.sub("://***@", text)
    return text


def _star_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if isinstance(trace := event.get("exception"), str):
        event["exception"] = starred(trace)
    return event


# Exceptions never show local variables: tokens are among them.


def _json() -> list[structlog.typing.Processor]:
    return [structlog.processors.format_exc_info, _star_exception, structlog.processors.JSONRenderer()]


def _console(output: TextIO) -> list[structlog.typing.Processor]:
    return [
        structlog.processors.format_exc_info,
        _star_exception,
        structlog.dev.ConsoleRenderer(
            colors=output.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        ),
    ]
