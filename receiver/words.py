"""Numbers, durations and times as people read them, in one language and one time zone."""

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from agent.clock import NS_PER_S, iso_utc
from agent.errors import ConfigError, near_names
from receiver import gcj02
from receiver.queries import BootClock
from receiver.texts import Text

WGS84: Final = "wgs84"
# what a map may be shown in: the world's datum, in which we keep places, and that of the maps sold in China
DATUMS: Final = {WGS84: "WGS-84", "gcj02": "GCJ-02"}
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400
_MOST: Final = 1e12


def time_zone(name: str) -> ZoneInfo:
    """Return a zone of the tz database; raise ConfigError for a name that it does not hold."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as e:
        known = available_timezones()
        cause = f"no such time zone{near_names(name, known)}" if known else "no time zones here: apt install tzdata"
        raise ConfigError(f"time zone {name!r}: {cause}; write it like Asia/Shanghai") from e


def _bounded(value: float) -> float:
    """Bound what a record says to what can be written: it is right by type and signed, but may be any number."""
    return min(max(value, -_MOST), _MOST)


class Words:
    """Writes values; `now_ns` is the UTC at which the page is made."""

    def __init__(self, text: Text, zone: ZoneInfo, now_ns: int, datum: str = WGS84) -> None:
        self.text = text
        self.zone = zone
        self.now_ns = now_ns
        self.datum = datum

    # numbers

    def km(self, metres: float) -> str:
        """Write a distance: kilometres, finer where it is short."""
        km = _bounded(metres) / 1000
        return f"{km:,.0f}" if abs(km) >= 1000 or km == 0 else f"{km:.1f}" if abs(km) >= 0.95 else f"{km:.2f}"

    def kmh(self, mps: float) -> str:
        """Write a speed in whole km/h."""
        return f"{_bounded(mps) * 3.6:.0f}"

    def speed(self, mps: float) -> str:
        """Write a speed with its unit."""
        return f"{self.kmh(mps)} {self.text('unit.kmh')}"

    def distance(self, metres: float) -> str:
        """Write a distance with its unit."""
        return f"{self.km(metres)} {self.text('unit.km')}"

    def per_100_km(self, n: int, metres: float) -> str | None:
        """Write how many per 100 km; None below 10 km, where the figure would say nothing."""
        return f"{n / (_bounded(metres) / 100_000):.1f}" if metres >= 10_000 else None

    def percent(self, share: float) -> str:
        """Write a share of 1; never 100 % for less than all, nor 0 % for more than nothing."""
        value = round(_bounded(share) * 100)
        if value == 100 and share < 1.0:
            return "99"
        return "<1" if value == 0 and share > 0.0 else f"{value}"

    def duration(self, seconds: float) -> str:
        """Write a duration with the two largest units that matter."""
        seconds = _bounded(seconds)
        if seconds < 10 and seconds != int(seconds):
            return self.text("unit.seconds", n=f"{seconds:.1f}")
        whole = int(seconds + 0.5)
        if whole < _MINUTE:
            return self.text("unit.seconds", n=whole)
        minutes = int(seconds / _MINUTE + 0.5)
        if minutes < 60:
            return self.text("unit.minutes", n=minutes)
        hours, minutes = divmod(minutes, 60)
        if hours < 48:
            return self.text("unit.hours", h=hours, m=f"{minutes:02d}")
        return self.text("unit.days", d=hours // 24, h=hours % 24)

    def number(self, value: float, digits: int = 1) -> str:
        """Write a number with a real minus sign."""
        return f"{_bounded(value):,.{digits}f}".replace("-", "−")

    def coordinates(self, latitude: float, longitude: float) -> str:
        """Write a place, given in WGS-84, in degrees of the datum that is shown; one that is not WGS-84 is named."""
        latitude, longitude = self.shown(latitude, longitude)
        ns, ew = "N" if latitude >= 0 else "S", "E" if longitude >= 0 else "W"
        named = "" if self.datum == WGS84 else f" ({DATUMS[self.datum]})"
        return f"{abs(latitude):.5f}° {ns}, {abs(longitude):.5f}° {ew}{named}"

    def shown(self, latitude: float, longitude: float) -> tuple[float, float]:
        """Return a place, given in WGS-84, in the datum that is shown."""
        return (latitude, longitude) if self.datum == WGS84 else gcj02.from_wgs84(latitude, longitude)

    def datum_name(self) -> str:
        """Name the datum that is shown."""
        return DATUMS[self.datum]

    def other_datums(self) -> dict[str, str]:
        """Return the datums that could be shown instead, with their names."""
        return {key: name for key, name in DATUMS.items() if key != self.datum}

    # times

    def local(self, utc_ns: int) -> datetime:
        """Return the time in the pages' zone."""
        return datetime.fromtimestamp(utc_ns // NS_PER_S, UTC).astimezone(self.zone)

    def iso(self, utc_ns: int) -> str:
        """Write for <time datetime>."""
        return iso_utc(utc_ns)

    def clock(self, utc_ns: int) -> str:
        """Write hours and minutes."""
        return f"{self.local(utc_ns):%H:%M}"

    def seconds(self, utc_ns: int) -> str:
        """Write hours, minutes and seconds."""
        return f"{self.local(utc_ns):%H:%M:%S}"

    def date(self, utc_ns: int) -> str:
        """Write the day with its weekday."""
        at = self.local(utc_ns)
        month, weekday = self.text.listed("time.months")[at.month - 1], self.text.listed("time.weekdays")[at.weekday()]
        return self.text("time.date", year=at.year, month=month, day=at.day, weekday=weekday)

    def stamp(self, utc_ns: int) -> str:
        """Write day and time."""
        return f"{self.date(utc_ns)} {self.clock(utc_ns)}"

    def ago(self, utc_ns: int) -> str:
        """Write how long ago a time was, or the time itself when that is long."""
        seconds = max(0, self.now_ns - utc_ns) / NS_PER_S
        if seconds < _MINUTE:
            return self.text("time.just_now")
        if seconds < 2 * _DAY:
            return self.text("time.ago", duration=self.duration(seconds))
        return self.stamp(utc_ns)

    def elapsed(self, ns: int) -> str:
        """Write time since a start, as minutes and seconds or hours, minutes and seconds."""
        hours, rest = divmod(max(0, ns) // NS_PER_S, _HOUR)
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"

    def zone_name(self) -> str:
        """Name the zone with its present distance from UTC."""
        offset = self.local(self.now_ns).utcoffset() or timedelta()
        minutes = round(offset.total_seconds() / 60)
        sign = "−" if minutes < 0 else "+"
        return f"{self.zone.key} (UTC{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d})"

    def certain(self, clock: BootClock) -> bool:
        """Say whether a boot's time can be relied on."""
        return clock.offset_ns is not None and clock.quality in ("ntp", "gnss")

    def midnight_ns(self, utc_ns: int) -> int:
        """Return when the local day of a time began."""
        return _midnight_ns(self.local(utc_ns))

    def week_start_ns(self) -> int:
        """Return when this week began: Monday 00:00 in the zone."""
        at = self.local(self.now_ns)
        return _midnight_ns(at - timedelta(days=at.weekday()))

    def month_start_ns(self) -> int:
        """Return when this month began in the zone."""
        return _midnight_ns(self.local(self.now_ns).replace(day=1))


def _midnight_ns(at: datetime) -> int:
    return round(at.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()) * NS_PER_S
