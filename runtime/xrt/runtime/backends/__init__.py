"""Back ends: what executes a graph. Adding one is one file here and one line in `table.py`."""

from xrt.runtime.backends.base import Backend, Outputs, Session, SessionOptions
from xrt.runtime.backends.table import BACKENDS, choose_backend

__all__ = ["BACKENDS", "Backend", "Outputs", "Session", "SessionOptions", "choose_backend"]
