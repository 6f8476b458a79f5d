"""Facts, policies and claims for the tests of the receiver's claims."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from receiver.claiming.facts import Evidence, Facts, Impact, PackageFacts, Place, Point, Report

S = 1_000_000_000
H = 3600 * S
ZERO = datetime(2026, 11, 1, 8, tzinfo=UTC)
T0 = int(ZERO.timestamp()) * S
L0 = Place(36.6512, 117.1201)
ENTRY = Evidence("entry", "rw-0000000000000000/l/crash/1")


def impact(**changed: Any) -> Impact:
    """Return a frontal impact of 22.5 km/h at L0, heading north."""
    made = Impact(
        device="rw-0000000000000000",
        incident="00112233aabbccdd",
        utc_ns=T0,
        uncertainty_ns=S // 10,
        place=L0,
        accuracy_m=3.0,
        heading_deg=0.0,
        longitudinal_mps=-6.25,
        lateral_mps=0.0,
        delta_v_mps=6.25,
        clipped=False,
        ref=ENTRY,
    )
    return made._replace(**changed)


def facts(**changed: Any) -> Facts:
    """Return the facts of a crash that is as it should be."""
    made = Facts(
        claim="c" * 16,
        now_utc_ns=T0 + H,
        impact=impact(),
        kind="impact",
        locked=True,
        quality="gnss",
        noticed_utc_ns=T0 + 5 * S,
        report=report(2 * H),
        recorded=True,
        after=(point(5.0, 3.0),),
        package=PackageFacts("proved", True, ref=Evidence("package", "d/i")),
    )
    return replace(made, **changed)


def report(delay_ns: int, place: Place | None = L0, loss_ns: int = T0) -> Report:
    return Report(T0 + delay_ns, loss_ns, place, Evidence("report", "c/1"))


def north(metres: float) -> Place:
    """Return the place so many metres north of L0."""
    return Place(L0.latitude + metres / 111_195.08, L0.longitude)


def point(t_s: float, metres: float, engine_on: bool | None = True) -> Point:
    return Point(t_s, north(metres), engine_on, ENTRY)
