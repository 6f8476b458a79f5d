"""The forms of a claim: their fields with what stands in them, and what was refused beside its field."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from agent.clock import NS_PER_S
from receiver.claiming import wording
from receiver.claiming.history import MOST_WHY
from receiver.claiming.reading import ClaimPage
from receiver.claiming.reporting import Car
from receiver.claiming.rules import RULES
from receiver.claiming.settlement import GRADES, HEADS
from receiver.fields import Field, Typed
from receiver.words import Words

SETTLEMENT: Final = "settlement"
MOST_REASON: Final = 200  # characters of a command's reason, as agent.commandmessages has it
CLIP_S: Final = 15  # before and after the accident, as long as a package's own video is from its beginning to time zero
STAMP: Final = "%Y-%m-%d %H:%M:%S"


def insured(page: ClaimPage) -> Car:
    """Return what is known of the insured car."""
    own = next((car for car in page.cars if car.number == 1), None)
    if own is not None:
        return own
    plate = next((p.plate for p in page.policies if p.plate), "")
    vin = next((p.vin for p in page.policies if p.vin), "")
    return Car(1, vin, plate, page.device, compulsory=any(p.compulsory for p in page.policies))


def forms(
    words: Words, page: ClaimPage, given: Typed, errors: Mapping[str, str], chosen: str
) -> dict[str, list[Field]]:
    """Return the fields of each form by its name; that which was refused holds what was typed."""
    text, own = words.text, wording.text(words.text.language)

    def field(form: str, name: str, kind: str, value: str = "", hint: str = "", **more: Any) -> Field:
        full = f"{form}-{name}"
        label = more.pop("label", "") or text(f"desk.field.{name}")
        shown = given.text(full, MOST_WHY) if form == chosen else value
        hinted = text(f"desk.hint.{hint}") if hint else ""
        return Field(full, label, kind, shown, hint=hinted, error=errors.get(full, ""), **more)

    def why(form: str, hint: str = "") -> Field:
        return field(form, "why", "area", hint=hint, most=MOST_WHY, required=True)

    car = insured(page)
    faults = [("", text("desk.fault.unknown")), *((grade, text(f"desk.fault.{grade}")) for grade in GRADES)]
    at_ns = page.accident_utc_ns
    around = ["", ""]
    if at_ns is not None:
        around = [f"{words.local(at_ns + s * NS_PER_S):{STAMP}}" for s in (-CLIP_S, CLIP_S)]
    numbers = [str(n) for n in range(1, 1 + max((c.number for c in page.cars), default=1))]
    flagged = sorted(page.findings, key=lambda f: f.result != "flag")
    amounts = [
        field(
            "assess",
            f"amount-{x.number}",
            "number",
            _plain(x.estimated if x.assessed is None else x.assessed),
            label=text("desk.assess_loss", n=x.number, head=own.among("head", x.head)),
        )
        for x in page.losses
    ]
    return {
        "assess": [
            field("assess", "fault", "select", car.fault, "fault", options=faults),
            field("assess", "share", "number", "" if car.share_percent is None else str(car.share_percent), "share"),
            *amounts,
            why("assess", "why"),
        ],
        "settle": [why("settle", "why")],
        "contest": [
            field(
                "contest",
                "rule",
                "select",
                SETTLEMENT,
                options=[
                    (SETTLEMENT, text("my_claims.calculation")),
                    *((f.name, wording.name(f, own)) for f in flagged if f.name in RULES),
                ],
            ),
            why("contest", "contest"),
        ],
        "ask": [why("ask", "ask")],
        "clip": [
            field("clip", "from", "text", around[0], "moment", required=True),
            field("clip", "to", "text", around[1], required=True),
            field("clip", "why", "text", hint="clip", most=MOST_REASON, required=True),
        ],
        "loss": [
            field("loss", "head", "select", options=[(head, own.among("head", head)) for head in HEADS]),
            field("loss", "amount", "number", required=True),
            field("loss", "party", "select", "1", options=[(n, _party(words, n)) for n in numbers]),
            field("loss", "person", "number", hint="person"),
            field("loss", "by_others", "number", hint="by_others"),
        ],
        "car": [
            field("car", "number", "select", str(len(numbers) + 1), options=_places(words, len(numbers))),
            field("car", "plate", "text", most=16),
            field("car", "vin", "text", most=17),
            field("car", "device", "text", most=64, hint="device"),
            field("car", "fault", "select", options=faults, hint="fault"),
            field("car", "share", "number", hint="share"),
            field("car", "compulsory", "check"),
            field("car", "agrees", "check"),
            field("car", "injured", "check"),
        ],
    }


def _party(words: Words, number: str) -> str:
    return words.text("desk.own_car") if number == "1" else words.text("desk.other_car", n=number)


def _places(words: Words, known: int) -> list[tuple[str, str]]:
    """Return the numbers that a car may be given: those of known ones, which it replaces, and the next."""
    told = [(str(n), words.text("desk.replaces", car=_party(words, str(n)))) for n in range(1, known + 1)]
    return [*told, (str(known + 1), words.text("desk.new_car", n=known + 1))]


def _plain(amount: Decimal) -> str:
    return f"{amount:.0f}" if amount == amount.to_integral_value() else f"{amount:.2f}"
