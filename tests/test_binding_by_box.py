"""A box binds itself with the insurer's code; nobody else binds anything with what a box may send."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, select

from agent.chain import device_id, public_bytes
from agent.fittingmessages import MOST_BYTES, PATH, PREFIX, Binding, binding_bytes, encode_binding
from receiver import db
from receiver.registry import bindings
from tests.pages import NOW, client
from tests.registering import OTHER_VIN, VIN, car, enrolled, registered

KEY, STRANGER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = db.open_database(f"sqlite:///{tmp_path / 'receiver.db'}")
    yield engine
    engine.dispose()


def asked(
    key: Ed25519PrivateKey, vin: str, code: str, signer: Ed25519PrivateKey | None = None, device: str = ""
) -> bytes:
    public = public_bytes(key)
    told = Binding(device=device or device_id(public), public_key=public.hex(), vin=vin, code=code)
    raw = binding_bytes(told)
    return encode_binding(raw, (signer or key).sign(PREFIX + raw))


def test_a_box_is_bound_by_the_code_and_by_its_own_signature_alone(engine: Engine) -> None:
    device = enrolled(engine, device_id(public_bytes(KEY)))
    registered(engine)
    registered(engine, car(vin=OTHER_VIN, plate="鲁B12345"))
    with engine.begin() as connection:
        code, other = (bindings.offer(connection, vin, NOW) for vin in (VIN, OTHER_VIN))
    http = client(engine, None)

    def post(body: bytes) -> tuple[int, str]:
        answer = http.post(PATH, content=body, headers={"content-type": "application/json"})
        return answer.status_code, answer.text

    wrong = code[:-1] + ("A" if code[-1] != "A" else "B")
    for body, status, said in (
        (b"{}", 422, "payload is no binding"),
        (b"[" * 2000, 422, "payload is no binding"),
        (b" " * (MOST_BYTES + 1), 413, ""),
        (asked(KEY, VIN, code, STRANGER), 422, "not signed by its key"),
        (asked(KEY, VIN, code, device="rw-0000000000000000"), 422, "another device than its key"),
        (asked(STRANGER, VIN, code), 404, "not enrolled"),
        (asked(KEY, "LSVAM4187C2184841", code), 404, "not registered"),
        (asked(KEY, VIN, wrong), 422, "not its code: 4 more tries"),
        (asked(KEY, VIN, other), 422, "not its code: 3 more tries"),
    ):
        assert (got := post(body))[0] == status, got
        assert said in got[1]
    status, text = post(asked(KEY, VIN, code))
    assert status == 201, text
    with db.reading(engine) as connection:
        bound = bindings.of_device(connection, device)
        t = db.access_log
        rows = connection.execute(select(t.c.who, t.c.what, t.c.device).where(t.c.what == "binding")).all()
    assert bound is not None
    assert (bound.vin, bound.bound_by) == (VIN, device)
    assert post(asked(KEY, VIN, code))[0] == 201  # the answer was lost, and it is asked again
    assert {tuple(row) for row in rows} >= {(device, "binding", device)}
