"""Bodies and templates: three numbers filled in, and read again."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import stamp
from loadtest.dialect import GatewayDialect
from loadtest.wire import frame

URL = "ws://127.0.0.1:1/v1/connect"
NAME = stamp.stream(b"ltab-0", b"ltab-1")


@given(st.integers(10_000_000, 99_999_999), st.integers(1, 10**10 - 1), st.integers(0, 10**14 - 1), st.booleans())
def test_what_is_sent_can_be_read(number: int, n: int, at: int, ephemeral: bool) -> None:
    name = stamp.stream(b"ltab-0", b"ltab-1", ephemeral=ephemeral)
    body, mark = stamp.sample(name, 120)
    payload = GatewayDialect(URL).message("ltab-1", body, mark, ephemeral=ephemeral)
    whole = stamp.template(frame(payload)) % (number, n, at)
    # Behind the frame's header and its mask of four zero bytes.
    sent = whole[8:]
    command = orjson.loads(sent)
    assert (command["type"], command["id"], command["to"]) == ("send", str(number), "ltab-1")
    assert command.get("ephemeral", False) is ephemeral
    assert stamp.read(sent) == (name, n, at)


@pytest.mark.parametrize("size", [80, 120, 1000, 5000])
def test_a_body_has_the_size_that_is_asked_for(size: int) -> None:
    assert len(stamp.sample(NAME, size)[0]) == size


def test_servers_may_write_the_body_anew() -> None:
    body = orjson.loads(stamp.body(NAME, b"7", b"81", 100))
    assert stamp.read(b'{"type":"message","body":' + orjson.dumps(body) + b"}") == (NAME, 7, 81)


@pytest.mark.parametrize("payload", [b"", b'{"type":"message"}', b'{"n":x,"s":"a","at":1,', b'{"n":1,"s":"a"}'])
def test_what_is_no_body_of_ours_is_none(payload: bytes) -> None:
    assert stamp.read(payload) is None


def test_a_message_with_its_number_behind_the_body_is_refused() -> None:
    body, mark = stamp.sample(NAME, 120)
    with pytest.raises(ValueError, match="its number, then its body"):
        stamp.template(body + mark)


def test_a_per_cent_sign_stays_one() -> None:
    body, mark = stamp.sample(NAME, 120)
    assert (stamp.template(b"5%d" + mark + body) % (10_000_001, 1, 2)).startswith(b"5%d10000001")
