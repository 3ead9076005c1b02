"""Decoding commands: bounds, defaults, and what can be said about what cannot be decoded."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gateway.protocol import commands

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_a_body_is_kept_byte_for_byte() -> None:
    body = b'{ "b" : 1.50,\n"a":"\\u00e9" }'
    command = commands.decode(b'{"type":"send","id":"1","to":"bob","body":' + body + b"}")
    assert isinstance(command, commands.Send)
    assert bytes(command.body) == body


@given(json_values)
def test_any_json_is_a_body(value: object) -> None:
    encoded = msgspec.json.encode(value)
    command = commands.decode(msgspec.json.encode(commands.Send("1", "bob", Raw(encoded))))
    assert isinstance(command, commands.Send)
    assert bytes(command.body) == encoded


def test_unknown_fields_are_ignored() -> None:
    assert commands.decode(b'{"type":"ping","id":"1","colour":"red"}') == commands.Ping("1")


@pytest.mark.parametrize(
    ("payload", "where"),
    [
        (b'{"type":"send","id":"1","to":5,"body":1}', "$.to"),
        (b'{"type":"send","id":5,"to":"a","body":1}', "$.id"),
        (b'{"type":"watch","id":"1","users":["a",7]}', "$.users[1]"),
        (b'{"type":"send","id":"1","to":"a","body":1,"kind":""}', "$.kind"),
        (b'{"type":"nope"}', "$.type"),
        (b'{"id":"1"}', "type"),
    ],
)
def test_a_fault_names_its_field(payload: bytes, where: str) -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        commands.decode(payload)
    assert where in str(raised.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"01",
        b"1.",
        b"1e",
        b"-",
        b"+1",
        b".5",
        b"nul",
        b"NaN",
        b"[1,]",
        b'{"a":1,}',
        b'"\x01"',
        b'"\\q"',
        b'"\\ud8"',
    ],
)
def test_what_is_no_json_is_no_body(body: bytes) -> None:
    # A body goes out to the recipient unread, so nothing malformed may pass here.
    with pytest.raises(msgspec.DecodeError):
        commands.decode(b'{"type":"send","id":"1","to":"bob","body":' + body + b"}")


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (b'{"type":"nope","id":"7"}', "7"),
        (b'{"type":"nope","id":7}', None),
        (b'{"type":"nope","id":""}', None),
        (b'{"type":"nope","id":"' + b"x" * 65 + b'"}', None),
        (b"[]", None),
        (b"{", None),
        (b'{"type":"nope","x":' + b"[" * 50_000, None),
    ],
)
def test_the_id_of_a_bad_command_is_found_where_it_can_be(payload: bytes, found: str | None) -> None:
    assert commands.identify(payload) == found


@given(st.binary(max_size=200))
def test_bytes_decode_or_are_refused(payload: bytes) -> None:
    try:
        commands.decode(payload)
    except msgspec.MsgspecError:
        commands.identify(payload)
