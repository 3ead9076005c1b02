"""A gateway that the tests of one module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.processes import Gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running
        assert running.stop() == 0
