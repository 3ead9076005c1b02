"""docs/loadtest.md tells of every key and every scenario that there is."""

from pathlib import Path

import msgspec
import pytest

from loadtest import scenario
from loadtest.scenario import Scenario

TEXT = (Path(__file__).parents[2] / "docs" / "loadtest.md").read_text()
FIELDS = {field.name: field.default for field in msgspec.structs.fields(Scenario)}


@pytest.mark.parametrize("key", FIELDS)
def test_every_key_is_told_of_as_it_is(key: str) -> None:
    default = FIELDS[key]
    if isinstance(default, tuple):
        shown = ", ".join(default) or "none"
    else:
        shown = f"{default:g}" if isinstance(default, float) else str(default) or "the file's"
    assert f"| `{key}` | {shown} | {scenario.keys()[key]} |" in TEXT


@pytest.mark.parametrize("act", scenario.shipped())
def test_every_act_is_told_of(act: str) -> None:
    assert f"\n| `{act}` | " in TEXT


def test_no_other_key_is_told_of() -> None:
    table = TEXT.partition("| key | without a word | |")[2].partition("\n\n")[0]
    assert {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")} == set(FIELDS)
