"""`gate.html`: the figures of every variant, and the worst image and class of each, side by side with the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from xrt.runtime._io import data_url, png_bytes, render_page, write_atomically
from xrt.runtime.bundle.certificate import Certificate
from xrt.runtime.bundle.manifest import Manifest
from xrt.runtime.certification.certify import BackendResult, Certification
from xrt.runtime.certification.comparison import ReferenceOutputs
from xrt.runtime.decisions import probabilities
from xrt.runtime.gate import Worst, compare, highest
from xrt.runtime.geometry import Placement
from xrt.runtime.heatmaps.overlay import overlay
from xrt.runtime.outputs import ModelOutputs

REPORT_NAME = "gate.html"
_SIDE = 320
"""Pixels of the longer side of a drawing."""


def write_gate_report(
    folder: Path, manifest: Manifest, reference: ReferenceOutputs, certification: Certification
) -> Path:
    """Write the report into `folder`, self-contained, and return its path."""
    results = [result for variant in (*certification.accepted, *certification.refused) for result in variant.results]
    page = render_page(
        "xrt.runtime.certification",
        "gate.html.j2",
        manifest=manifest,
        evidence=results[0].certificate.evidence,
        unmeasured=results[0].certificate.unmeasured,
        results=[
            {"result": result, "figures": _rows(result.certificate), "cases": _cases(result, manifest, reference)}
            for result in results
        ],
    )
    path = folder / REPORT_NAME
    write_atomically(path, page)
    return path


def _rows(certificate: Certificate) -> list[dict[str, Any]]:
    """The figures, those with a limit first."""
    limits, figures = certificate.limits, certificate.figures
    missed = {reason.split(" ")[0] for reason in certificate.reasons}
    names = [*(n for n in limits if figures.get(n) is not None or n in missed), "flips_upper", "maps_nonzero"]
    return [
        {"name": name, "value": figures[name], "limit": limits.get(name), "missed": name in missed} for name in names
    ]


def _cases(result: BackendResult, manifest: Manifest, reference: ReferenceOutputs) -> list[dict[str, Any]]:
    """The worst cases of a result, drawn side by side on the reference's scale."""
    inputs, expected = reference.inputs, reference.outputs
    cases = []
    for worst in compare(expected, result.outputs, manifest).worst:
        peak = float(np.nanmax(_map(expected, worst, manifest), initial=0.0))
        cases.append(
            {
                "figure": worst.figure,
                "value": worst.value,
                "image": inputs.names[worst.image],
                "class": manifest.map_class(worst.logit) if worst.output else manifest.logit_classes[worst.logit].name,
                "sides": [
                    {
                        "who": who,
                        "probability": float(probabilities(outputs.logits, manifest)[worst.image, worst.logit]),
                        "drawing": _drawing(inputs.images[worst.image, 0], _map(outputs, worst, manifest), peak),
                    }
                    for who, outputs in (("reference", expected), (result.variant.file, result.outputs))
                ],
            }
        )
    return cases


def _map(outputs: ModelOutputs, worst: Worst, manifest: Manifest) -> Float32[np.ndarray, "h w"]:
    """The map of the worst image and class; zeros where that class has none."""
    graph = manifest.graph
    maps = outputs.cams[worst.output or graph.cams[0].output][worst.image]
    if graph.explained is not None:
        classes = list(graph.explained)
    elif outputs.cam_classes is not None:
        classes = outputs.cam_classes[worst.image].tolist()
    else:
        classes = highest(outputs.logits, graph.top_k or 1)[worst.image].tolist()
    return maps[classes.index(worst.logit)] if worst.logit in classes else np.zeros_like(maps[0])


def _drawing(image: UInt8[np.ndarray, "h w"], cam: Float32[np.ndarray, "cam_h cam_w"], peak: float) -> str:
    """The overlay as a data address. Both sides share one scale, so that a map that is too weak looks so."""
    height, width = image.shape
    factor = _SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    preview = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    result = overlay(
        preview, np.nan_to_num(cam), Placement((0.0, 0.0), (1.0, 1.0)), image.shape, image.shape, peak=peak or None
    )
    return data_url(png_bytes(result))
