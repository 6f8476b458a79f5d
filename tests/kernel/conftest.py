"""What tests on a real kernel share: a guest for each module, figures for the report, skips by name."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.errors import CannotBeHadError
from tests.kernel.guest import Guest
from tests.kernel.report import Report

REPORT = pytest.StashKey[Report]()
ARCHES = ("amd64", "arm64")
LIMIT_S = 3600  # the first guest of an architecture is built within a test's set-up

Figure = Callable[[str, float | str, str], None]
NewGuest = Callable[..., Guest]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--arch", choices=ARCHES, action="append", help="only on this architecture; may be repeated")
    parser.addoption("--report", type=Path, default=Path("build/kernel-report.md"), help="where the report is written")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "arch(*names): runs on these architectures; without, on amd64 alone")
    config.addinivalue_line("markers", "short: part of the short form that CI runs")
    config.stash[REPORT] = Report()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "arch" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("arch")
        wanted = marker.args if marker else ("amd64",)
        only = metafunc.config.getoption("arch")
        metafunc.parametrize("arch", [name for name in wanted if not only or name in only], scope="module")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMIT_S))


@pytest.fixture(scope="module")
def arch(request: pytest.FixtureRequest) -> str:
    """The architecture of this module's guest."""
    return str(request.param)


@pytest.fixture(scope="module")
def new_guest(request: pytest.FixtureRequest, arch: str) -> Iterator[NewGuest]:
    """Make guests that are not booted yet; all end with the module."""
    made: list[Guest] = []

    def make(**options: object) -> Guest:
        try:
            guest = Guest(arch, **options)  # type: ignore[arg-type]
        except CannotBeHadError as trouble:
            pytest.skip(str(trouble))
        made.append(guest)
        name = f"{arch}, {guest.memory_mib} MiB, {guest.cpus} CPU"
        name += f", {1000 / 2**guest.icount:g} M instructions a second" if guest.icount is not None else ""
        request.config.stash[REPORT].machines[name] = guest.image.release
        return guest

    yield make
    for guest in made:
        guest.close()


@pytest.fixture(scope="module")
def guest(request: pytest.FixtureRequest, new_guest: NewGuest) -> Guest:
    """A booted guest for the module, made by its MACHINE (a dict of Guest's arguments), if it has one."""
    made = new_guest(**getattr(request.module, "MACHINE", {}))
    made.boot()
    return made


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Keep a figure for the report: figure(name, value, unit)."""

    def keep(name: str, value: float | str, unit: str = "") -> None:
        shown = f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
        request.config.stash[REPORT].figures.append((_name(request.node), name, f"{shown} {unit}".strip()))
        print(f"{name}: {shown} {unit}")

    return keep


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    result = yield
    report, name = item.config.stash[REPORT], _name(item)
    if result.skipped and isinstance(result.longrepr, tuple):
        report.skips[name] = result.longrepr[2].removeprefix("Skipped: ")
    else:
        outcome, seconds = report.tests.get(name, ("passed", 0.0))
        outcome = "failed" if "failed" in (outcome, result.outcome) else outcome
        report.tests[name] = (outcome, seconds + result.duration)
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    report = session.config.stash[REPORT]
    if report.tests:
        report.write(session.config.rootpath / session.config.getoption("report"))


def _name(item: pytest.Item) -> str:
    return f"{item.path.stem.removeprefix('test_')}: {item.name.removeprefix('test_')}"
