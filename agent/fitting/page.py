"""The sheet as one HTML file that needs nothing else: it prints, and it holds what is needed to check it."""

import base64
from collections.abc import Callable
from html import escape
from typing import Any, Final

from agent.fitting.layout import WORDS, Checks, Head, Pairs, Part, Pictures, Seal
from agent.fitting.sheet import Sealed, packed

BEGIN: Final = '<script type="text/plain" id="roadwitness-fitting">'
END: Final = "</script>"
_STYLE: Final = """
:root{color-scheme:light}
body{font:15px/1.45 system-ui,"Noto Sans","Noto Sans CJK SC","PingFang SC",sans-serif;color:#1b1d21;background:#fff;
max-width:50rem;margin:1.5rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 .5rem}h2{font-size:1.05rem;margin:1.4rem 0 .3rem}
.verdict{border:2px solid;border-radius:.4rem;padding:.5rem .8rem;margin:0}
.verdict b{display:block;font-size:1.2rem}
.accepted,.pass{color:#0b6b2e}.reserved,.warn{color:#8a5300}.refused,.fail{color:#a3101b}.skip{color:#8a5300}.absent{color:#555b66}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.3rem .5rem .3rem 0;
border-bottom:1px solid #d5d9e0;overflow-wrap:anywhere}th{font-weight:600;width:34%}
.state{font-weight:700;white-space:nowrap;width:5.5rem}.advice{display:block;color:#1b1d21;font-size:.93em}
figure{margin:.6rem 0}img{max-width:100%;height:auto;border:1px solid #d5d9e0}
.seal{display:flex;gap:1rem;align-items:flex-start;margin-top:1.5rem;border-top:2px solid #1b1d21;padding-top:.8rem;
font-size:.9em;overflow-wrap:anywhere}.seal svg{flex:none}
@media (max-width:32rem){.seal{display:block}th{width:40%}}
@media print{body{margin:0;max-width:none}table,figure{break-inside:avoid}}
"""


def html(parts: list[Part], sealed: Sealed) -> bytes:
    """Return the page; the same parts always give the same bytes."""
    body = "\n".join(_WRITERS[type(part)](part) for part in parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:\">"
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Roadwitness: fitting of a box</title><style>{_STYLE}</style></head><body>\n"
        f"{body}\n{BEGIN}{packed(sealed)}{END}\n</body></html>\n"
    ).encode()


def _head(part: Head) -> str:
    return (
        f"<h1>{escape(part.title)}</h1>"
        f'<p class="verdict {part.verdict}"><b>{escape(part.said)}</b>{escape(part.note)}</p>'
    )


def _pairs(part: Pairs) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in part.rows)
    return f"<h2>This fitting</h2><table>{rows}</table>"


def _checks(part: Checks) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(item.name)}</th><td class="state {item.state}">{WORDS[item.state]}</td>'
        f"<td>{escape(item.value)}{_advice(item.advice)}</td></tr>"
        for item in part.items
    )
    return f"<h2>{escape(part.title)}</h2><table>{rows}</table>"


def _advice(advice: str) -> str:
    return f'<span class="advice">Next: {escape(advice)}</span>' if advice else ""


def _pictures(part: Pictures) -> str:
    figures = "".join(
        f'<figure><img alt="{escape(name, quote=True)}" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for name, data in part.rows
    )
    return f"<h2>Photos</h2>{figures}"


def _seal(part: Seal) -> str:
    import segno

    code = segno.make(part.code, error="m", micro=False).svg_inline(scale=3, border=2)
    lines = "<br>".join(escape(line) for line in part.lines)
    return f'<div class="seal">{code}<p>{lines}</p></div>'


_WRITERS: Final[dict[type[Any], Callable[[Any], str]]] = {
    Head: _head,
    Pairs: _pairs,
    Checks: _checks,
    Pictures: _pictures,
    Seal: _seal,
}
