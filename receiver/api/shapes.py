"""How values are written in answers: times in ISO 8601 UTC, money in yuan as text, names as the tables have them."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from fastapi import Path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from agent.clock import iso_utc
from receiver.exports.columns import Column

Device = Annotated[str, Path(pattern="^rw-[0-9a-f]{16}$", description="Id of a device.")]
Incident = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="Id of an incident.")]
ClaimId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="Id of a claim.")]
_FEN: Final = Decimal("0.01")
Number = Annotated[int, Path(ge=1, le=2**53 - 1)]


def _iso(value: Any) -> Any:
    return iso_utc(value) if isinstance(value, int) else value


def _to_fen(value: Decimal) -> Decimal:
    return value.quantize(_FEN)  # they are whole fen: this writes them alike and rounds nothing


# an attribute in UTC ns becomes ISO 8601
Utc = Annotated[
    str,
    BeforeValidator(_iso),
    Field(json_schema_extra={"format": "date-time"}, examples=["2026-11-01T08:00:00.000Z"]),
]
Yuan = Annotated[Decimal, AfterValidator(_to_fen), Field(description="Yuan, two decimals.", examples=["1433.50"])]


class Shape(BaseModel):
    """What all answers share: they are read from the attributes of what functions return."""

    model_config = ConfigDict(from_attributes=True, populate_by_name=True)


class Given(BaseModel):
    """What all requests share: a field that nobody knows is named, not ignored."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


_KINDS: Final[dict[str, Any]] = {"text": str, "whole": int, "number": float, "flag": bool, "time": Utc}


def of_columns(name: str, columns: Sequence[Column]) -> type[BaseModel]:
    """Return the shape of a row of an export: answers and files have the same columns."""
    fields: dict[str, Any] = {c.name: (_KINDS[c.kind] | None, ...) for c in columns}
    return create_model(name, **fields)


def of_item(columns: Sequence[Column], item: Any) -> dict[str, Any]:
    """Return a row of an export as an answer has it."""
    values = ((c, c.value(item)) for c in columns)
    return {c.name: iso_utc(v) if c.kind == "time" and v is not None else v for c, v in values}


class Cover(Shape):
    """One commercial cover."""

    code: str = Field(examples=["TPL"])
    sum_fen: int | None = Field(description="For each seat with occupants' covers; null where the cover has no sum.")
    waived: bool = Field(description="Its deductible by fault is insured away.")


class Policy(Shape):
    """One policy; `ends` is the last day of cover."""

    id: str
    vin: str
    plate: str
    owner: str = Field(description="The insurer's own reference, no name.")
    device: str
    regime: Literal["2006", "2015", "2020"]
    use_class: str
    starts: date
    ends: date
    premium_fen: int
    compulsory: bool
    sales_confirmed: bool
    covers: list[Cover]


class Done(Shape):
    """What was made."""

    id: str = Field(description="Its id, for the addresses below.")
