"""Why a price cannot be made: the field, the reason in both languages, and what is known instead. Never a default."""

from collections.abc import Iterable
from typing import Final

from agent.errors import RoadwitnessError, near_names

# code -> what is said about a field, in English and Chinese
SAID: Final[dict[str, tuple[str, str]]] = {
    "missing": ("is needed {why}", "缺少必填项{why}"),
    "unknown_key": ("is no field of a request", "请求中没有此字段"),
    "not_valid": ("is not valid: {why}", "无效：{why}"),
    "out_of_range": ("must be {why}, not {value}", "须为{why}，而不是 {value}"),
    "no_row": ("{value} has no row in table {table}", "{value} 在表 {table} 中没有对应行"),
    "unknown_region": ("{value} is no region of the tables", "{value} 不是费率表中的地区"),
    "not_in_force": ("{value} is not in force on {day} in {region}", "{value} 于 {day} 在 {region} 未施行"),
    "no_regime": ("no regime is in force on {day} in {region}", "{day} 在 {region} 没有施行中的费率制度"),
    "not_offered": ("{value} is not offered under regime {regime}", "{regime} 制度不提供 {value}"),
    "included": ("{value} is part of {within} under regime {regime}", "{regime} 制度下 {value} 已包含在 {within} 中"),
    "needs_cover": ("{value} needs {needed} beside it", "{value} 须与 {needed} 同时投保"),
    "twice": ("{value} is asked for twice", "{value} 重复选择"),
    "not_used": ("has no place here: {why}", "此处不适用：{why}"),
    "no_consent": ("the owner's consent to use the score for a price is needed", "使用评分定价须先取得车主单独同意"),
    "nothing": ("a quote needs covers, the compulsory cover, or both", "报价须包含商业险或交强险"),
}  # fmt: skip


class QuoteError(RoadwitnessError):
    """A request that has no price: `field` is its path, `code` a key of SAID, `known` what would be understood."""

    def __init__(self, code: str, field: str, known: Iterable[object] = (), **said: object) -> None:
        self.code = code
        self.field = field
        self.known = [str(k) for k in known]
        words = {"value": "", "why": "", **{k: str(v) for k, v in said.items()}}
        english, self.reason_zh = (text.format(**words).strip() for text in SAID[code])
        near = near_names(words["value"] or field.rsplit(".", 1)[-1], self.known) if self.known else ""
        self.reason = english + near
        listed = f"; known: {', '.join(self.known[:40])}" if self.known else ""
        super().__init__(f"quote: {field}: {self.reason}{listed}")
