"""What schemathesis makes of the description is answered as described, by every operation, and never by a 5xx."""

import copy
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis import checks as known_checks

from receiver.api.app import described
from receiver.api.openapi import PREFIX, RIGHT
from receiver.people.rights import RIGHTS
from tests.api import Bureau, open_bureau

pytestmark = pytest.mark.filterwarnings("ignore")  # of other people's code
CHECKS = [
    known_checks.not_a_server_error,
    known_checks.status_code_conformance,
    known_checks.content_type_conformance,
    known_checks.response_schema_conformance,
    known_checks.negative_data_rejection,
]
EXAMPLES = 5  # of each kind for each of some 50 operations: they stay within 40 s together


@pytest.fixture(scope="module")
def bureau(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bureau]:
    made = open_bureau(tmp_path_factory.mktemp("bureau"))
    yield made
    made.desk.engine.dispose()


@pytest.fixture(scope="module")
def schema(bureau: Bureau) -> Any:
    document = copy.deepcopy(described())
    for part in (document, document["components"]):  # every caller has his token: strangers are another test
        part.pop("security", None)
        part.pop("securitySchemes", None)
    return schemathesis.openapi.from_dict(document)


def _operations() -> list[tuple[str, str]]:
    text = (Path(__file__).parents[1] / "docs" / "openapi.json").read_text(encoding="utf-8")
    return [(path, method) for path, methods in json.loads(text)["paths"].items() for method in methods]


def _real(bureau: Bureau, case: Any) -> None:
    """Put what there is into the places of ids."""
    known = {"device": bureau.device, "claim": bureau.claim, "trip": 1, "event": 1, "policy": "P-1", "number": 1}
    for name, value in known.items():
        if name in (case.path_parameters or {}):
            case.path_parameters[name] = value
    if isinstance(case.body, dict) and "device" in case.body:
        case.body["device"] = bureau.device


@pytest.mark.parametrize(("path", "method"), _operations(), ids=lambda v: v.removeprefix(PREFIX))
def test_every_operation_answers_as_it_is_described(bureau: Bureau, schema: Any, path: str, method: str) -> None:
    operation = schema[path][method]
    right = operation.definition.raw[RIGHT]
    caller = bureau.caller(min(RIGHTS[right], key=("owner", "adjuster", "underwriter", "technician").index))

    def ask(case: Any, checks: list[Any]) -> None:
        kwargs = case.as_transport_kwargs(base_url="http://127.0.0.1")
        kwargs.pop("cookies", None)
        kwargs["headers"] = {n: v for n, v in kwargs["headers"].items() if n.lower() != "user-agent"}
        answer = caller.request(**kwargs)
        assert answer.status_code < 500, answer.text
        case.validate_response(answer, checks=checks)

    quiet = settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    @quiet
    @given(case=operation.as_strategy(GenerationMode.POSITIVE), real=st.booleans())
    def asked_rightly(case: Any, real: bool) -> None:
        if real:
            _real(bureau, case)
        ask(case, CHECKS[:4])

    @quiet
    @given(case=operation.as_strategy(GenerationMode.NEGATIVE))
    def asked_wrongly(case: Any) -> None:
        ask(case, CHECKS)

    asked_rightly()
    if "parameters" in operation.definition.raw or "requestBody" in operation.definition.raw:
        asked_wrongly()
