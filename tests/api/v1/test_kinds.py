from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from gateway.api.v1.kinds import Kind, boolean, integer, json_object, many, switch, text


@pytest.mark.parametrize(
    ("kind", "values", "read"),
    [
        (text, ["a"], "a"),
        (text, ["a", "b"], "a"),
        (text, [""], UNSET),
        (text, [], UNSET),
        (text, [7], 7),
        (many, ["a"], ["a"]),
        (many, ["a", "b"], ["a", "b"]),
        (many, ["a,b", "c"], ["a", "b", "c"]),
        (many, [",a,,b,"], ["a", "b"]),
        (many, [""], []),
        (many, [], []),
        (many, [7, "a"], [7, "a"]),
        # A space may have been a "+": it is not cut off, or one id would turn into another.
        (many, ["a, b"], ["a", " b"]),
        (integer, ["10"], 10),
        (integer, ["-1"], -1),
        (integer, [10], 10),
        (integer, [""], UNSET),
        (integer, ["1_0"], "1_0"),
        (integer, [" 1"], " 1"),
        (integer, ["\u0661"], "\u0661"),
        (integer, ["9" * 19], "9" * 19),
        (integer, [True], True),
        (boolean, ["1"], True),
        (boolean, ["TRUE"], True),
        (boolean, ["0"], False),
        (boolean, ["false"], False),
        (boolean, [1], True),
        (boolean, [False], False),
        (boolean, [""], UNSET),
        (boolean, ["yes"], "yes"),
        (boolean, [2], 2),
        (switch, ["1"], 1),
        (switch, ["false"], 0),
        (switch, [True], 1),
        (switch, [0], 0),
        (switch, ["2"], "2"),
        (json_object, ['{"a":1}'], {"a": 1}),
        (json_object, [{"a": 1}], {"a": 1}),
        (json_object, [""], UNSET),
        (json_object, ["{}"], {}),
    ],
)
def test_what_is_read(kind: Kind, values: list[Any], read: object) -> None:
    found = kind(values)
    assert found == read
    assert type(found) is type(read)


@pytest.mark.parametrize("value", ["[]", "null", "{", "text", '"{}"', 7, "[" * 100_000])
def test_what_is_no_object(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON object"):
        json_object([value])
