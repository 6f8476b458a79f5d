"""The form of a quote: from what is known of a car to filled fields, and from what was typed to a request.

The name of a field is its path in the request, so that a refusal finds the field it is about.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

from msgspec import structs

from receiver.fields import Field, Typed
from receiver.policies import Policy
from receiver.pricing import QuoteError, QuoteRequest, RateBook
from receiver.pricing.book import RegimeRates
from receiver.pricing.money import plain
from receiver.pricing.request import Telematics, convert_request
from receiver.pricing.schema import Name
from receiver.registry.vehicles import Vehicle
from receiver.texts import Text

ASKED: Final = "asked"  # the form was sent: a box without a tick is then a no
# first character of a plate -> region, and the cities with a supervision of their own by two (GA 36-2018)
PLATES: Final = {
    "京": "beijing", "津": "tianjin", "冀": "hebei", "晋": "shanxi", "蒙": "neimenggu", "辽": "liaoning", "吉": "jilin",
    "黑": "heilongjiang", "沪": "shanghai", "苏": "jiangsu", "浙": "zhejiang", "皖": "anhui", "闽": "fujian",
    "赣": "jiangxi", "鲁": "shandong", "豫": "henan", "鄂": "hubei", "湘": "hunan", "粤": "guangdong", "桂": "guangxi",
    "琼": "hainan", "渝": "chongqing", "川": "sichuan", "贵": "guizhou", "云": "yunnan", "藏": "xizang",
    "陕": "shaanxi", "甘": "gansu", "青": "qinghai", "宁": "ningxia", "新": "xinjiang",
    "辽B": "dalian", "浙B": "ningbo", "闽D": "xiamen", "鲁B": "qingdao", "粤B": "shenzhen",
}  # fmt: skip
OCC: Final = {"OCC.driver": "driver_limit_yuan", "OCC.passenger": "passenger_limit_yuan"}
HISTORY: Final = ("standing", "insured_years", "claims_three_years", "lapse_months", "previous_level")
YEARLY: Final = ("standing", "claim_free_years", "claims_last_year")
SCORE: Final = "score"


@dataclass(frozen=True, slots=True)
class Group:
    """Fields that belong together."""

    key: str
    title: str
    fields: list[Field]
    hint: str = ""
    folded: bool = False  # it is filled already, and seldom changed

    @property
    def open(self) -> bool:
        """Say whether something in it must be looked at."""
        return any(field.error for field in self.fields)


def region_of(plate: str) -> str:
    """Return the region in which a plate was issued, "" where it does not tell."""
    return PLATES.get(plate[:2], PLATES.get(plate[:1], ""))


def defaults(
    plate: str, vehicle: Vehicle | None, policy: Policy | None, km_year: float | None, today: date
) -> dict[str, list[str]]:
    """Return what is known of a car as the values of the form; `policy` is its latest one."""
    start = today + timedelta(1)
    if policy is not None and policy.ends >= today:
        start = policy.ends + timedelta(1)
    values = {
        "region": region_of(plate),
        "traffic_violation": "1",
        "start": start.isoformat(),
        "vehicle.use_class": "family" if vehicle is None else vehicle.use_class,
        "vehicle.energy": "fuel" if vehicle is None else vehicle.energy,
        "vehicle.seats": "5" if vehicle is None else str(vehicle.seats),
        "vehicle.first_registration": "" if vehicle is None else vehicle.first_registered.isoformat(),
        "km_per_year": "12000" if km_year is None else f"{round(km_year, -2):.0f}",
        "history.standing": "renewal" if policy is not None else "new",
        "history.insured_years": "1" if policy is not None else "",
        "history.claims_three_years": "0" if policy is not None else "",
        "history.lapse_months": "0" if policy is not None else "",
        "with_compulsory": "1",
        "compulsory.standing": "renewal" if policy is not None else "new",
        "compulsory.clean_years": "1" if policy is not None else "0",
        "compulsory.accidents_last_year": "0",
        SCORE: "1",
    }
    form = {name: [value] for name, value in values.items() if value}
    covers = ["TPL"] if policy is None else list(dict.fromkeys(c.code.partition(".")[0] for c in policy.covers))
    form["cover"] = covers or ["TPL"]
    form["covers.TPL.limit_yuan"] = ["2000000"]
    for cover in () if policy is None else policy.covers:
        if cover.sum_fen is not None and cover.code != "VD":
            name = OCC.get(cover.code, "limit_yuan")
            form[f"covers.{cover.code.partition('.')[0]}.{name}"] = [plain(Decimal(cover.sum_fen) / 100)]
    return form


def regime_of(form: Typed, book: RateBook, today: date) -> RegimeRates:
    """Return the regime whose covers the form offers: that of its region and day, else today's of the first region."""
    try:
        start = date.fromisoformat(form.text("start"))
        return book.regime(book.region(form.text("region")), start)
    except (ValueError, QuoteError):
        return book.regime(next(iter(book.names.regions)), today)


