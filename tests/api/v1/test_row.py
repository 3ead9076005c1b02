"""The table itself: what a row promises about the v4 row behind it."""

from __future__ import annotations

import re

import msgspec
import pytest

from gateway.api import v1, v4
from gateway.api.v1.dialect import speaks_v1
from gateway.api.v1.row import Row

ROWS = pytest.mark.parametrize("row", v1.ROWS, ids=lambda row: row.paths[0])


def test_every_path_is_served_once_and_known_for_v1() -> None:
    paths = [path for row in v1.ROWS for path in row.paths]
    assert len(paths) == len(set(paths))
    assert all(re.fullmatch(r"(/v3)?/(user|friend|message)(/[A-Za-z]+)+\.json", path) for path in paths)
    assert all(speaks_v1(path) for path in paths)
    assert not any(speaks_v1(path) for row in v4.OPERATIONS for path in row.paths)
    assert not speaks_v1("/v4/user/get.json")


@ROWS
def test_a_row_stands_for_a_served_one(row: Row) -> None:
    assert row.operation in v4.OPERATIONS


@ROWS
def test_every_field_exists_in_v4_and_none_that_v4_needs_is_missing(row: Row) -> None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(row.operation.asks)}
    wires = [parameter.wire for parameter in row.parameters]
    assert len(wires) == len(set(wires))
    assert set(wires) <= set(fields)
    assert {name for name, field in fields.items() if field.required} <= set(wires)


@ROWS
def test_names_are_used_once(row: Row) -> None:
    names = [parameter.name for parameter in row.parameters]
    assert len(names) == len(set(names))
