"""What tests on a real kernel share: a guest for each module, figures for the report, skips by name."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.errors import CannotBeHadError
from tests.kernel.guest import Guest
from tests.kernel.report import Report

GUESTS = pytest.StashKey[list[Guest]]()  # made in this process
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
    config.stash[GUESTS] = []
    if not hasattr(config, "workerinput"):  # what workers of xdist find comes with the reports of their tests
        config.pluginmanager.register(Writing(config.rootpath / config.getoption("report")))


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
        request.config.stash[GUESTS].append(guest)
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
        request.node.user_properties.append(("figure", (name, f"{shown} {unit}".strip())))
        print(f"{name}: {shown} {unit}")

    return keep


def machines(guests: list[Guest]) -> Iterator[tuple[str, str]]:
    """Yield what booted and its kernel, and what had to boot again with what its kernel said."""
    for guest in guests:
        name = f"{guest.arch}, {guest.memory_mib} MiB, {guest.cpus} CPU"
        name += f", {1000 / 2**guest.icount:g} M instructions a second" if guest.icount is not None else ""
        yield name, guest.image.release
        if guest.hung:
            yield f"{name}: booted again", guest.hung


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    item.user_properties += [("machine", pair) for pair in dict(machines(item.config.stash[GUESTS])).items()]


class Writing:
    """Collect what the tests report, in whichever process they run, and write it at the end."""

    def __init__(self, path: Path) -> None:
        self._path, self._report = path, Report()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file, _, test = report.nodeid.partition("::")
        name = f"{Path(file).stem.removeprefix('test_')}: {test.removeprefix('test_')}"
        self._report.take(name, report)

    def pytest_sessionfinish(self) -> None:
        if self._report.tests:
            self._report.write(self._path)
