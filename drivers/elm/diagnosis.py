"""Hold a technician's conversation (drivers.diagnosis) over an adapter."""

from typing import TypeVar

from drivers.diagnosis import Question
from drivers.elm.command import allowed
from drivers.elm.dialogue import Dialogue, Script
from drivers.elm.vehicle import Vehicle

T = TypeVar("T")


def held(d: Dialogue, vehicle: Vehicle, question: Question[T]) -> Script[T]:
    """Return the question's answer; a request that may not be said over an adapter (0110) counts as unanswered."""
    try:
        request = next(question)
        while True:
            text = request.hex().upper()
            answers = vehicle.answers.read((yield from d.request(text))) if allowed(text) else []
            request = question.send([(answer.unit, answer.payload) for answer in answers])
    except StopIteration as end:
        result: T = end.value
        return result
