"""Who asks: a person who signed in, or a program with a token."""

from dataclasses import dataclass

from receiver.people.rights import RIGHTS


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with one role; `owner` is the owner whose cars he sees, empty for the insurer's people.

    `name` is unique for ever and stands in the logs. `scopes` are a token's rights, None for all of the role.
    """

    id: str
    name: str
    role: str
    owner: str = ""
    scopes: frozenset[str] | None = None

    def may(self, right: str) -> bool:
        """Say whether the role has a right and the token, if it is one, carries it; KeyError for an unknown right."""
        return self.role in RIGHTS[right] and (self.scopes is None or right in self.scopes)
