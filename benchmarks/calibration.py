"""What a year's kilometres do to the number of claims, fitted to norauto: the source of the mileage coefficient.

Poisson regression with log link, the policy's share of a year as exposure, by iteratively re-weighted least squares.
The data's driver and region columns are held constant beside the distance limit, so that the limit does not stand
for them; they end here and are no input of any score. Beside it stands the same without them, and the raw rates.
"""

import csv
import lzma
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

DATA: Final = Path(__file__).parents[1].parent / "shared" / "data" / "fleet" / "norauto.csv.xz"
# The limit that a policy is priced by, km a year; the open one has no number and gets a level of its own.
LIMITS_KM: Final = {
    "8000 km": 8_000,
    "12000 km": 12_000,
    "16000 km": 16_000,
    "20000 km": 20_000,
    "25000-30000 km": 27_500,
    "no limit": None,
}
REFERENCE: Final = "12000 km"
Floats = npt.NDArray[np.float64]


class Fit(NamedTuple):
    """Coefficients with their standard errors; `dispersion` is Pearson's chi-square over the degrees of freedom."""

    names: list[str]
    beta: Floats
    error: Floats
    dispersion: float


def poisson(names: list[str], x: Floats, claims: Floats, exposure: Floats) -> Fit:
    """Fit log E[claims] = log exposure + x·beta (McCullagh and Nelder, Generalized Linear Models, 2.5)."""
    beta = np.zeros(x.shape[1])
    beta[0] = np.log(claims.sum() / exposure.sum())
    for _ in range(50):
        mean = exposure * np.exp(x @ beta)
        information = (x * mean[:, None]).T @ x
        step = np.linalg.solve(information, x.T @ (claims - mean))
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    mean = exposure * np.exp(x @ beta)
    dispersion = float((((claims - mean) ** 2) / mean).sum() / (len(claims) - x.shape[1]))
    covariance = np.linalg.inv((x * mean[:, None]).T @ x)
    return Fit(names, beta, np.sqrt(np.diag(covariance) * max(1.0, dispersion)), dispersion)


def read() -> dict[str, list[str]]:
    """Return the columns of norauto."""
    with lzma.open(DATA, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def _levels(column: list[str], reference: str) -> tuple[list[str], Floats]:
    names = sorted(set(column) - {reference})
    return names, np.array([[value == name for name in names] for value in column], dtype=np.float64)


def elasticity(columns: dict[str, list[str]], controlled: bool) -> Fit:
    """Fit the exponent of the yearly limit, with a level of its own for policies without one."""
    limits = [LIMITS_KM[name] for name in columns["DistLimit"]]
    log_km = np.array([np.log(km / LIMITS_KM[REFERENCE]) if km else 0.0 for km in limits])  # type: ignore[operator]
    unlimited = np.array([km is None for km in limits], dtype=np.float64)
    return _with_controls(["ln(km/12000)", "no limit"], np.column_stack([log_km, unlimited]), columns, controlled)


def by_limit(columns: dict[str, list[str]], controlled: bool) -> Fit:
    """Fit one level for each limit."""
    names, x = _levels(columns["DistLimit"], REFERENCE)
    return _with_controls(names, x, columns, controlled)


def _with_controls(names: list[str], x: Floats, columns: dict[str, list[str]], controlled: bool) -> Fit:
    parts = [np.ones((len(x), 1)), x]
    if controlled:
        parts.append(np.array([columns["Male"], columns["Young"]], dtype=np.float64).T)
        parts.append(_levels(columns["GeoRegion"], "High-")[1])
    design = np.column_stack(parts)
    names = ["rate", *names, *(f"control {n}" for n in range(design.shape[1] - 1 - len(names)))]
    claims, exposure = (np.array(columns[name], dtype=np.float64) for name in ("NbClaim", "Expo"))
    return poisson(names, design, claims, exposure)


def main() -> None:
    """Print relativities by limit and the exponent, each with its 95 % interval."""
    if not DATA.is_file():
        print(f"not measured: {DATA} is not there; it is not ours to ship (CASdatasets, GPL-2 or later)")
        return
    columns = read()
    claims, exposure = (np.array(columns[name], dtype=np.float64) for name in ("NbClaim", "Expo"))
    print(f"{len(claims)} policies, {exposure.sum():.0f} years, {claims.sum():.0f} claims")
    fits = {True: by_limit(columns, True), False: by_limit(columns, False)}
    print(f"{'limit':16}{'claims/year':>12}{'controlled':>12}{'95 % interval':>17}{'alone':>8}")
    kinds = np.array(columns["DistLimit"])
    for name in LIMITS_KM:
        rate = claims[kinds == name].sum() / exposure[kinds == name].sum()
        if name == REFERENCE:
            print(f"{name:16}{rate:12.4f}{1:12.3f}{'reference':>17}{1:8.3f}")
            continue
        at = fits[True].names.index(name)
        b, e = fits[True].beta[at], 1.96 * fits[True].error[at]
        between = f"{np.exp(b - e):.3f} … {np.exp(b + e):.3f}"
        print(f"{name:16}{rate:12.4f}{np.exp(b):12.3f}{between:>17}{np.exp(fits[False].beta[at]):8.3f}")
    for controlled in (True, False):
        fit = elasticity(columns, controlled)
        b, e = fit.beta[1], 1.96 * fit.error[1]
        how = "others held constant" if controlled else "limit alone"
        print(f"exponent of km, {how}: {b:.4f} ({b - e:.4f} … {b + e:.4f}), dispersion {fit.dispersion:.3f}")


if __name__ == "__main__":
    main()
