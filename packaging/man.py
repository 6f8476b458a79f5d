"""Write the man pages: one for `roadwitness`, and one for each of its commands with all that is below it."""

import gzip
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

# What a page says of its own surroundings, for people who look there first.
FILES = """.SH FILES
.TP
.I /etc/roadwitness
settings of this machine
.TP
.I /var/lib/roadwitness
store, keys and evidence of a box
.TP
.I /opt/roadwitness
the version in use, a link to one of /opt/roadwitness-VERSION
"""


def roff(text: str) -> str:
    """Return plain text as roff: paragraphs stay, a line that begins with a dot or quote is no request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", text)
    lines = [line.strip() for line in text.strip().splitlines()]
    return "\n".join(("\\&" + line if line[:1] in (".", "'") else line) or ".PP" for line in lines)


def _examples(text: str) -> str:
    """Return the text below a command's help, its lines kept as they are."""
    kept = [roff(line) for line in text.strip().splitlines() if line.strip()]
    return "\n.br\n".join(line for line in kept if line != ".PP")


def _value(parameter: Any) -> str:
    """Return what stands for the value: as the command says, else its name."""
    return parameter.metavar or (parameter.name or "").upper()


def _option(parameter: Any) -> str:
    names = ", ".join(f"\\fB{roff(name)}\\fR" for name in [*parameter.opts, *parameter.secondary_opts])
    metavar = "" if getattr(parameter, "is_flag", False) else f" \\fI{roff(_value(parameter))}\\fR"
    lines = [".TP", names + metavar, roff(parameter.help or "")]
    default = parameter.default
    if not callable(default) and default not in (None, False, ()) and not getattr(parameter, "is_flag", False):
        shown = default if isinstance(default, (str, int, float, Path)) else getattr(default, "value", "")
        if str(shown):
            lines.append(f"Default: {roff(str(shown))}.")
    return "\n".join(line for line in lines if line)


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def section(command: Any, path: str, level: str) -> Iterator[str]:
    """Yield a command's synopsis, help, parameters and examples, then the same of each command below it."""
    arguments = [p for p in command.params if _is_argument(p)]
    options = [p for p in command.params if not _is_argument(p) and not p.hidden and p.name != "help"]
    below = sorted(getattr(command, "commands", {}).items())
    words = [f".B {roff(path)}", "[\\fIoptions\\fR]" if options else ""]
    words += [f"\\fI{roff(_value(p))}\\fR" for p in arguments]
    words += ["\\fIcommand\\fR \\&..." if below else ""]
    yield f'.{level} "{roff(path)}"' if level == "SS" else ".SH SYNOPSIS"
    yield "\n".join(word for word in words if word)
    if level == "SH":
        yield ".SH DESCRIPTION"
    else:
        yield ".PP"
    yield roff(command.help or "")
    for parameter in arguments:
        if parameter.help:
            yield f".TP\n\\fI{roff(_value(parameter))}\\fR\n{roff(parameter.help)}"
    for parameter in options:
        yield _option(parameter)
    if command.epilog:
        yield ".PP\n" + _examples(command.epilog)
    for name, child in below:
        if not child.hidden:
            yield from section(child, f"{path} {name}", "SS")


def page(title: str, line: str, body: str, version: str, day: str, others: list[str]) -> str:
    """Return a whole page."""
    see = ",\n".join(f".BR {roff(other)} (1)" for other in others)
    head = f'.TH {title.upper()} 1 "{day}" "roadwitness {version}" "Roadwitness"'
    return f"{head}\n.SH NAME\n{roff(title)} \\- {roff(line)}\n{body}\n{FILES}.SH SEE ALSO\n{see}\n"


def write(folder: Path, version: str, day: str, code: list[str]) -> list[Path]:
    """Write the pages of the commands that are in `code`, compressed without time and name; return their paths."""
    from agent.cli import COMMANDS, parts

    names = [name for name in COMMANDS if set(parts(name)) <= set(code)]
    pages = {f"roadwitness-{name}": _of_command(name, COMMANDS[name], version, day) for name in names}
    rows = "\n".join(f".TP\n.BR roadwitness\\-{roff(n)} (1)\n{roff(COMMANDS[n][1])}" for n in names)
    body = (
        ".SH SYNOPSIS\n.B roadwitness\n\\fIcommand\\fR [\\fIoptions\\fR]\n.SH DESCRIPTION\nSees how a car is driven,"
        " proves what happened in a crash, gets it to an insurer whole.\n.SH COMMANDS\n" + rows
    )
    others = [f"roadwitness-{n}" for n in names]
    pages["roadwitness"] = page("roadwitness", "terminal for insurance in a car", body, version, day, others)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for title, text in pages.items():
        path = folder / f"{title}.1.gz"
        path.write_bytes(gzip.compress(text.encode(), mtime=0))
        written.append(path)
    return written


def _of_command(name: str, row: tuple[str, str], version: str, day: str) -> str:
    module, attribute = row[0].split(":")
    command = typer.main.get_command(getattr(import_module(module), attribute))
    body = "\n".join(section(command, f"roadwitness {name}", "SH"))
    return page(f"roadwitness-{name}", row[1].rstrip("."), body, version, day, ["roadwitness"])


if __name__ == "__main__":
    out, number, date, *packages = sys.argv[1:]
    write(Path(out), number, date, packages)
