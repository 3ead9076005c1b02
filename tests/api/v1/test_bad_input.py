"""Nonsense in every field of every row: refused in JSON, or taken, and never an internal error."""

from __future__ import annotations

import random

import pytest

from gateway.api import v1
from gateway.api.v1.row import Row
from tests.api.admin import Admin

from .libraries import PHP, escaped

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def served(shared_served: Admin) -> Admin:
    """One server for the whole file."""
    return shared_served


ROUNDS = 12

NONSENSE = (
    *("", " ", "0", "1", "-1", "2", "43201", "9" * 18, "9" * 40, "1e3", "0x10", "NaN", "true", "None", "null"),
    *("a", "alice", "alice,bob", ",,,", "a b", "+", "%", "é", "爱", "\x00", "\x7f", "\n", "\u202e", "😀" * 64),
    *("{}", "[]", "{", '"', '{"a":1}', '{"a":{"b":[null]}}', '{"ext_a":"b"}', '{"ext_a":1e400}', "[" * 2000),
    *("a" * 65, "a" * 5000, ",".join(f"u{number}" for number in range(1200)), "RC:TxtMsg", "PERSON", "GROUP"),
)


@pytest.mark.parametrize("row", v1.ROWS, ids=lambda row: row.paths[0])
async def test_nonsense_is_no_internal_error(served: Admin, row: Row) -> None:
    chance = random.Random(row.paths[0])
    for _ in range(ROUNDS):
        pairs = [
            (parameter.name, chance.choice(NONSENSE))
            for parameter in row.parameters
            for _ in range(chance.choice((0, 1, 1, 1, 2)))
        ]
        answer = await served.http.post(served.base_url + row.paths[0], headers=PHP.sign(), content=escaped(pairs))
        content = answer.json()
        assert answer.status_code in (200, 400, 403, 429, 430), (pairs, content)
        if answer.status_code == 200:
            assert content["code"] == 200
        else:
            assert (type(content["code"]), content["url"]) == (int, row.paths[0])
            assert content["errorMessage"]
