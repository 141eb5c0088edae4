"""A circuit breaker: whether a server may be asked after it has failed.

Pure: it has no clock and asks nobody.  Closed: all may ask.  Open: nobody.  Half open: one may, as a probe.
"""

from enum import Enum


class State(Enum):
    """As circuits are called everywhere."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class Circuit:
    """Opens after so many failures in a row.  Each probe has a number, other calls have 0."""

    def __init__(self, failures_max: int) -> None:
        self._failures_max = failures_max
        self._failures = 0
        self._probes = 0
        #: The probe that is on its way; 0 for none.
        self._probe = 0
        self.state = State.CLOSED

    @property
    def is_open(self) -> bool:
        return self.state is State.OPEN

    @property
    def is_closed(self) -> bool:
        return self.state is State.CLOSED

    @property
    def admits(self) -> bool:
        """Whether another call may begin now."""
        return self.is_closed or (self.state is State.HALF_OPEN and not self._probe)

    def begin(self) -> int:
        """A call begins; its number, if it is a probe."""
        if self.is_closed:
            return 0
        self._probes += 1
        self._probe = self._probes
        return self._probe

    def succeeded(self, probe: int) -> bool:
        """A call went well; whether that closes the circuit.  Calls from before it opened prove nothing."""
        if self.is_closed:
            self._failures = 0
        elif self._is_on_its_way(probe):
            self.state, self._probe, self._failures = State.CLOSED, 0, 0
            return True
        return False

    def failed(self, probe: int) -> bool:
        """A call failed; whether that opens the circuit."""
        if self.is_closed:
            self._failures += 1
            opens = self._failures >= self._failures_max
        else:
            opens = self._is_on_its_way(probe)
        if opens:
            self.state, self._probe = State.OPEN, 0
        return opens

    def left(self, probe: int) -> None:
        """A call ended without saying anything of the server; after a probe another may follow."""
        if self._is_on_its_way(probe):
            self._probe = 0

    def half_open(self) -> None:
        """The server may be well again."""
        if self.is_open:
            self.state, self._probe = State.HALF_OPEN, 0

    def _is_on_its_way(self, probe: int) -> bool:
        return probe != 0 and probe == self._probe
