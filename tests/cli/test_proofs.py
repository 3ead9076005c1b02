"""docs/server-api.md names a test for every operation, and every test it names is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.api import v1, v4
from gateway.cli import docs
from gateway.cli.operations import operations
from gateway.cli.proofs import Proof, proofs

ROOT = Path(docs.__file__).parents[2]
SERVED = {path for row in v4.OPERATIONS for path in row.paths} | {path for row in v1.ROWS for path in row.paths}


def test_every_operation_has_a_test_that_proves_it() -> None:
    assert sorted(SERVED - proofs(ROOT).keys()) == []


def test_no_test_proves_what_is_not_served() -> None:
    assert sorted(proofs(ROOT).keys() - SERVED) == []


def test_markers_are_read_from_sources(tmp_path: Path) -> None:
    file = tmp_path / "tests" / "api" / "test_some.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        'import pytest\nA = "/v4/a"\nB, C = "/v4/b", "/v4/c"\n'
        '@pytest.mark.operation(A, "/d.json")\nasync def test_one(): ...\n'
        '@pytest.mark.parametrize("x", [1])\n@pytest.mark.operation(B)\ndef test_two(x): ...\n'
        "class TestThree:\n    @pytest.mark.operation(C)\n    @pytest.mark.operation(A)\n    def test_it(self): ...\n"
    )
    one, two, three = (Proof("tests/api/test_some.py", name) for name in ("test_one", "test_two", "TestThree.test_it"))
    assert proofs(tmp_path) == {"/v4/a": [one, three], "/d.json": [one], "/v4/b": [two], "/v4/c": [three]}


def test_a_marker_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_some.py").write_text("@pytest.mark.operation(a + b)\ndef test_one(): ...\n")
    with pytest.raises(ValueError, match=r"tests/test_some.py:1: operation\(a \+ b\)"):
        proofs(tmp_path)


def test_the_table_has_every_path_with_its_proofs_and_notes() -> None:
    row = v4.OPERATIONS[0]
    text = operations({row.paths[0]: [Proof("tests/x.py", "test_x"), Proof("tests/x.py", "test_x")]})
    for path in SERVED:
        assert f"`{path}`" in text
    line = next(line for line in text.splitlines() if line.startswith(f"| `{row.paths[0]}`"))
    assert line.count("[test_x](../tests/x.py)") == 1
    assert "**Extension.**" in next(line for line in text.splitlines() if "`/v4/app/stats`" in line)
