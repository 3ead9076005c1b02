"""schemathesis against a running node: nothing that the OpenAPI document does not say, and never a 5xx.

Requests are made from the document's own schemas, well-formed and broken; status, headers, content type, body and the
business code of every answer must be what the document lists for that operation.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from gateway.api import v1, v4
from gateway.api.openapi import document
from gateway.config import Config
from tests.cli.processes import Gateway
from tests.nodes import CREDENTIALS

from .signing import signed

CONFIG = Config()
DOCUMENT = document(v4.OPERATIONS, v1.ROWS, CONFIG.id_pattern, CONFIG.list_call_max)
PATHS = [path for path, methods in DOCUMENT["paths"].items() if "post" in methods]
V4 = {path for row in v4.OPERATIONS for path in row.paths}
EXAMPLES = 10

load_all_checks()
ANSWERS = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)
REFUSALS = [*ANSWERS, *CHECKS.get_by_names(["negative_data_rejection"])]

_schema = schemathesis.openapi.from_dict(DOCUMENT)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a gateway answers, in a process of its own: its threads would disturb what hypothesis draws."""
    switches = ("--v1-enabled", "--no-rate-limits", "--environment", "development", "--partitions", "8")
    secrets = {"GATEWAY_APP_KEY": CREDENTIALS.app_key, "GATEWAY_APP_SECRET": CREDENTIALS.app_secret}
    with Gateway(tmp_path_factory.mktemp("gateway"), *switches, **secrets) as gateway:
        yield f"http://127.0.0.1:{gateway.admin_port}"


@pytest.fixture(scope="module")
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", PATHS)
def test_the_document_tells_all(url: str, http: requests.Session, path: str, mode: GenerationMode) -> None:
    operation = _schema[path]["POST"]
    # v1 is read with more leave than a schema can say: lists joined by commas, empty values that mean none.
    checks = REFUSALS if mode is GenerationMode.NEGATIVE and path in V4 else ANSWERS

    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.explicit, Phase.generate],
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def call(case: schemathesis.Case) -> None:
        response = case.call(base_url=url, session=http, headers=signed())
        case.validate_response(response, checks=checks)

    call()
