"""Back ends: what executes a graph. Adding one is one file here and one line in `table.py`."""

from xrt.runtime.backends.base import DEFAULT_SESSION, Backend, Execution, Session, SessionOptions
from xrt.runtime.backends.table import BACKENDS, available_backends, choose_backend, cpu_backends

__all__ = [
    "BACKENDS",
    "DEFAULT_SESSION",
    "Backend",
    "Execution",
    "Session",
    "SessionOptions",
    "available_backends",
    "choose_backend",
    "cpu_backends",
]
