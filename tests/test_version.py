"""The version, also where nothing is installed."""

from importlib.metadata import PackageNotFoundError
from typing import NoReturn

import pytest

from agent.version import NOT_INSTALLED, installed_version


def test_a_bare_checkout_says_that_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> NoReturn:
        raise PackageNotFoundError(name)

    assert installed_version()[0].isdigit()
    monkeypatch.setattr("agent.version.version", nothing)
    assert installed_version() == NOT_INSTALLED
