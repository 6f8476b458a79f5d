"""What the bench raises."""


class CannotBeHadError(Exception):
    """Name a piece that this machine lacks; its tests are skipped with these words."""


class GuestError(Exception):
    """Say that the guest is off, does not answer, or that a command in it failed."""
