"""That a long run is alive: a file that says how it goes, and words to systemd where it asks for them."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from xrt.runtime._io import json_bytes, utc_now, write_atomically

NAME = "health.json"
_EVERY = 10.0


class Health:
    """`health.json` in the output folder, written every ten seconds, and systemd's notices (READY, WATCHDOG, STOPPING).

    A monitor takes a file that is older than a minute for a run that hangs or is gone.
    """

    def __init__(self, out: Path) -> None:
        self._path = out / NAME
        self._written_at = -_EVERY

    def ready(self) -> None:
        """The session is open and files are being looked at."""
        notify_systemd("READY=1")

    def beat(self, state: str, **figures: Any) -> None:
        """Say that the run is alive, at most every ten seconds."""
        if time.monotonic() - self._written_at >= _EVERY:
            self.write(state, **figures)
            notify_systemd("WATCHDOG=1")

    def write(self, state: str, **figures: Any) -> None:
        """Say how the run goes, now."""
        self._written_at = time.monotonic()
        write_atomically(self._path, json_bytes({"state": state, "at": utc_now(), "pid": os.getpid(), **figures}))

    def stopping(self) -> None:
        """What is under way is being finished."""
        notify_systemd("STOPPING=1")


def notify_systemd(message: str) -> None:
    """Send a notice to the service manager that started this process, if any asked for it (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or not hasattr(socket, "AF_UNIX"):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.sendall(message.encode())
