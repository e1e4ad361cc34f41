"""The service fuzzed by its own OpenAPI document: no 5xx but the 503 it promises."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from rewriters import Served, load, make_optimizer
from toy import make_t5


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    root: Path = tmp_path_factory.mktemp("tree")
    make_optimizer(root, make_t5(root / "t5"))
    with Served(root, lambda: load(root), max_length=32) as running:
        yield running.until_loaded()


def fuzz(served: Served, examples: int) -> dict[str, int]:
    """Return how often each status came back; every reply is checked against the document."""
    import schemathesis
    from schemathesis.checks import CHECKS

    document = served.http.get("/openapi.json").json()
    length = document["components"]["schemas"]["OptimizeRequest"]["properties"]["max_length"]
    assert (length["maximum"], length["default"]) == (32, 32)
    schema = schemathesis.openapi.from_url(f"{served.http.base_url}/openapi.json")
    names = (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    )
    checks = [CHECKS.get_one(name) for name in names]
    seen: dict[str, int] = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        modes = list(schemathesis.GenerationMode)
        for mode in modes if operation.method == "post" else modes[:1]:  # a GET has no field
            fuzz_one(operation, mode, examples, checks, seen)
    return seen


def fuzz_one(
    operation: Any, mode: Any, examples: int, checks: list[Any], seen: dict[str, int]
) -> None:
    """Ask `operation` with `examples` bodies that fit (`mode` positive) or do not."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        reply = case.call(timeout=30)
        key = f"{operation.label} {reply.status_code}"
        seen[key] = seen.get(key, 0) + 1
        case.validate_response(reply, checks=checks)

    check()


def test_the_openapi_document_is_kept_in_a_short_fuzz(served):
    seen = fuzz(served, 4)

    assert {key.rsplit(" ", 1)[0] for key in seen} == {
        "POST /optimize",
        "POST /optimize/stream",
        "POST /optimize/batch",
        "POST /feedback",
        "GET /health",
        "GET /rules",
    }
    assert not [key for key in seen if key[-3] == "5"]


@pytest.mark.slow
def test_the_openapi_document_is_kept_in_a_long_fuzz(served):
    seen = fuzz(served, 100)

    assert sum(seen.values()) > 500
    assert not [key for key in seen if key[-3] == "5"]
