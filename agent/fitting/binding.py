"""Ask the receiver to bind this box to a car."""

from pathlib import Path
from typing import Final

from agent.enrolment.asking import post
from agent.enrolment.enrol import signer_of
from agent.enrolment.moments import of_machine
from agent.enrolment.settings import check_address
from agent.errors import ConfigError
from agent.fittingmessages import PATH, PREFIX, Binding, binding_bytes, encode_binding

MOST_CODE: Final = 64


def bind(store: Path, receiver: str, ca: Path | None, vin: str, code: str) -> str:
    """Bind the box whose store is in `store`; return its name. Legal again: the same is the same binding.

    Raise NotGrantedError with the receiver's own words, UplinkError, StoreError, or ConfigError for a bad address.
    """
    try:
        receiver = check_address(receiver)
    except ValueError as e:
        raise ConfigError(str(e)) from e
    signer = signer_of(store)
    plain = "".join(c for c in code if c.isalnum())[:MOST_CODE]
    raw = binding_bytes(Binding(device=signer.device, public_key=signer.public_key.hex(), vin=vin, code=plain))
    post(receiver, PATH, encode_binding(raw, signer.sign(PREFIX + raw)), ca, of_machine(store), "binding")
    return signer.device
