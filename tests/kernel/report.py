"""What a run of the bench showed, as build/kernel-report.md.

A test's report carries among its user_properties ("figure", (name, value with unit)) and ("machine", (what booted,
kernel)), so that they also come from workers of xdist.
"""

import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass(slots=True)
class Report:
    """Collected while the suite runs."""

    machines: dict[str, str] = field(default_factory=dict)  # what booted -> kernel
    figures: list[tuple[str, str, str]] = field(default_factory=list)  # test, name, value with unit
    tests: dict[str, tuple[str, float]] = field(default_factory=dict)  # test -> outcome, seconds of all its phases
    skips: dict[str, str] = field(default_factory=dict)  # test -> the piece that could not be had

    def take(self, name: str, report: pytest.TestReport) -> None:
        """Take one phase of a test."""
        if report.skipped and isinstance(report.longrepr, tuple):
            self.skips[name] = report.longrepr[2].removeprefix("Skipped: ")
            self.tests.pop(name, None)  # that its set-up passed
        elif name not in self.skips:  # its teardown passes
            outcome, seconds = self.tests.get(name, ("not over", 0.0))
            if report.failed or (report.when == "call" and outcome != "failed"):
                outcome = report.outcome
            self.tests[name] = (outcome, seconds + report.duration)
        if report.when == "teardown":  # each phase carries those of the phases before it
            for kind, pair in report.user_properties:
                match kind, pair:
                    case "machine", (str(machine), str(kernel)):
                        self.machines[machine] = kernel
                    case "figure", (str(figure), str(value)):
                        self.figures.append((name, figure, value))

    def write(self, path: Path) -> None:
        """Write what there is."""
        path.parent.mkdir(exist_ok=True)
        path.write_text(self.text())

    def text(self) -> str:
        """The report in Markdown."""
        outcomes = Counter(outcome for outcome, _ in self.tests.values())
        counted = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in ("passed", "failed", "not over"))
        lines = ["# Report of the kernel bench", ""]
        lines += [f"{counted}, {len(self.skips)} skipped; {_commit()}.", ""]
        lines += ["## Machines", "", "| machine | kernel |", "| --- | --- |"]
        lines += [f"| {machine} | {kernel} |" for machine, kernel in sorted(self.machines.items())]
        lines += ["", "## Figures", "", "| test | figure | value |", "| --- | --- | --- |"]
        lines += [f"| {test} | {name} | {value} |" for test, name, value in self.figures]
        lines += ["", "## Skipped", ""]
        lines += [f"- {test}: {why}" for test, why in self.skips.items()] or ["Nothing."]
        lines += ["", "## Tests", "", "| test | outcome | s |", "| --- | --- | --- |"]
        lines += [f"| {test} | {outcome} | {seconds:.1f} |" for test, (outcome, seconds) in self.tests.items()]
        return "\n".join(lines) + "\n"


def _commit() -> str:
    asked = subprocess.run(["git", "log", "-1", "--format=commit %h"], capture_output=True, text=True)
    return asked.stdout.strip() or "no commit"
