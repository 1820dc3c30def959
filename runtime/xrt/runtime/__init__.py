"""Screening of chest radiographs with certified ONNX bundles, without PyTorch.

    from pathlib import Path

    from xrt.runtime import Bundle, Screener

    with Screener(Bundle.open("chest.xrt")) as screener:
        for result in screener.screen(["a.png", "b.png"]):
            print(result.key, result.status, [f.class_name for f in result.findings if f.positive])

    from xrt.runtime import TriageOptions, triage

    summary = triage(Bundle.open("chest.xrt"), [Path("incoming")], Path("results"), TriageOptions(heatmaps="all"))

    from xrt.runtime import open_dataset

    table = open_dataset("nih")
    print(table.summary()["classes"])

Names are loaded when they are first used, so that importing the package, as every command does, costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrt.runtime.backends.base import SessionOptions
    from xrt.runtime.bundle.certificate import Certificate
    from xrt.runtime.bundle.manifest import ClassSpec, Manifest, Preprocessing
    from xrt.runtime.bundle.reader import Bundle
    from xrt.runtime.datasets.case import Case, LabelledBox
    from xrt.runtime.datasets.readers import open_dataset, open_dataset_for
    from xrt.runtime.datasets.table import CaseTable, Splits
    from xrt.runtime.errors import (
        BackendError,
        BundleError,
        CorruptBundle,
        DataError,
        ImageError,
        KnownAnswersFailed,
        MissingDependency,
        ModelError,
        NotAChestRadiograph,
        RefusedByGate,
        Uncertified,
        UnreadableImage,
        UnsupportedSchema,
        UsageError,
        XrtError,
    )
    from xrt.runtime.geometry import Box, Placement
    from xrt.runtime.heatmaps.overlay import overlay
    from xrt.runtime.imaging.decoders import read_radiograph
    from xrt.runtime.imaging.radiograph import DecodeLimits, DecodeOptions, Radiograph
    from xrt.runtime.outputs import ModelOutputs
    from xrt.runtime.preprocessing import preprocess
    from xrt.runtime.progress import Progress
    from xrt.runtime.scoring import ScoredImage, Scores, score_cases, stream_cases
    from xrt.runtime.screening.options import TriageOptions, TriageSummary
    from xrt.runtime.screening.result import Finding, Result
    from xrt.runtime.screening.screener import Screener, ScreeningOptions
    from xrt.runtime.screening.triage import triage
    from xrt.runtime.session import OpenedSession, open_session

_MODULES = {
    "xrt.runtime.backends.base": ("SessionOptions",),
    "xrt.runtime.bundle.certificate": ("Certificate",),
    "xrt.runtime.bundle.manifest": ("ClassSpec", "Manifest", "Preprocessing"),
    "xrt.runtime.bundle.reader": ("Bundle",),
    "xrt.runtime.datasets.case": ("Case", "LabelledBox"),
    "xrt.runtime.datasets.readers": ("open_dataset", "open_dataset_for"),
    "xrt.runtime.datasets.table": ("CaseTable", "Splits"),
    "xrt.runtime.errors": (
        "BackendError",
        "BundleError",
        "CorruptBundle",
        "DataError",
        "ImageError",
        "KnownAnswersFailed",
        "MissingDependency",
        "ModelError",
        "NotAChestRadiograph",
        "RefusedByGate",
        "Uncertified",
        "UnreadableImage",
        "UnsupportedSchema",
        "UsageError",
        "XrtError",
    ),
    "xrt.runtime.geometry": ("Box", "Placement"),
    "xrt.runtime.heatmaps.overlay": ("overlay",),
    "xrt.runtime.imaging.decoders": ("read_radiograph",),
    "xrt.runtime.imaging.radiograph": ("DecodeLimits", "DecodeOptions", "Radiograph"),
    "xrt.runtime.outputs": ("ModelOutputs",),
    "xrt.runtime.preprocessing": ("preprocess",),
    "xrt.runtime.progress": ("Progress",),
    "xrt.runtime.scoring": ("ScoredImage", "Scores", "score_cases", "stream_cases"),
    "xrt.runtime.screening.result": ("Finding", "Result"),
    "xrt.runtime.screening.screener": ("Screener", "ScreeningOptions"),
    "xrt.runtime.screening.options": ("TriageOptions", "TriageSummary"),
    "xrt.runtime.screening.triage": ("triage",),
    "xrt.runtime.session": ("OpenedSession", "open_session"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "BackendError",
    "Box",
    "Bundle",
    "BundleError",
    "Case",
    "CaseTable",
    "Certificate",
    "ClassSpec",
    "CorruptBundle",
    "DataError",
    "DecodeLimits",
    "DecodeOptions",
    "Finding",
    "ImageError",
    "KnownAnswersFailed",
    "LabelledBox",
    "Manifest",
    "MissingDependency",
    "ModelError",
    "ModelOutputs",
    "NotAChestRadiograph",
    "OpenedSession",
    "Placement",
    "Preprocessing",
    "Progress",
    "Radiograph",
    "RefusedByGate",
    "Result",
    "ScoredImage",
    "Scores",
    "Screener",
    "ScreeningOptions",
    "SessionOptions",
    "Splits",
    "TriageOptions",
    "TriageSummary",
    "Uncertified",
    "UnreadableImage",
    "UnsupportedSchema",
    "UsageError",
    "XrtError",
    "open_dataset",
    "open_dataset_for",
    "open_session",
    "overlay",
    "preprocess",
    "read_radiograph",
    "score_cases",
    "stream_cases",
    "triage",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
