"""Bad input of the operations on profanity words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.admin import Admin, refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADD, LIST = "/v4/profanity-word/batch/add", "/v4/profanity-word/list"
REMOVE, REMOVE_BATCH = "/v4/profanity-word/remove", "/v4/profanity-word/batch/remove"
WORD = {"word": "a"}


@pytest.mark.parametrize(
    ("path", "body", "code", "field"),
    [
        (ADD, {}, 1002, "words"),
        (ADD, {"words": []}, 1002, "words"),
        (ADD, {"words": "a"}, 1002, "words"),
        (ADD, {"words": ["a"]}, 1002, "words[0]"),
        (ADD, {"words": [WORD, None]}, 1002, "words[1]"),
        (ADD, {"words": [WORD, {}]}, 1002, "words[1].word"),
        (ADD, {"words": [{"word": ""}]}, 1002, "words[0].word"),
        (ADD, {"words": [WORD, {"word": " \t"}]}, 1002, "words[1].word"),
        (ADD, {"words": [{"word": 7}]}, 1002, "words[0].word"),
        (ADD, {"words": [{"word": "w" * 33}]}, 1005, "words[0].word"),
        (ADD, {"words": [WORD | {"replacement": "r" * 33}]}, 1005, "words[0].replacement"),
        (ADD, {"words": [WORD | {"replacement": 7}]}, 1002, "words[0].replacement"),
        (ADD, {"words": [{"word": f"w{n}"} for n in range(51)]}, 1002, "words"),
        (LIST, {"filterType": "3"}, 1002, "filterType"),
        (LIST, {"filterType": 1}, 1002, "filterType"),
        (REMOVE, {}, 1002, "word"),
        (REMOVE, {"word": ""}, 1002, "word"),
        (REMOVE, {"word": ["a"]}, 1002, "word"),
        (REMOVE, {"word": "w" * 33}, 1005, "word"),
        (REMOVE_BATCH, {}, 1002, "words"),
        (REMOVE_BATCH, {"words": []}, 1002, "words"),
        (REMOVE_BATCH, {"words": [""]}, 1002, "words[0]"),
        (REMOVE_BATCH, {"words": [WORD]}, 1002, "words[0]"),
        (REMOVE_BATCH, {"words": ["a"] * 51}, 1002, "words"),
    ],
)
async def test_fields(shared_admin: Admin, path: str, body: dict[str, Any], code: int, field: str) -> None:
    answer = await shared_admin.call(path, body)
    assert refusal(answer) == (400, code), answer.text
    assert answer.json()["errorMessage"].startswith(field)
