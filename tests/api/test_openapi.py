"""The OpenAPI document: valid, complete, true to the rows; and the page made from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import jsonschema
import msgspec
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from gateway.api import v1, v4
from gateway.api.bearer import SCOPES
from gateway.api.codes import MEANINGS
from gateway.api.errors import HTTP_STATUS
from gateway.api.openapi import document, rate
from gateway.api.operation import Body, Operation, Rate, operation
from gateway.api.page import page
from gateway.api.v4.fields import User, UserList
from gateway.config import Config
from gateway.services.services import Services

from .admin import Admin
from .conftest import Serve

CONFIG = Config()
DOCUMENT: dict[str, Any] = msgspec.json.decode(
    msgspec.json.encode(document(v4.OPERATIONS, v1.ROWS, CONFIG.id_pattern, CONFIG.list_call_max))
)
PATHS = [(path, row) for row in v4.OPERATIONS for path in row.paths]


def described(path: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][path]["post"]
    return found


def test_it_is_valid_openapi() -> None:
    jsonschema.Draft202012Validator(OPENAPI_31).validate(DOCUMENT)
    ids = [each["operationId"] for methods in DOCUMENT["paths"].values() for each in methods.values()]
    assert len(ids) == len(set(ids))


def test_its_schemas_are_valid_and_its_references_lead_somewhere() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    references = list(_references(DOCUMENT))
    assert len(references) > 100
    for reference in references:
        found: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_every_operation_is_in_it() -> None:
    served = {path for path, _ in PATHS} | {path for row in v1.ROWS for path in row.paths}
    assert {path for path, methods in DOCUMENT["paths"].items() if "post" in methods} == served


@pytest.mark.parametrize(("path", "row"), PATHS, ids=[path for path, _ in PATHS])
def test_an_operation_is_described_as_it_is(path: str, row: Operation[Any, Any]) -> None:
    about = described(path)
    assert (about["x-extension"], about["x-scope"]) == (row.extension, row.scope)
    assert row.scope in SCOPES
    assert about["summary"]
    assert about.get("description", "") == row.note
    assert {"200", "400", "401", "403", "413", "429", "500", "503", "504"} <= set(about["responses"])
    for code in row.errors:
        status = str(HTTP_STATUS.get(code, 400))
        response = _resolved(about["responses"][status])
        assert code in response["content"]["application/json"]["schema"]["properties"]["code"]["enum"]
        assert code in MEANINGS


@pytest.mark.parametrize(("path", "row"), PATHS, ids=[path for path, _ in PATHS])
def test_examples_are_true(path: str, row: Operation[Any, Any]) -> None:
    about = described(path)
    sent = about["requestBody"]["content"]["application/json"]
    _valid(sent["schema"], sent["example"])
    body = Body(row.asks, re.compile(CONFIG.id_pattern).fullmatch, CONFIG.list_call_max, coerces=row.coerces)
    body.read("application/json", msgspec.json.encode(sent["example"]))
    answered = about["responses"]["200"]["content"]["application/json"]
    _valid(answered["schema"], answered["example"])
    for response in about["responses"].values():
        content = _resolved(response)["content"]["application/json"]
        for example in content.get("examples", {}).values():
            _valid(content["schema"], example["value"])


def test_every_code_has_a_status_and_a_meaning() -> None:
    used = {code for row in v4.OPERATIONS for code in row.errors}
    assert used <= MEANINGS.keys()
    assert set(DOCUMENT["x-codes"]) == {str(code) for code in MEANINGS}


@operation("/v4/test/broadcast", scope="write", rate=(Rate(2, 3600), Rate(3, 86_400)), note="a < b & `c`")
async def broadcast(services: Services, asked: User) -> None:
    """Less <script> than one thinks."""


@operation("/v4/test/batch", scope="write", rate=Rate(6000, 60, counted="users"))
async def batch(services: Services, asked: UserList) -> None:
    """Many at once."""


def test_ids_have_their_pattern_and_lists_their_bound() -> None:
    schemas = document([broadcast, batch], (), CONFIG.id_pattern, CONFIG.list_call_max)["components"]["schemas"]
    ids = schemas["UserList"]["properties"]["userIds"]
    assert (ids["minItems"], ids["maxItems"]) == (1, CONFIG.list_call_max)
    assert re.search(ids["items"]["pattern"], "a.b@c=_-+")
    assert not re.search(ids["items"]["pattern"], "a b")
    smaller = document([broadcast, batch], (), "u[0-9]+", 3)["components"]["schemas"]
    assert smaller["UserList"]["properties"]["userIds"]["maxItems"] == 3
    assert smaller["User"]["properties"]["userId"]["pattern"] == "^(?:u[0-9]+)$"


def test_rates_in_words() -> None:
    assert rate(broadcast) == "2 an hour and 3 a day"
    assert rate(batch) == "6,000 users a minute"


async def test_it_is_served_without_a_signature(admin: Admin) -> None:
    answer = await admin.call("/openapi.json", method="GET", headers={})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert "/user/getToken.json" not in answer.json()["paths"]
    assert answer.json()["paths"]["/v4/user/get"] == DOCUMENT["paths"]["/v4/user/get"] | {
        "post": {key: value for key, value in described("/v4/user/get").items() if key != "x-v1"}
    }


async def test_v1_is_described_when_it_is_served(serve: Serve) -> None:
    async with serve(v1_enabled=True) as admin:
        answer = await admin.call("/openapi.json", method="GET", headers={})
        assert answer.json() == DOCUMENT


async def test_the_page_shows_every_operation_and_loads_nothing(admin: Admin) -> None:
    answer = await admin.call("/docs", method="GET", headers={})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    seen = _Page()
    seen.feed(answer.text)
    seen.close()
    assert seen.open == []
    assert {path for path, _ in PATHS} <= {text.removeprefix("POST ") for text in seen.codes}
    assert [link for link in seen.links if not link.startswith("#")] == ["openapi.json"]
    assert {link[1:] for link in seen.links if link.startswith("#")} <= seen.ids


def test_the_page_quotes_what_it_shows() -> None:
    shown = page(document([broadcast], (), CONFIG.id_pattern, CONFIG.list_call_max))
    assert "a &lt; b &amp; <code>c</code>" in shown
    assert "Less &lt;script&gt; than" in shown


class _Page(HTMLParser):
    """What a browser would find."""

    VOID = {"meta", "input"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.codes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert "src" not in given
        if tag not in self.VOID:
            self.open.append(tag)
        if given.get("href"):
            self.links.append(str(given["href"]))
        if given.get("id"):
            self.ids.add(str(given["id"]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if self.open and self.open[-1] == "code":
            self.codes.append(text)


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _resolved(given: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in given:
        return given
    found: dict[str, Any] = DOCUMENT["components"]["responses"][given["$ref"].rpartition("/")[2]]
    return found


def _valid(schema: dict[str, Any], value: Any) -> None:
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)
