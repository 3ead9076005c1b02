from __future__ import annotations

from urllib.parse import quote, quote_plus, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.api.errors import Problem
from gateway.api.v1.body import read

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.tuples(TEXT, TEXT), max_size=8))
@example([("a", "%=&+ ~"), ("a", "=3D\r\n"), ("", "=\n")])
def test_what_was_escaped_comes_back(pairs: list[tuple[str, str]]) -> None:
    for escape in (quote_plus, lambda text: quote(text, safe="")):
        fields: dict[str, list[str]] = {}
        for name, value in pairs:
            fields.setdefault(name, []).append(value)
        assert read(None, "&".join(f"{escape(name)}={escape(value)}" for name, value in pairs).encode()) == fields


@given(st.binary() | st.text('%=&+4aFé{}\r\n" :,').map(str.encode))
@example(b"%")
@example(b"a=%zz%3")
@example(b"=%\n")
@example(b"{}")
def test_any_bytes_are_fields_or_a_refusal(body: bytes) -> None:
    for content_type in (None, "application/json", "application/x-www-form-urlencoded"):
        try:
            fields = read(content_type, body)
        except Problem:
            continue
        assert all(isinstance(name, str) and isinstance(values, list) for name, values in fields.items())


@given(st.text("%=45zG+ \r\n\\", max_size=12))
def test_stray_percent_signs_stand_for_themselves(value: str) -> None:
    expected = unquote_to_bytes(value.replace("+", " ")).decode()
    assert read(None, f"v={value}".encode()) == {"v": [expected]}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", {}),
        (b"&&", {}),
        (b"a", {"a": [""]}),
        (b"a=1&b=&a=2", {"a": ["1", "2"], "b": [""]}),
        (b'content={"a":"b=c?d:e/f"}', {"content": ['{"a":"b=c?d:e/f"}']}),
        (
            b'{"a": 1, "b": [2, 3], "c": null, "d": [], "e": {"f": 1}}',
            {"a": [1], "b": [2, 3], "d": [], "e": [{"f": 1}]},
        ),
    ],
)
def test_fields(body: bytes, fields: dict[str, object]) -> None:
    assert read("application/x-www-form-urlencoded", body) == fields
