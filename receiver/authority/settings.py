"""Where the authority is kept and what it gives."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EnrolmentSettings:
    """What a box is given that enrols with a code."""

    folder: str = ""  # of the authority; "": `authority` beside the database
    crl: str = ""  # file of the list of revoked certificates, which the broker reads; "": `crl.pem` in the folder
    broker: str = ""  # the address that boxes are told, mqtts://host:8883; "": that of [broker]
    life_days: int = 30  # of a box's certificate, renewed by itself after two thirds

    def __post_init__(self) -> None:
        """Check the number; raise ValueError."""
        if not 1 <= self.life_days <= 825:  # beyond two years the fittings that are gone outnumber those in force
            raise ValueError("enrolment.life_days must be 1 to 825")
