import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from gateway.log import configure

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    configure("info", "json", stream)
    return stream


def test_both_kinds_of_loggers_end_in_one_form(stream: io.StringIO) -> None:
    structlog.get_logger().info("listening", port=8080)
    logging.getLogger("some.library").info("%s is up", "it")
    ours, theirs = lines(stream)
    assert (ours["event"], ours["port"], ours["level"]) == ("listening", 8080, "info")
    assert (theirs["event"], theirs["logger"], theirs["level"]) == ("it is up", "some.library", "info")
    assert ours["timestamp"].endswith("Z")


def test_levels(stream: io.StringIO) -> None:
    structlog.get_logger().debug("not shown")
    logging.getLogger("uvicorn.access").info("not shown")
    logging.getLogger("websockets.server").info("not shown")
    logging.getLogger("uvicorn.error").warning("shown")
    assert [line["event"] for line in lines(stream)] == ["shown"]


def test_secrets_are_left_out(stream: io.StringIO) -> None:
    structlog.get_logger().info(
        "call",
        token="t",
        app_secret="s",
        headers={"Authorization": "Bearer t", "Accept": "*"},
        list=[{"password": "p", "user": "alice"}],
        token_expires_at=5,
    )
    (line,) = lines(stream)
    assert {key for key in line if key not in ("event", "level", "timestamp")} == {
        "headers",
        "list",
        "token_expires_at",
    }
    assert (line["headers"], line["list"]) == ({"Accept": "*"}, [{"user": "alice"}])


def test_secrets_inside_texts_are_starred(stream: io.StringIO) -> None:
    logging.getLogger("httpx").warning("GET /v1/connect?token=%s from redis://u:hunter2@host", TOKEN)
    try:
        raise ValueError(f"bad {TOKEN}")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert TOKEN not in stream.getvalue()
    assert "hunter2" not in stream.getvalue()
    assert "ValueError: bad ***" in lines(stream)[1]["exception"]


def test_console_form_shows_no_local_variables() -> None:
    stream = io.StringIO()
    configure("info", "console", stream)
    password_in_a_variable = "hunter" + "2"
    try:
        raise ValueError(len(password_in_a_variable))
    except ValueError:
        structlog.get_logger().exception("failed", user="alice")
    text = stream.getvalue()
    assert "failed" in text
    assert "user=alice" in text
    assert "ValueError: 7" in text
    assert "hunter2" not in text
    assert "\x1b" not in text


def test_auto_is_json_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    configure("info", "auto", stream)
    structlog.get_logger().info("x")
    assert lines(stream)[0]["event"] == "x"
