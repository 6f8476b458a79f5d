"""How fast a fleet's scores are kept: a month anew, the same again, two models compared, beside scoring alone."""

import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

from sqlalchemy import Engine, func, insert, select

from benchmarks.scoring import fill
from receiver import db
from receiver.rating import portfolio, quotes, scores
from receiver.rating.batch import score_all
from receiver.rating.periods import last_ended
from receiver.rating.tables import kept_score
from receiver.registry import tables as registry
from receiver.scoring.model import model
from receiver.scoring.score import score_vehicle
from tests.pages import NOW
from tests.pricing import book, request_of

VEHICLES: Final = 2_000
TRIPS: Final = 12  # of each: what a run costs beside the trips is what is asked here; those are `benchmarks scoring`
QUOTES: Final = 300


def agree(engine: Engine, devices: list[str]) -> None:
    """Bind every device and have its owner agree to a score."""
    rows: dict[Any, list[dict[str, Any]]] = {t: [] for t in (registry.owner, registry.vehicle, registry.binding)}
    rows[registry.consent] = []
    for n, device in enumerate(devices):
        vin, owner = f"W{n:016d}", f"K-{n}"
        rows[registry.owner].append({"id": owner, "name": "", "phone": "", "email": "", "registered_utc_ns": 0})
        car = {"vin": vin, "owner": owner, "plate": "", "use_class": "family", "seats": 5, "energy": "fuel"}
        rows[registry.vehicle].append({**car, "first_registered": request_of().start, "registered_utc_ns": 0})
        bound = {"device": device, "vin": vin, "owner": owner, "bound_utc_ns": 0, "bound_by": "", "ended_by": ""}
        rows[registry.binding].append({**bound, "reason": ""})
        told = {"device": device, "vin": vin, "owner": owner, "purpose": "scoring", "given": True, "at_utc_ns": 0}
        rows[registry.consent].append({**told, "version": "", "language": "", "digest": "", "by": "", "how": ""})
    with engine.begin() as connection:
        for table, values in rows.items():
            connection.execute(insert(table), values)


def timed(work: Any) -> tuple[float, Any]:
    """Return how much processor time a work took, and what it returned."""
    start = process_time()
    done = work()
    return process_time() - start, done


def asked(engine: Engine, devices: list[str]) -> list[float]:
    """Give a quote to one car after the other and return the processor time of each, in order."""
    took = []
    wanted = request_of(start=request_of().start.replace(year=2026, month=12, day=1))
    for device in devices:
        start = process_time()
        with engine.begin() as connection:
            quotes.quote(connection, quotes.Asked(request=wanted, device=device), book(), NOW, "benchmark")
        took.append(process_time() - start)
    return sorted(took)


def main() -> None:
    """Print vehicles a second and the time of a quote."""
    with tempfile.TemporaryDirectory() as folder:
        engine = db.open_database(f"sqlite:///{Path(folder) / 'receiver.db'}")
        devices = fill(engine, VEHICLES, VEHICLES * TRIPS)
        agree(engine, devices)
        two, one = model("relativity/2"), model("relativity/1")
        month = last_ended(NOW, two.zone)
        end = scores.periods.bounds(month, two.zone)[1]
        bare = devices[: VEHICLES // 4]
        alone, _ = timed(lambda: [score_vehicle(engine, d, two, None, end) for d in bare])
        rows = [("scored only, nothing kept", alone * VEHICLES / len(bare))]
        for name in ("kept", "again: nothing changed"):
            took, _ = timed(lambda: score_all(engine, month, two, NOW))
            rows.append((name, took))
        start = perf_counter()
        score_all(engine, month, one, NOW, workers=2)
        both = perf_counter() - start
        with db.reading(engine) as connection:
            compared, _ = timed(lambda: portfolio.compare(connection, two.id, one.id, month))
            spread, _ = timed(lambda: portfolio.distribution(connection, two.id, month))
            size = connection.execute(select(func.avg(func.length(kept_score.c.result)))).scalar_one()
        print(f"{VEHICLES} vehicles with {TRIPS} trips each, SQLite, processor time")
        print(f"{'':30}{'s':>8}{'vehicles/s':>12}{'scored only = 1':>17}")
        for name, took in rows:
            print(f"{name:30}{took:8.1f}{VEHICLES / took:12.0f}{rows[0][1] / took:17.2f}")
        print(f"another model by 2 processes: {both:.1f} s of the clock, {VEHICLES / both:.0f} vehicles/s")
        print(f"two models compared {compared * 1e3:.0f} ms, one distribution {spread * 1e3:.0f} ms; ", end="")
        print(f"a kept account has {size:.0f} bytes")
        times = asked(engine, devices[:QUOTES])
        mean = sum(times) / len(times)
        print(f"quote with kept score, priced and stored: mean {mean * 1e3:.1f} ms, p99 {times[-4] * 1e3:.1f} ms")
        engine.dispose()


if __name__ == "__main__":
    main()
