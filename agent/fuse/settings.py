"""What fusion may be told; every figure with its reason."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FusionSettings:
    """Limits and time constants of fusion; sources: docs/sources.md (D1-D5) or, where measured, the recording named."""

    # --- samples
    gap_s: float = 5.0  # silence of every channel after which filters restart; 3 s is the longest GNSS gap of trip164
    jump_mps2: float = 12.0  # D4: a GNSS speed that changes faster is a jump; tyres give about 10 m/s²
    jump_margin_mps: float = 1.0  # room for quantisation and noise on top of jump_mps2 × time
    jump_accept_s: float = 1.0  # a "jump" that holds this long (and for 3 samples) was true: take it
    position_jump_mps: float = 90.0  # a fix that implies more (324 km/h) beyond its accuracy is a jump
    gnss_accuracy_mps: float = 3.0  # worse speed fixes are not used; trip164's 95th percentile is 0.37
    # --- speed
    bus_fresh_s: float = 1.0  # wheel and bus speeds come at 10-100 Hz
    obd_fresh_s: float = 4.0  # carobd: each PID is refreshed every 1.8 s, so twice that
    gnss_fresh_s: float = 3.2  # trip164: gaps between valid 1 Hz fixes reach 3.02 s
    hold_s: float = 1.8  # held when nothing follows: a gap of gnss_fresh_s less the 1.5 s that rows look ahead
    agree_mps: float = 1.0  # a source agrees with the fused speed within this …
    agree_share: float = 0.08  # … or this share of it: dials and OBD read up to a few per cent high (D2)
    frozen_s: float = 5.0  # a source whose value has not moved for so long …
    frozen_mps: float = 4.0  # … while another has gone this far away (or 20 %) is frozen
    gnss_still_mps: float = 0.5  # Doppler noise of a parked receiver (j1939_idle: 95th percentile 0.68, see below)
    still_mps: float = 0.2  # slower is standing, after 2 s
    # --- slopes
    slope_s: float = 1.0  # D2: least squares over 1 s
    slope_limit_s: float = 4.0  # widened until it holds three real updates, at most to this
    # --- acceleration
    road_tau_s: float = 8.0  # a road keeps its gradient for longer than a braking lasts
    roll_tau_s: float = 10.0  # cross slope and lateral bias, learned while going straight
    level_tau_s: float = 20.0  # slope left in `horizontal`, which knows no speed
    # --- mount
    gravity_tau_s: float = 300.0  # driving seconds; averages slopes of up to 10 % (5.7°) below 2°
    gravity_first_s: float = 2.0  # standing still: enough for a first gravity
    gravity_blind_s: float = 3.0  # quiet, but speed unknown or moving: a first gravity, refined from then on
    memory_s: float = 1800.0  # driving seconds that the forward direction remembers
    straight_degps: float = 4.0  # slower turning is "fairly straight" for learning forward
    evidence_m2ps3: float = 15.0  # least ∫a²dt: 2 m/s² for 4 s; a mount from less is a guess
    error_deg: float = 5.0  # standard error of the forward direction at which confidence is one half (T-CAL-1: 5°)
    use_confidence: float = 0.5  # lon_imu and lat_imu are given from here on
    moved_deg: float = 15.0  # D3: gravity turned by more …
    moved_s: float = 60.0  # … for longer: the box was moved
    handled_degps: float = 15.0  # 1 s mean tilting of the box; a car pitches and rolls slower over any road
    suspect_s: float = 3.0  # box axes are not believed for so long after a sign of handling
