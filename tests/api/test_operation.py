from __future__ import annotations

import re
from typing import Annotated

import msgspec
import pytest

from gateway.api import v4
from gateway.api.bearer import SCOPES
from gateway.api.errors import Problem
from gateway.api.operation import Body
from gateway.api.v4.fields import Ask, ManyUsers, UserId, Users


class Asked(Ask):
    user_id: UserId | None = None
    user_ids: Users | None = None
    many: ManyUsers | None = None
    size: Annotated[int, msgspec.Meta(ge=1, le=9)] = 5


def body(*, coerces: bool = False) -> Body[Asked]:
    return Body(Asked, re.compile(r"[a-z]{1,64}").fullmatch, ids_max=3, coerces=coerces)


def read(text: str | bytes, *, coerces: bool = False, content_type: str | None = "application/json") -> Asked:
    return body(coerces=coerces).read(content_type, text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"]
)
def test_takes_json(content_type: str | None) -> None:
    assert read('{"userId":"a"}', content_type=content_type).user_id == "a"


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_takes_nothing_else(content_type: str) -> None:
    with pytest.raises(Problem, match="Content-Type") as refused:
        read("{}", content_type=content_type)
    assert refused.value.code == 1002


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{", id="cut short"),
        pytest.param("{} {}", id="two"),
        pytest.param("nope", id="no JSON"),
        pytest.param(b'{"userId":"\xff"}', id="not UTF-8"),
        pytest.param(b"\xef\xbb\xbf{}", id="byte order mark"),
        pytest.param('{"userId":"\\ud800"}', id="half a surrogate pair"),
        pytest.param('{"x":' + "[" * 100_000, id="nested too deep"),
    ],
)
def test_malformed_json(text: str | bytes) -> None:
    with pytest.raises(Problem, match="the body is not valid JSON") as refused:
        read(text)
    assert refused.value.code == 1002


def test_unknown_fields_and_nulls_are_ignored() -> None:
    assert read('{"userId":null,"other":{"deep":[1]}}') == Asked()


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ('{"userId":""}', 1002, "userId: is not a well-formed user id"),
        ('{"userId":"A"}', 1002, "userId: is not a well-formed user id"),
        ('{"userId":"a\\n"}', 1002, "userId: is not a well-formed user id"),
        (f'{{"userId":"{"a" * 65}"}}', 1005, "userId: is not a well-formed user id"),
        ('{"userIds":["a","b!"]}', 1002, r"userIds\[1\]: is not a well-formed user id"),
        ('{"userIds":["a","b","c","d"]}', 1002, "userIds: Expected `array` of length <= 3"),
        (msgspec.json.encode({"many": ["a"] * 101}).decode(), 1002, "many: Expected `array` of length <= 100"),
        ('{"many":["a","?"]}', 1002, r"many\[1\]: is not a well-formed user id"),
    ],
)
def test_ids_are_checked_wherever_they_stand(text: str, code: int, message: str) -> None:
    with pytest.raises(Problem, match=message) as refused:
        read(text)
    assert refused.value.code == code


def test_naming_somebody_twice_is_naming_them_once() -> None:
    assert read('{"userIds":["b","a","b"]}').user_ids == ["b", "a"]


def test_a_list_with_a_bound_of_its_own_may_be_longer() -> None:
    many = [chr(ord("a") + index) for index in range(20)]
    assert read(msgspec.json.encode({"many": many})).many == many


def test_numbers_as_strings_only_where_the_row_says_so() -> None:
    assert read('{"size":"7"}', coerces=True).size == 7
    for size in ('"10"', '"seven"', "true"):
        with pytest.raises(Problem, match="size"):
            read(f'{{"size":{size}}}', coerces=True)
    with pytest.raises(Problem, match="size"):
        read('{"size":"7"}')


def test_every_row_is_complete() -> None:
    paths = [path for row in v4.OPERATIONS for path in row.paths]
    assert len(paths) == len(set(paths))
    for row in v4.OPERATIONS:
        assert all(re.fullmatch(r"/v4(/[a-z-]+)+", path) for path in row.paths)
        assert row.scope in SCOPES
        assert all(rate.most > 0 for rate in row.rates)
        assert row.act.__doc__
