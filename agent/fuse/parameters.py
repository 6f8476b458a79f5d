"""Fusion's settings as a record that kernels read."""

from dataclasses import astuple, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agent.fuse.settings import FusionSettings

PARAMETERS: Final = np.dtype([(f.name, "<f8") for f in fields(FusionSettings)])


def as_record(settings: FusionSettings) -> npt.NDArray[Any]:
    """Return the settings as an array of one record."""
    return np.array([astuple(settings)], PARAMETERS)
