"""The simulated car's control units on raw CAN: OBD-II requests in, ISO-TP frames out (ISO 15765-4, 11 bits)."""

from typing import Final

from sim.elm_car import Car, frames_of

FUNCTIONAL: Final = 0x7DF
FIRST_UNIT: Final = 0x7E0
Frame = tuple[int, bytes]


class UnitsOnCan:
    """Answer what a tester sends as `car` would; longer answers wait for the tester's flow control."""

    def __init__(self, car: Car) -> None:
        self._car = car
        self._rest: dict[int, list[Frame]] = {}

    def hear(self, identifier: int, data: bytes, t_ns: int) -> list[Frame]:
        """Return the frames that answer one frame of the tester."""
        everyone = identifier == FUNCTIONAL
        unit = identifier - FIRST_UNIT
        if not data or not (everyone or 0 <= unit < 8) or not self._car.awake:
            return []
        kind = data[0] >> 4
        if kind == 3:  # flow control: clear to send
            return self._rest.pop(unit, [])
        if kind or not 0 < data[0] < len(data):
            return []
        answers: list[Frame] = []
        for message in self._car.answer(data[1 : 1 + data[0]], t_ns):
            if everyone or message.unit & 7 == unit:
                rows = [(int(head, 16), part.ljust(8, b"\xaa")) for head, part in frames_of("6", message)]
                answers.append(rows[0])
                self._rest[message.unit & 7] = rows[1:]
        return answers
