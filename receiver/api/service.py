"""Remote service: ask a box how it is, and read what it answered; and, with its owner's consent, ask where it was."""

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi import Path as PathParameter
from pydantic import AwareDatetime, Field

from agent.clock import NS_PER_S
from agent.errors import RoadwitnessError
from receiver import commands, fleet
from receiver.api.answers import answer
from receiver.api.evidence import Asked
from receiver.api.here import Here
from receiver.api.once import once
from receiver.api.problems import missing, wrong
from receiver.api.shapes import Device, Done, Given, Shape
from receiver.people import reach
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.service import answers, asking
from receiver.service.kinds import TECHNICAL

Reader = Annotated[Person, Depends(needs("service.read"))]
Asker = Annotated[Person, Depends(needs("service.ask"))]
Tracker = Annotated[Person, Depends(needs("tracks.ask"))]
Command = Annotated[str, PathParameter(pattern="^[0-9a-f]{32}$", description="Id of a command.")]
MOST_TRACK_S: Final = 86_400  # the device's own limit


class Question(Given):
    """What a box is to do, and why; `arguments` are those of the command (docs/remote-service.md)."""

    command: Literal["doctor", "dtc", "bundle", "log_level", "config", "restart_agent", "restart_dashcam"]
    arguments: dict[str, Any] = Field(default_factory=dict, examples=[{"groups": ["gps"]}])
    reason: str = Field(min_length=1, max_length=200, examples=["No trips since Monday"])


class Span(Given):
    """Of which time the track is asked for, and why: its owner must have agreed that exact tracks may be."""

    start: AwareDatetime = Field(examples=["2026-11-01T16:00:00+08:00"])
    seconds: int = Field(ge=1, le=MOST_TRACK_S, examples=[600])
    reason: str = Field(min_length=1, max_length=200, examples=["Claim 0123456789abcdef: where the car was"])


class FoundBy(Shape):
    """One finding of the doctor, in the box's own words."""

    check: str
    state: str = Field(description="pass, warn, fail or unknown")
    found: str
    next: str
    device: str


class Code(Shape):
    """One trouble code."""

    code: str
    kind: str = Field(description="stored, pending or permanent")
    unit: str
    text: str


class AnswerFile(Shape):
    """One file of an answer that is here."""

    name: str
    size: int
    sha256: str


class Answer(Shape):
    """What a box was asked, and what it answered; lists are null where nothing of the kind has come."""

    asked: Asked
    findings: list[FoundBy] | None
    codes: list[Code] | None
    files: list[AnswerFile]


def add(router: APIRouter, site: Here) -> None:
    """Add the routes."""

    def issued(who: Person, device: str, name: str, arguments: dict[str, Any], reason: str, now_ns: int) -> str:
        key = commands.command_key(site.settings)
        try:
            return asking.ask(site.engine, key, device, name, arguments, reason=reason, actor=who.name, now_ns=now_ns)
        except RoadwitnessError as e:
            raise wrong("arguments", str(e)) from e

    @router.post("/devices/{device}/service", tags=["service"], status_code=202, response_model=Done)
    def ask(request: Request, who: Asker, device: Device, question: Question) -> Response:
        """Ask a box to examine itself, to mend its settings or to start anew; its agent.toml may refuse."""
        known(device)
        now_ns = site.now_ns()

        def do() -> Response:
            made = issued(who, device, question.command, question.arguments, question.reason, now_ns)
            return answer(request, Done(id=made), 202)

        return once(site.engine, request, who.id, now_ns, do)

    @router.get("/devices/{device}/service/{command}", tags=["service"], response_model=Answer)
    def answered(request: Request, who: Reader, device: Device, command: Command) -> Response:
        """Tell what came of a question to a box: findings, trouble codes, and which files are here."""
        found = answers.answer(site.engine, site.files, device, command, site.now_ns())
        if found is None or found.asked.command not in TECHNICAL:
            raise missing()
        site.note(request, "page", device, found.asked.incident or "", found.asked.command)
        return answer(request, Answer.model_validate(found))

    @router.post("/devices/{device}/tracks", tags=["evidence"], status_code=202, response_model=Done)
    def track(request: Request, who: Tracker, device: Device, span: Span) -> Response:
        """Ask a device where it was, fix by fix; it refuses where its owner did not agree, and tells him who asked."""
        reach.device(site.engine, who, device)
        known(device)
        try:
            start_ns = round(span.start.timestamp() * 1000) * (NS_PER_S // 1000)
        except (OverflowError, ValueError) as e:
            raise wrong("start", "is no time of ours") from e
        now_ns = site.now_ns()
        if not 0 < start_ns < now_ns:
            raise wrong("start", "lies in the future, or before there were cars")
        wanted = {"from_utc_ns": start_ns, "to_utc_ns": start_ns + span.seconds * NS_PER_S}

        def do() -> Response:
            return answer(request, Done(id=issued(who, device, "track", wanted, span.reason, now_ns)), 202)

        return once(site.engine, request, who.id, now_ns, do)

    def known(device: str) -> None:
        if not fleet.known(site.engine, device):
            raise missing()
