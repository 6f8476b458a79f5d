"""msgspec reads into a type that several threads use for the first time at once."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.known import known

CHECKOUT = Path(__file__).parents[1]
FOLDERS = ("agent", "drivers", "receiver", "sim")
# Types that nobody has read into, each read by four threads at once; without `known` this dies within a few of them.
PROGRAM = """
import sys, threading
import msgspec
from agent.known import known

sys.setswitchinterval(1e-6)
barrier = threading.Barrier(4)
read = []

def go(kinds):
    for kind in kinds:
        barrier.wait()
        read.append(msgspec.convert({"all": [{"number": 1}] * 3}, known(kind)).all[2].number)

kinds = []
for n in range(200):
    inner = msgspec.defstruct(f"Inner{n}", [("number", int)] + [(f"more{i}", list[int], []) for i in range(20)])
    kinds.append(msgspec.defstruct(f"Outer{n}", [("all", list[inner])]))
threads = [threading.Thread(target=go, args=(kinds,)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sum(read))
"""


def test_threads_that_read_into_a_new_type_at_once_all_read_it() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=CHECKOUT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "800\n", "")


def test_a_type_that_msgspec_cannot_read_into_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(TypeError, match="more than one"):
            known(list[int] | set[int])


def given(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield each expression that is given to msgspec as the type to read into."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = ast.unparse(call.func)
        if not name.startswith("msgspec."):
            continue
        types = [keyword.value for keyword in call.keywords if keyword.arg == "type"]
        match name.rpartition(".")[2]:
            case "Decoder":
                yield from types or call.args[:1]
            case "convert":
                yield from types or call.args[1:2]
            case "decode":
                yield from types


def test_every_type_that_is_given_to_msgspec_is_known_to_it() -> None:
    found, unknown = 0, []
    for path in sorted(path for folder in FOLDERS for path in (CHECKOUT / folder).rglob("*.py")):
        if path.name == "known.py":
            continue
        tree = ast.parse(path.read_text())
        assert not any(
            isinstance(node, ast.ImportFrom)
            and node.module in ("msgspec", "msgspec.json", "msgspec.msgpack", "msgspec.toml")
            and {name.name for name in node.names} & {"Decoder", "convert", "decode", "json", "msgpack", "toml"}
            for node in ast.walk(tree)
        ), f"{path}: say msgspec.json.Decoder in full, so that this test sees it"
        for kind in given(tree):
            found += 1
            if not (isinstance(kind, ast.Call) and ast.unparse(kind.func) == "known"):
                unknown.append(f"{path.relative_to(CHECKOUT)}:{kind.lineno}: {ast.unparse(kind)}")
    assert found > 50
    assert not unknown
