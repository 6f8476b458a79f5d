"""An owner who agreed on paper to what most tests of the device are about."""

from typing import Final

from agent.consent.settings import ConsentSettings

AGREED: Final = ConsentSettings(sheet="sheet 1 of the tests")
