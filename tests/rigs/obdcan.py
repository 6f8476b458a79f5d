"""The obdcan driver with a control unit at the other end, for the contract suite."""

from drivers.can.socketcan import SocketCan
from drivers.can.wire import CanSettings
from drivers.obdcan import ObdCan
from tests.can_peers import Answering, Unit
from tests.rigs.canbus import CONFIG, SocketRig


class ObdRig(SocketRig):
    """A unit that is asleep until it is to speak: then it answers requests."""

    def __init__(self) -> None:
        super().__init__()
        self.unit = Unit({0x0C: b"\x1a\xf8", 0x0D: b"\x32"})
        self.unit.asleep = True
        self.answering = Answering(self.wire, self.unit.hear)

    def driver(self) -> ObdCan:
        settings = CanSettings(transmit=True, profile="simcar", window_s=0.002)
        return ObdCan(settings, CONFIG, lambda s: SocketCan(s, lambda name, filters: self.wire.inner.dup()))

    def speak(self, n: int) -> None:
        self.unit.asleep = False
        super().speak(n)

    def unplug(self) -> None:
        self.answering.close()
        super().unplug()

    def close(self) -> None:
        self.answering.close()
        super().close()


RIGS = (ObdRig,)
