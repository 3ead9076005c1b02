from __future__ import annotations

from typing import Annotated

import msgspec
import pytest

from gateway.api import errors
from gateway.api.errors import Problem, problem_of_body


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (400, 400),
        (404, 404),
        (405, 405),
        (1000, 500),
        (1001, 401),
        (1002, 400),
        (1003, 400),
        (1004, 401),
        (1005, 400),
        (1006, 403),
        (1007, 403),
        (1008, 429),
        (1009, 430),
        (1010, 400),
        (1011, 400),
        (1015, 400),
        (1050, 504),
        (2007, 403),
        (24366, 400),
        (25473, 400),
    ],
)
def test_status_of_a_business_code(code: int, status: int) -> None:
    assert Problem(code, "").status == status


def test_the_body_is_what_the_vendors_client_reads() -> None:
    assert msgspec.json.decode(errors.encode(1002, "x: is required")) == {
        "code": 1002,
        "errorMessage": "x: is required",
    }


class Inner(msgspec.Struct):
    word: str


class Asked(msgspec.Struct, rename="camel"):
    user_ids: Annotated[list[str], msgspec.Meta(min_length=1, max_length=2)]
    duration_minutes: Annotated[int, msgspec.Meta(ge=1)]
    name: Annotated[str, msgspec.Meta(max_length=3)] = ""
    inner: Inner | None = None


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ('{"durationMinutes":1}', 1002, "userIds: is required"),
        ('{"userIds":["a"]}', 1003, "durationMinutes: is required"),
        ('{"userIds":["a"],"durationMinutes":0}', 1003, "durationMinutes: Expected `int` >= 1"),
        ('{"userIds":["a"],"durationMinutes":"1"}', 1003, "durationMinutes: Expected `int`, got `str`"),
        ('{"userIds":[],"durationMinutes":1}', 1002, "userIds: Expected `array` of length >= 1"),
        ('{"userIds":["a","b","c"],"durationMinutes":1}', 1002, "userIds: Expected `array` of length <= 2"),
        ('{"userIds":["a",1],"durationMinutes":1}', 1002, "userIds[1]: Expected `str`, got `int`"),
        ('{"userIds":["a"],"durationMinutes":1,"name":"four"}', 1005, "name: Expected `str` of length <= 3"),
        ('{"userIds":["a"],"durationMinutes":1,"inner":{}}', 1002, "inner.word: is required"),
        ("[]", 1002, "the body: Expected `object`, got `array`"),
    ],
)
def test_a_refused_body_names_the_field(body: str, code: int, message: str) -> None:
    with pytest.raises(msgspec.DecodeError) as refused:
        msgspec.json.decode(body, type=Asked)
    problem = problem_of_body(refused.value)
    assert (problem.code, problem.message) == (code, message)