def request_of(form: Typed, rates: RegimeRates, telematics: Telematics | None) -> QuoteRequest | None:
    """Read a form into a request; None where something typed is no number or day. Raise QuoteError for the rest."""
    vehicle: dict[str, Any] = {
        "use_class": form.text("vehicle.use_class"),
        "energy": form.text("vehicle.energy"),
        "seats": form.whole("vehicle.seats"),
        "first_registration": form.day("vehicle.first_registration"),
        "model": form.text("vehicle.model") or None,
        "new_price_yuan": form.number("vehicle.new_price_yuan"),
        "tonnes": form.number("vehicle.tonnes"),
        "cc": form.number("vehicle.cc"),
    }
    covers = [_choice(form, rates, name) for name in form.listed("cover")]
    names = HISTORY if rates.regime.ncd.level_rule is not None else YEARLY
    history = {"standing": form.text("history.standing"), **{n: form.whole(f"history.{n}") for n in names[1:]}}
    if history["standing"] != "renewal":
        history = {"standing": history["standing"]}
    given: dict[str, Any] = {
        "region": form.text("region"),
        "start": form.day("start"),
        "vehicle": {name: value for name, value in vehicle.items() if value is not None},
        "covers": covers,
        "km_per_year": form.whole("km_per_year"),
        "traffic_violation": form.number("traffic_violation") if _has_traffic(form, rates) else None,
        "history": {name: value for name, value in history.items() if value is not None} if covers else None,
    }
    if form.checked("with_compulsory"):
        given["compulsory"] = _compulsory(form)
    if form.errors:
        return None
    request = convert_request({name: value for name, value in given.items() if value is not None})
    return with_score(request, telematics) if covers and form.checked(SCORE) else request


def with_score(request: QuoteRequest, telematics: Telematics | None) -> QuoteRequest:
    """Return the request with a score in it."""
    return request if telematics is None else structs.replace(request, telematics=telematics)


def _choice(form: Typed, rates: RegimeRates, name: str) -> dict[str, Any]:
    """Read one chosen cover, with only what its rule uses."""
    choice: dict[str, Any] = {"cover": name}
    for part in _parts(rates, name):
        path = f"covers.{name}.{part}"
        choice[part] = form.listed(path) if part == "of" else form.number(path)
    return {key: value for key, value in choice.items() if value is not None}


def _parts(rates: RegimeRates, name: str) -> tuple[str, ...]:
    if name not in rates.covers:
        return ()
    cover = rates.covers[name].cover
    if cover.rule == "per_seat":
        return ("driver_limit_yuan", "passenger_limit_yuan")
    if cover.rule == "share":
        return ("of",)
    return ("limit_yuan",) if cover.limits or cover.sum is not None or cover.agreed_percent is not None else ()


def _compulsory(form: Typed) -> dict[str, Any]:
    standing = form.text("compulsory.standing")
    counts = {n: form.whole(f"compulsory.{n}") for n in ("clean_years", "accidents_last_year")}
    given: dict[str, Any] = {"standing": standing}
    if standing == "renewal":
        given |= {name: count for name, count in counts.items() if count is not None}
        given["fatal_last_year"] = form.checked("compulsory.fatal_last_year")
    return given


class Fields:
    """Makes the fields of one form in one language, each with its own error."""

    def __init__(self, text: Text, form: Typed, errors: Mapping[str, str]) -> None:
        self._text = text
        self._form = form
        self._errors = errors

    def one(self, name: str, kind: str, label: str = "", **given: Any) -> Field:
        """Make a field; its label and hint are words under its name."""
        text, key = self._text, name.replace(".", "_")
        hint = text.among("my_quote.hint", key)
        made = Field(
            name=name,
            label=label or text(f"my_quote.field.{key}"),
            kind=kind,
            value=self._form.text(name),
            hint="" if hint == key else hint,
            error=self._errors.get(name, ""),
        )
        return replace(made, **given) if given else made

    def named(self, name: str, words: Mapping[str, Name], blank: bool = False) -> Field:
        """Make a choice among names of the rate tables, where `blank` with none of them."""
        options = [("", "–")] if blank else []
        options += [(key, str(getattr(word, self._text.language))) for key, word in words.items()]
        return self.one(name, "select", options=options)


