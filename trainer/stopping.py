"""Ending a run gently: SIGTERM and SIGINT let the current step finish and a checkpoint be written."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):  # noqa: N818 - not an error: the run can go on later
    """The run was asked to stop and has saved its state."""

    def __init__(self, signal_number: int, where: str) -> None:
        name = signal.Signals(signal_number).name
        super().__init__(f"stopped by {name}; state saved in {where}. Go on with resume=True")
        self.exit_status = 128 + signal_number


class StopRequest:
    """Remembers the signal that asked the run to stop, if any."""

    signal_number: int | None = None

    def __bool__(self) -> bool:
        return self.signal_number is not None


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """Within the block, the first SIGTERM or SIGINT is noted; a second one acts as it did before."""
    request = StopRequest()
    previous = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        request.signal_number = number
        restore()

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
