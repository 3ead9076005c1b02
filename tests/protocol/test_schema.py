"""The published documents are what the structs say, and their examples are true."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from msgspec import Struct

from gateway.protocol import commands, examples, pushes, replies, schema
from gateway.protocol.codes import CLOSE_CODES, MEANINGS, CloseReason, Code

ROOT = Path(__file__).parents[2]
EXAMPLES = (*examples.COMMANDS, *examples.REPLIES, *examples.PUSHES, *examples.CLOSES)


def named(message: Struct) -> str:
    return type(message).__name__


@pytest.mark.parametrize("path", [schema.SCHEMA_PATH, schema.ASYNCAPI_PATH, schema.README_PATH])
def test_the_committed_document_is_fresh(path: str) -> None:
    assert set(schema.documents()) == {schema.SCHEMA_PATH, schema.ASYNCAPI_PATH, schema.README_PATH}
    assert (ROOT / path).read_text("utf-8") == schema.documents()[path], "run: gateway docs"


def test_there_is_one_example_of_everything() -> None:
    assert [type(each) for each in examples.COMMANDS] == list(commands.COMMANDS)
    assert [type(each) for each in examples.REPLIES] == list(replies.REPLIES)
    assert [type(each) for each in examples.PUSHES] == list(pushes.PUSHES)
    assert list(examples.ANSWERS) == list(commands.COMMANDS)


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(schema.schema())


@pytest.mark.parametrize("message", EXAMPLES, ids=named)
def test_an_example_validates_and_decodes(message: Struct) -> None:
    document = schema.schema()
    example = schema.example(message)
    Draft202012Validator(document | {"anyOf": [{"$ref": f"#/$defs/{named(message)}"}]}).validate(example)
    # By their JSON: raw parts (a body, a profile) are equal to nothing but themselves.
    assert schema.example(msgspec.json.decode(json.dumps(example), type=type(message))) == example
    if not isinstance(message, CloseReason):
        Draft202012Validator(document).validate(example)


@pytest.mark.parametrize("message", examples.COMMANDS, ids=named)
def test_an_example_command_comes_in_by_the_only_way_in(message: Struct) -> None:
    assert type(commands.decode(json.dumps(schema.example(message)).encode())) is type(message)


@pytest.mark.parametrize(
    "command",
    [
        {"type": "nope"},
        {"type": "send", "id": "", "to": "bob", "body": 1},
        {"type": "send", "id": "x" * 65, "to": "bob", "body": 1},
        {"type": "send", "id": "1", "to": 5, "body": 1},
        {"type": "send", "id": "1", "to": "bob"},
        {"type": "watch", "id": "1", "users": []},
        {"type": "watch", "id": "1", "users": ["a"] * 201},
        {"type": "blocklist.list", "id": "1", "limit": 1001},
        {"type": "auth", "token": "t", "platform": "toaster"},
        {"type": "auth", "token": "t", "device": "with space"},
    ],
    ids=json.dumps,
)
def test_the_schema_refuses_what_the_decoder_refuses(command: dict[str, Any]) -> None:
    document = schema.schema() | {"anyOf": [{"$ref": "#/$defs/Command"}]}
    assert not Draft202012Validator(document).is_valid(command)
    with pytest.raises(msgspec.ValidationError):
        commands.decode(json.dumps(command).encode())


def test_every_reference_in_the_asyncapi_document_resolves() -> None:
    document = json.loads(schema.documents()[schema.ASYNCAPI_PATH])
    references = re.findall(r'"\$ref": "#/([^"]+)"', schema.documents()[schema.ASYNCAPI_PATH])
    assert references
    for reference in set(references):
        found = document
        for part in reference.split("/"):
            found = found[part]


def test_the_asyncapi_document_has_its_parts() -> None:
    document = schema.asyncapi()
    assert document["asyncapi"] == "3.0.0"
    assert set(document) >= {"info", "servers", "channels", "operations", "components"}
    assert document["channels"]["connect"]["address"] == "/v1/connect"
    operations = document["operations"].values()
    assert {each["action"] for each in operations} == {"send", "receive"}
    for operation in operations:
        # AsyncAPI 3.0: an operation's messages must be references into its channel.
        assert all(each["$ref"].startswith("#/channels/connect/messages/") for each in operation["messages"])
    components = document["components"]
    for name, message in components["messages"].items():
        assert re.fullmatch(r"[\w.-]+", name)
        payload = {"$ref": message["payload"]["$ref"], "components": components}
        Draft202012Validator(payload).validate(message["examples"][0]["payload"])


def test_every_code_has_a_meaning_and_every_close_code_is_in_its_range() -> None:
    assert set(MEANINGS) == set(Code)
    assert len({each.code for each in CLOSE_CODES}) == len({each.name for each in CLOSE_CODES}) == len(CLOSE_CODES)
    assert all(1000 <= each.code <= 1015 or 4000 <= each.code < 5000 for each in CLOSE_CODES)
