"""What each role may do: one table. A right is `thing.deed`; every route needs one (receiver.people.gate)."""

from typing import Final

OWNER: Final = "owner"
ADJUSTER: Final = "adjuster"
UNDERWRITER: Final = "underwriter"
TECHNICIAN: Final = "technician"
ROLES: Final = (OWNER, ADJUSTER, UNDERWRITER, TECHNICIAN)

# right -> roles. How far a right reaches (whose car, whose claim) is receiver.people.reach.
RIGHTS: Final[dict[str, frozenset[str]]] = {
    "account.use": frozenset(ROLES),  # the own sessions, password and second factor
    # what a car did: places and times of a person
    "trips.read": frozenset({OWNER}),
    "trips.export": frozenset({OWNER}),
    "events.dispute": frozenset({OWNER}),
    "crashes.read": frozenset({OWNER, ADJUSTER}),  # a crash with its package, and the track only in there
    "crashes.check": frozenset({OWNER, ADJUSTER}),
    "clips.ask": frozenset({OWNER, ADJUSTER}),
    "tracks.ask": frozenset({OWNER, ADJUSTER}),
    # score and price
    "scores.read": frozenset({OWNER, UNDERWRITER}),
    "scores.backtest": frozenset({UNDERWRITER}),
    "exposure.read": frozenset({OWNER, UNDERWRITER}),  # kilometres and hours, no places
    "quotes.make": frozenset({OWNER, UNDERWRITER}),
    "quotes.read": frozenset({OWNER, UNDERWRITER}),
    "regimes.read": frozenset({UNDERWRITER}),
    "portfolio.read": frozenset({UNDERWRITER}),
    # policies and claims
    "policies.read": frozenset({OWNER, ADJUSTER, UNDERWRITER}),
    "claims.read": frozenset({OWNER, ADJUSTER}),
    "claims.report": frozenset({OWNER}),
    "claims.document": frozenset({OWNER, ADJUSTER}),
    "claims.dispute": frozenset({OWNER}),
    "claims.decide": frozenset({ADJUSTER}),
    "disputes.decide": frozenset({ADJUSTER}),
    "renewals.read": frozenset({UNDERWRITER}),
    "figures.read": frozenset({UNDERWRITER}),
    # the owner's own data
    "consents.read": frozenset({OWNER}),
    "consents.give": frozenset({OWNER}),
    "data.export": frozenset({OWNER}),
    "data.erase": frozenset({OWNER}),
    # boxes
    "devices.read": frozenset({TECHNICIAN}),
    "devices.enrol": frozenset({TECHNICIAN}),
    # what boxes answer about themselves; never a place: that is an adjuster's, with the owner's word
    "service.read": frozenset({TECHNICIAN}),
    "service.ask": frozenset({TECHNICIAN}),
    "bindings.read": frozenset({TECHNICIAN}),
    "bindings.write": frozenset({TECHNICIAN}),
}


def of_role(role: str) -> frozenset[str]:
    """Return the rights of a role."""
    return frozenset(right for right, roles in RIGHTS.items() if role in roles)
