"""Files of commands: what is not writable is known before, and what is there stays what it is."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from loadtest.files import FileFault, faults, put


def test_what_can_be_written_has_no_fault_and_leaves_nothing(tmp_path: Path) -> None:
    there = tmp_path / "there.json"
    there.write_text("old")
    assert faults(there, tmp_path / "new.json", None, Path("/dev/null")) == []
    assert [each.name for each in tmp_path.iterdir()] == ["there.json"]
    assert there.read_text() == "old"


def test_everything_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    found = faults(tmp_path, tmp_path / "none" / "x.json", Path("/proc/x.json"))
    assert [fault.partition(": ")[0] for fault in found] == [str(tmp_path), f"{tmp_path}/none/x.json", "/proc/x.json"]


def test_a_file_is_replaced_and_a_link_stays_one(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    put(file, "one")
    link.symlink_to(file)
    put(link, "zwölf")
    assert link.is_symlink()
    assert file.read_bytes() == "zwölf".encode()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_no_file_stays_what_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    heard: list[bytes] = []
    listener = threading.Thread(target=lambda: heard.append(pipe.read_bytes()))
    listener.start()
    put(pipe, b"whole")
    listener.join(10)
    assert heard == [b"whole"]
    assert pipe.is_fifo()


def test_a_full_disk_is_told() -> None:
    with pytest.raises(FileFault, match="/dev/full: No space left on device"):
        put(Path("/dev/full"), b"x")
    assert Path("/dev/full").is_char_device()
