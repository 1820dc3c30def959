"""SIGTERM and Ctrl-C as a request to stop soon, for commands that finish what is under way first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}


@contextmanager
def stop_signals() -> Iterator[list[str]]:
    """Within it, the first signal puts its name into the list that is given; a second acts as it did before."""
    received: list[str] = []
    names = {signal.SIGINT: "SIGINT", signal.SIGTERM: "SIGTERM"}
    before = {number: signal.getsignal(number) for number in names}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(names[signal.Signals(number)])
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in names:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
