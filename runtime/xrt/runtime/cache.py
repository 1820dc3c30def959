"""Where this machine keeps what it made for itself: certificates, calibrations, engines.

A cache may be deleted at any time; what was in it is made again.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

VARIABLE = "XRT_CACHE_DIR"


def cache_folder(name: str) -> Path:
    """The folder of this machine's cache called `name`: under $XRT_CACHE_DIR, or where the system keeps caches."""
    return Path(os.environ.get(VARIABLE) or platformdirs.user_cache_dir("xrt", appauthor=False)) / name
