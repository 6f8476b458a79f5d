"""The due list for other programs: CSV (RFC 4180) and a calendar (iCalendar, RFC 5545)."""

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from agent.clock import NS_PER_S
from receiver.renewals.due import Due

COLUMNS: Final = (
    "policy",
    "vin",
    "plate",
    "owner",
    "device",
    "use_class",
    "ends",
    "days_left",
    "next_day",
    "next",
    "sms",
    "escalated",
    "excluded",
    "score_then",
    "score_now",
    "score_change",
    "price_old",
    "price_new",
    "price_difference",
)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs cells that begin so
_WORDS: Final = {
    "en": {
        "sms": "send a message",
        "call": "call",
        "task": "contact",
        "list": "issue the list",
        "contact": "contact everybody",
        "track": "key tracking",
        "collate": "collate customers",
        "target": "set the target",
        "escalate": "escalate",
        "of": "{what}: policy {policy} of {car} ends {ends}",
    },
    "zh": {
        "sms": "发送短信",
        "call": "电话联系",
        "task": "联系客户",
        "list": "下发清单",
        "contact": "全面联系",
        "track": "重点跟踪",
        "collate": "整理客户",
        "target": "制定目标",
        "escalate": "升级处理",
        "of": "{what}:{car} 的保单 {policy} 于 {ends} 到期",
    },
}


def to_csv(rows: Sequence[Due]) -> str:
    """Return the due list as CSV with a header; text that a spreadsheet would run gets an apostrophe before it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for d in rows:
        p, step = d.policy, d.next
        cells: list[object] = [*map(_text, (p.id, p.vin, p.plate, p.owner, p.device, p.use_class)), p.ends, d.days_left]
        cells += ["", "", ""] if step is None else [step.day, step.kind, int(step.sms)]
        cells += [int(d.escalated), d.excluded]
        cells += ["", "", ""] if d.score is None else [d.score.then, d.score.now, d.score_change]
        cells += ["", "", ""] if d.prices is None else [d.prices.old, d.prices.new, d.price_difference]
        writer.writerow(cells)
    return out.getvalue()


def to_ics(rows: Sequence[Due], now_ns: int, language: str = "en") -> str:
    """Return every contact from today on as an all-day entry; the same contact has the same UID each time."""
    words = _WORDS[language]
    stamp = datetime.fromtimestamp(now_ns // NS_PER_S, UTC).strftime("%Y%m%dT%H%M%SZ")
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Roadwitness//Renewals//EN", "CALSCALE:GREGORIAN"]
    for d in rows:
        today = d.policy.ends - timedelta(d.days_left)
        for step in d.contacts:
            if (step.until or step.day) < today:
                continue
            car = d.policy.plate or d.policy.vin
            said = words["of"].format(what=words[step.kind], policy=d.policy.id, car=car, ends=d.policy.ends)
            lines += [
                "BEGIN:VEVENT",
                f"UID:{d.policy.id}-{step.kind}-{step.day:%Y%m%d}@roadwitness",
                f"DTSTAMP:{stamp}",
                f"DTSTART;VALUE=DATE:{step.day:%Y%m%d}",
                f"DTEND;VALUE=DATE:{(step.until or step.day) + timedelta(1):%Y%m%d}",  # the day after the last
                f"SUMMARY:{_escaped(said)}",
                "TRANSP:TRANSPARENT",
                "END:VEVENT",
            ]
    lines.append("END:VCALENDAR")
    return "".join(f"{part}\r\n" for line in lines for part in _folded(line))


def _text(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA) else value


def _escaped(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,")
    return escaped.replace("\r", "").replace("\n", "\\n")


def _folded(line: str) -> Iterator[str]:
    """Cut a line into pieces of at most 75 octets, never inside a character; further ones begin with a space."""
    piece, size = "", 0
    for character in line:
        length = len(character.encode())
        if size + length > 75:
            yield piece
            piece, size = " ", 1
        piece, size = piece + character, size + length
    yield piece
