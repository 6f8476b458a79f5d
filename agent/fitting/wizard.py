"""Run the steps in order, keep how far they are, and go on where an earlier run ended."""

from typing import Final

from agent.errors import RoadwitnessError
from agent.fitting import progress
from agent.fitting.finding import short_rows
from agent.fitting.fitting import Fitting, item
from agent.fitting.sheet import Item
from agent.fitting.steps import STEPS, Step
from agent.fitting.talk import MissingError, rows_of

FATAL: Final = ("devices",)  # what comes after needs it


def run(fitting: Fitting) -> None:
    """Do every step that is not done; raise RoadwitnessError where it cannot go on, with all that was done kept."""
    total = len(STEPS)
    for number, step in enumerate(STEPS, start=1):
        before = fitting.progress.done.get(step.name)
        if before is not None and step.can_skip:
            fitting.talk.step(number, total, step.title, "done before:")
            fitting.talk.rows(short_rows(before))
            continue
        fitting.talk.step(number, total, step.title, step.does)
        items = _done(fitting, step)
        fitting.progress.done[step.name] = items
        fitting.keep()
        if step.name in FATAL and any(i.state == "fail" for i in items):
            del fitting.progress.done[step.name]
            fitting.keep()
            worst = next(i for i in items if i.state == "fail")
            raise RoadwitnessError(f"{step.title}: {worst.value}; {worst.advice}")
    progress.forget(fitting.store)


def _done(fitting: Fitting, step: Step) -> list[Item]:
    """Do one step until it passes, or whoever sits there goes on with what failed on the sheet."""
    talk, reason = fitting.talk, fitting.answers.skip.get(step.name, "")
    if reason:
        return _left_out(fitting, step, reason)
    while True:
        try:
            items = step.work(fitting)
        except MissingError:
            raise
        except RoadwitnessError as trouble:
            if step.name == "sheet":
                raise
            items = [item(step.name, step.title, "fail", str(trouble), "Do what it says, then start again.")]
            talk.rows(rows_of(items))
        if not step.can_skip or not any(i.state == "fail" for i in items):
            return items
        chosen = talk.choose(
            "This failed. What now?",
            {
                "a": "again, after doing what it says",
                "g": "go on; it stands on the sheet as failed",
                "s": "leave this step out, with the reason",
                "q": "stop here; start again later and it goes on here",
            },
            "a" if talk.attended else "g",
        )
        if chosen == "g":
            return items
        if chosen == "s":
            return _left_out(fitting, step, talk.ask(f"[skip] {step.name}", "Why is it left out?"))
        if chosen == "q":
            raise RoadwitnessError(f"stopped at {step.title}; start `roadwitness install` again to go on there")


def _left_out(fitting: Fitting, step: Step, reason: str) -> list[Item]:
    items = [item(step.name, step.title, "skip", reason)]
    fitting.talk.rows(rows_of(items))
    return items
