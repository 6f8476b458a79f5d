"""Why the registry refuses something: one sentence, the field of a form, and what HTTP calls it."""

from agent.errors import RoadwitnessError


class RegistryError(RoadwitnessError):
    """Something that cannot be registered; `field` names what is wrong, for a form, `status` is HTTP's number."""

    def __init__(self, said: str, field: str = "", status: int = 422) -> None:
        self.field = field
        self.status = status
        super().__init__(said)
