"""Screening of chest radiographs with certified ONNX bundles, without PyTorch.

    from xrt.runtime import Bundle, Screener

    with Screener(Bundle.open("chest.xrt")) as screener:
        for result in screener.screen(paths):
            ...

Names are loaded when they are first used, so that importing the package, as every command does, costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrt.runtime.bundle.manifest import Manifest
    from xrt.runtime.bundle.reader import Bundle
    from xrt.runtime.errors import XrtError
    from xrt.runtime.screening.result import Finding, Result
    from xrt.runtime.screening.screener import Screener

__all__ = ["Bundle", "Finding", "Manifest", "Result", "Screener", "XrtError"]

_HOMES = {
    "Bundle": "xrt.runtime.bundle.reader",
    "Finding": "xrt.runtime.screening.result",
    "Manifest": "xrt.runtime.bundle.manifest",
    "Result": "xrt.runtime.screening.result",
    "Screener": "xrt.runtime.screening.screener",
    "XrtError": "xrt.runtime.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
