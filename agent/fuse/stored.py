"""What of the fused state is stored as samples: speed and acceleration of the vehicle, and its position."""

from typing import Final

import numpy as np

from agent.blocks import BLOCK, Block
from agent.channels import BY_NAME
from agent.fuse.settings import FusionSettings
from agent.state import STEP_NS, State

# Channel -> the state columns that can give it, best first (two independent instruments before slopes of speed).
_MOTION: Final = {
    "Vehicle.Speed": ("speed",),
    "Vehicle.Acceleration.Longitudinal": ("lon_imu", "lon_vehicle", "lon_wheel", "lon_can", "lon_obd", "lon_gnss"),
    "Vehicle.Acceleration.Lateral": ("lat_imu", "lat_vehicle", "lat_yaw", "lat_gnss"),
}
_PLACE: Final = {
    "Vehicle.CurrentLocation.Latitude": ("latitude",),
    "Vehicle.CurrentLocation.Longitude": ("longitude",),
    "Vehicle.CurrentLocation.Heading": ("heading",),
    "Vehicle.CurrentLocation.HorizontalAccuracy": ("accuracy",),
}


def fused_block(rows: State, settings: FusionSettings) -> Block:
    """Return the samples to store of `rows`, thinned to the settings' rates; what is not known is left out.

    Which rows are kept depends on their times only, so that the result does not depend on how rows are cut.
    """
    parts = []
    for table, rate in ((_MOTION, settings.store_motion_hz), (_PLACE, settings.store_place_hz)):
        kept = rows[rows["t"] // STEP_NS % max(round(1e9 / STEP_NS / rate), 1) == 0]
        for name, columns in table.items():
            channel = BY_NAME[name]
            value = np.full(len(kept), np.nan)
            for column in columns:
                value = np.where(np.isnan(value), kept[column], value)
            known = (value >= channel.low) & (value <= channel.high)
            part = np.zeros(np.count_nonzero(known), BLOCK)
            part["t"], part["channel"], part["value"] = kept["t"][known], channel.number, value[known]
            parts.append(part)
    block = np.concatenate(parts)
    return block[np.argsort(block["t"], kind="stable")]
