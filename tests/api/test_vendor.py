"""The vendor's client against the document: every call, field and type that it knows is served as it expects."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ncsdk
import pydantic
import pytest
from ncsdk import models

from gateway.api import v4
from gateway.api.openapi import document
from gateway.config import Config

CONFIG = Config()
DOCUMENT = document(v4.OPERATIONS, (), CONFIG.id_pattern, CONFIG.list_call_max)
WHOLE = ("FriendshipApi", "ModerationApi", "UserBlocklistApi", "UserManagementApi", "UserProfileHostingApi")
"""The groups of calls that are served as a whole."""

PUSH = {"send_system_channel_push_by_package", "send_system_channel_push_by_tag"}
OF_DIRECT_MESSAGES = {
    "delete_message",
    "list_direct_channel_history_messages",
    "send_direct_channel_message",
    "update_direct_channel_message",
}
ABSENT = {"aiGenerated", "quote", "profileKey"}
"""Of what this gateway does not have; and what only a failure tells, in the body of the error."""


class Method(NamedTuple):
    """One method of the client.

    Attributes:
        api: the group it is in.
        name: its name.
        path: what it asks.
        asks: the model of the request; None = it takes none.
        answers: the model of the answer.
    """

    api: str
    name: str
    path: str
    asks: type[pydantic.BaseModel] | None
    answers: type[pydantic.BaseModel]


def methods() -> Iterator[Method]:
    """All of the client's methods."""
    for name, api in inspect.getmembers(ncsdk, inspect.isclass):
        if not name.endswith("Api"):
            continue
        for method, serialize in inspect.getmembers(api, inspect.isfunction):
            found = re.fullmatch(r"_(\w+)_serialize", method)
            if found is None:
                continue
            function = getattr(api, found[1])
            path = re.search(r"resource_path='([^']+)'", inspect.getsource(serialize))
            answers = re.search(r"'200': \"(\w+)\"", inspect.getsource(function))
            assert path
            assert answers
            first = next(iter(list(typing.get_type_hints(function).values())))
            kinds = [kind for kind in (first, *typing.get_args(first)) if inspect.isclass(kind)]
            asks = next((kind for kind in kinds if issubclass(kind, pydantic.BaseModel)), None)
            yield Method(name, found[1], path[1], asks, getattr(models, answers[1]))


SERVED = [method for method in methods() if method.path in DOCUMENT["paths"]]
each_served = pytest.mark.parametrize("method", SERVED, ids=[method.name for method in SERVED])


def test_every_call_about_users_is_served() -> None:
    known = list(methods())
    wanted = {method.name for method in known if method.api in WHOLE} | OF_DIRECT_MESSAGES
    wanted |= {method.name for method in known if method.api == "SystemMessagesApi"} - PUSH
    assert {method.name for method in SERVED} == wanted
    assert len(wanted) == 42


def test_every_call_that_is_served_is_made_in_a_test() -> None:
    sources = [file.read_text("utf-8") for file in Path(__file__).parents[1].rglob("*.py")]
    called = set(
        re.findall(r"\.(?:users|blocklist|friends|profiles|moderation|messages|system)\.(\w+)", "".join(sources))
    )
    assert {method.name for method in SERVED} - called == set()


@each_served
def test_every_field_that_the_client_sends_is_read(method: Method) -> None:
    about = DOCUMENT["paths"][method.path]["post"]
    schema = _resolved(about["requestBody"]["content"]["application/json"]["schema"])
    assert _names(method.asks) - schema["properties"].keys() == set()


@each_served
def test_the_client_understands_the_answer_and_misses_no_field(method: Method) -> None:
    content = DOCUMENT["paths"][method.path]["post"]["responses"]["200"]["content"]["application/json"]
    parsed = method.answers.from_dict(content["example"])  # type: ignore[attr-defined]
    assert parsed.code == 0
    _all_there(parsed, f"{method.path}: ")


def _all_there(parsed: pydantic.BaseModel, where: str) -> None:
    """Every field of the client's models has a value, at every depth."""
    for name, field in type(parsed).model_fields.items():
        value, wire = getattr(parsed, name), field.alias or name
        if name == "additional_properties" or wire in ABSENT:
            continue
        assert value is not None, f"{where}{wire}"
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, pydantic.BaseModel):
                _all_there(each, f"{where}{wire}.")


def _names(model: type[pydantic.BaseModel] | None) -> set[str]:
    fields = {} if model is None else model.model_fields
    return {field.alias or name for name, field in fields.items() if name != "additional_properties"}


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema
    if "$ref" in schema:
        found = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found
