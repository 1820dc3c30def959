"""What commands write to stderr beside their progress: lines for a person, or JSON for a collector of logs."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import Literal

LogFormat = Literal["text", "json"]
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and what the call gave as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _OWN},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Stderr(logging.Handler):
    """Writes to what sys.stderr is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        print(self.format(record), file=sys.stderr, flush=True)


_HANDLER = _Stderr()


def configure_logs(style: LogFormat) -> None:
    """Warnings as lines for a person, or everything from INFO on as JSON, on stderr.

    Where the process has handlers of its own, lines for a person are left to them.
    """
    root = logging.getLogger()
    text = logging.Formatter("xrt: %(levelname)s: %(message)s")
    _HANDLER.setFormatter(JsonLines() if style == "json" else text)
    if style == "json" or not root.handlers:
        root.addHandler(_HANDLER)
    logging.getLogger("xrt").setLevel(logging.INFO if style == "json" else logging.NOTSET)


def release_logs() -> None:
    """Undo `configure_logs`, for processes that go on."""
    logging.getLogger().removeHandler(_HANDLER)
    logging.getLogger("xrt").setLevel(logging.NOTSET)
