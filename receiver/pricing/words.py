"""The reasons that a quote gives, in English and Chinese."""

from decimal import Decimal
from typing import Final

from receiver.pricing.answer import Text
from receiver.pricing.money import plain

TITLES: Final = {
    "ncd": Text("no-claim factor", "无赔款优待系数"),
    "traffic": Text("traffic violations", "交通违法系数"),
    "telematics": Text("driving score", "驾驶行为系数"),
    "filed": Text("insurer's own value", "保险人自定系数"),
    "total": Text("all factors together", "总系数"),
    "floating": Text("accident record", "费率浮动"),
}

ROUNDING: Final = Text(
    "Each cover's premium is rounded once, half up, to 0.01 yuan; totals are sums of what is shown. Measured factors "
    "are rounded half up to six places before they multiply.",
    "各险种保费仅四舍五入一次至 0.01 元，合计为所示金额之和；测量所得系数先四舍五入至六位小数再相乘。",
)

REASONS: Final[dict[str, tuple[str, str]]] = {
    "ncd.neutral": ("{standing}: the history does not float", "{standing}：不浮动"),
    "ncd.free": ("{years} years without a claim", "连续 {years} 年无赔款"),
    "ncd.claims": ("{claims} claims last year", "上年赔款 {claims} 次"),
    "ncd.level": (
        "level {level}: {claims} claims in three years, {years} insured years in a row",
        "等级 {level}：近三年赔款 {claims} 次，连续投保 {years} 年",
    ),
    "ncd.lowest": (
        "level {level}: {years} insured years in a row without a claim",
        "等级 {level}：连续投保 {years} 年无赔款",
    ),
    "ncd.capped": (
        "level {level}, the highest: {claims} claims in three years, {years} insured years in a row",
        "等级 {level}（最高）：近三年赔款 {claims} 次，连续投保 {years} 年",
    ),
    "ncd.only_up": (
        "level {level}: after a lapse of {months} months it does not fall below the last one, {previous}",
        "等级 {level}：脱保 {months} 个月，只升不降，上期等级 {previous}",
    ),
    "ncd.lapsed": (
        "level 0: insured again after {months} months without cover",
        "等级 0：脱保 {months} 个月后重新投保",
    ),
    "traffic.here": ("{value} by the violations that the platform reports", "按平台反馈的违法记录：{value}"),
    "traffic.none": ("no such factor in this region", "本地区无此系数"),
    "filed.table": ("filed by the insurer for this use", "保险人对该使用性质报备的系数"),
    "filed.given": (
        "set by the underwriter for this quote; the filed value is {filed}",
        "核保人为本次报价设定；报备值 {filed}",
    ),
    "own.plain": ("the insurer's own value", "保险人自定系数"),
    "own.score": ("the insurer's value {own} × driving score {score}", "保险人系数 {own} × 驾驶行为 {score}"),
    "own.low": (" = {raw}, raised to the lowest allowed, {low}", " = {raw}，不得低于下限 {low}"),
    "own.high": (" = {raw}, lowered to the highest allowed, {high}", " = {raw}，不得高于上限 {high}"),
    "score.none": ("no driving score in this price", "未使用驾驶评分"),
    "score.no_place": ("this regime lets no driving score into a price", "该费率制度不允许使用驾驶评分"),
    "score.used": (
        "relative risk {r} from {km} km, believed by {z} %: 1 + {z} % × ({r} - 1)",
        "相对风险 {r}，里程 {km} 公里，可信度 {z}%：1 + {z}% × ({r} - 1)",
    ),
    "score.bounded": (" = {raw}, kept within {low} and {high}", " = {raw}，限制在 {low} 至 {high} 之间"),
    "total": ("product of the factors", "各系数之积"),
    "total.low": ("product {raw}, but no price may be below {low} of the tariff", "系数之积 {raw}，最低不得低于 {low}"),
    "total.high": (
        "product {raw}, but no price may be above {high} of the tariff",
        "系数之积 {raw}，最高不得高于 {high}",
    ),
    "floating.neutral": ("{standing} vehicle: no record yet", "{standing}车辆：不浮动"),
    "floating.base": (
        "less than a year without an accident at fault: the base premium",
        "无责任事故不满一年：基础保费",
    ),
    "floating.A1": ("a year without an accident at fault", "上一年度未发生有责任事故"),
    "floating.A2": ("two years without an accident at fault", "上两年度未发生有责任事故"),
    "floating.A3": ("three or more years without an accident at fault", "上三年及以上未发生有责任事故"),
    "floating.A4": ("one accident at fault last year, without death", "上年一次有责任不涉及死亡事故"),
    "floating.A5": ("two or more accidents at fault last year", "上年两次及以上有责任事故"),
    "floating.A6": ("an accident at fault with death last year", "上年有责任死亡事故"),
    "per_km": (
        "{base} yuan, and {rate} yuan for each km; {reference} km cost what the yearly cover costs",
        "基础 {base} 元，每公里 {rate} 元；{reference} 公里时与年度保费相同",
    ),
    "settled": ("{km} km driven, {billed} km billed", "实际行驶 {km} 公里，计费 {billed} 公里"),
    "settled.within": (
        "{km} km driven, within {tolerance} % of what was declared: nothing changes",
        "实际行驶 {km} 公里，在申报里程 {tolerance}% 容差内，不作调整",
    ),
    "settled.bounded": (
        ", kept within {low} and {high} yuan, which the law allows",
        "，限制在 {low} 至 {high} 元的法定范围内",
    ),
}

STANDINGS: Final = {
    "new": Text("new", "新购"),
    "transferred": Text("transferred", "过户"),
    "not_floating": Text("reason given by the platform", "平台反馈不浮动原因"),
    "renewal": Text("renewal", "续保"),
}


def say(key: str, **values: object) -> Text:
    """Put values into a reason; decimals without idle zeros."""
    english, chinese = REASONS[key]
    in_en = {k: v.en if isinstance(v, Text) else plain(v) if isinstance(v, Decimal) else v for k, v in values.items()}
    in_zh = {k: v.zh if isinstance(v, Text) else in_en[k] for k, v in values.items()}
    return Text(english.format(**in_en), chinese.format(**in_zh))


def join(first: Text, second: Text) -> Text:
    """Put one text behind the other."""
    return Text(first.en + second.en, first.zh + second.zh)
