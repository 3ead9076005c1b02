"""The limits to compare with: in the same set-up as the gateway."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gateway.cli.serve import GARBAGE
from tests.loadtest.runs import ROOT

LOOKED_AT = """
import atexit, gc, runpy, sys
atexit.register(lambda: print(*gc.get_threshold(), gc.get_freeze_count() > 10_000))
runpy.run_module(sys.argv.pop(), run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("module", ["loadtest.bare", "loadtest.bare_api"])
def test_garbage_is_collected_as_in_the_gateway(module: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOOKED_AT, module], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.terminate()
        assert process.stdout.read().split() == [*map(str, GARBAGE), "True"]
