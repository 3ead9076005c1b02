"""The documents in docs/ are what the code generates."""

from __future__ import annotations

from pathlib import Path

from gateway.cli import docs
from gateway.cli.flags import SECTIONS, sections
from gateway.config import settings_table

ROOT = Path(docs.__file__).parents[2]


def test_the_committed_documents_are_fresh() -> None:
    stale = [path for path, text in docs.documents(ROOT).items() if (ROOT / path).read_text("utf-8") != text]
    assert stale == [], "run: gateway docs"


def test_check_names_stale_documents_and_writes_none(tmp_path: Path) -> None:
    assert docs.docs(root=tmp_path) == 0
    assert docs.docs(root=tmp_path, check=True) == 0
    (tmp_path / "docs" / "config.md").write_text("old")
    assert docs.docs(root=tmp_path, check=True) == 1
    assert (tmp_path / "docs" / "config.md").read_text() == "old"


def test_every_section_begins_with_a_setting_and_every_setting_is_in_one() -> None:
    assert [title for title, _ in sections()] == list(SECTIONS.values())
    assert [row.name for _, rows in sections() for row in rows] == [row.name for row in settings_table()]