def groups(
    text: Text, form: Typed, errors: Mapping[str, str], book: RateBook, rates: RegimeRates, scored: bool, today: date
) -> list[Group]:
    """Return the form's fields in their groups; `scored` says that a score may be used."""
    make = Fields(text, form, errors)
    days = {"low": today.isoformat()}
    standings = [(s, text(f"my_quote.standing.{s}")) for s in ("renewal", "new", "transferred")]
    names = HISTORY if rates.regime.ncd.level_rule is not None else YEARLY
    mileage = [make.one("km_per_year", "number")]
    if scored:
        mileage.append(make.one(SCORE, "check"))
    told = [
        Group("mileage", text("my_quote.group.mileage"), mileage),
        Group("covers", text("my_quote.group.covers"), _covers(make, text, form, errors, rates)),
        Group(
            "history",
            text("my_quote.group.history"),
            [
                make.one("history.standing", "select", options=standings),
                *(make.one(f"history.{n}", "number") for n in names[1:]),
            ],
            text("my_quote.group.history_hint"),
            folded=True,
        ),
        Group(
            "compulsory",
            text("my_quote.group.compulsory"),
            [
                make.one("with_compulsory", "check"),
                make.one("compulsory.standing", "select", options=standings),
                make.one("compulsory.clean_years", "number"),
                make.one("compulsory.accidents_last_year", "number"),
                make.one("compulsory.fatal_last_year", "check"),
            ],
            folded=True,
        ),
        Group(
            "car",
            text("my_quote.group.car"),
            [
                make.named("region", book.names.regions, blank=True),
                make.one("start", "date", **days),
                make.named("vehicle.use_class", book.names.use_classes),
                make.named("vehicle.energy", book.names.energies),
                make.one("vehicle.seats", "number"),
                make.one("vehicle.first_registration", "date", high=today.isoformat()),
                make.one("vehicle.model", "select", options=_models(text, rates)),
                make.one("vehicle.new_price_yuan", "number"),
                make.one("vehicle.tonnes", "number"),
                make.one("vehicle.cc", "number"),
                *([make.one("traffic_violation", "number")] if _has_traffic(form, rates) else []),
            ],
            folded=True,
        ),
    ]
    return told


def _has_traffic(form: Typed, rates: RegimeRates) -> bool:
    """Say whether the chosen region has the factor of traffic violations."""
    rows = rates.regime.traffic.rows if rates.regime.traffic is not None else []
    return any(row.region == form.text("region") for row in rows)


def _models(text: Text, rates: RegimeRates) -> list[tuple[str, str]]:
    tables = (c.table for c in rates.covers.values() if "model" in c.table.keys)
    names = sorted({str(m) for table in tables for m in table.knows("model")})
    return [("", text("my_quote.no_model")), *((n, n) for n in names)]


def _covers(make: Fields, text: Text, form: Typed, errors: Mapping[str, str], rates: RegimeRates) -> list[Field]:
    """Return a box for each cover of the regime, followed by its sums."""
    chosen, fields = form.listed("cover"), []
    for name, found in rates.covers.items():
        cover = found.cover
        note = getattr(cover, f"note_{text.language}")
        box = Field(
            name="cover",
            label=getattr(cover, text.language),
            kind="cover",
            value=name if name in chosen else "",
            options=[(name, name)],
            hint=note,
            error=errors.get(f"covers.{name}", ""),
        )
        fields.append(box)
        for part in _parts(rates, name):
            path = f"covers.{name}.{part}"
            label = text(f"my_quote.sum.{part}", cover=box.label)
            if part == "of":
                among = [
                    (str(c), getattr(rates.covers[str(c)].cover, text.language)) for c in found.table.knows("cover")
                ]
                fields.append(make.one(path, "among", label, options=among))
            elif cover.limits:
                amounts = [(plain(limit), f"{limit:,.0f}") for limit in cover.limits]
                fields.append(make.one(path, "select", label, options=[("", "–"), *amounts]))
            else:
                fields.append(make.one(path, "number", label))
    return fields
