"""`gate.html`: the figures of every variant, and the worst image and class of each, side by side with the reference."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from jinja2 import Environment, PackageLoader, select_autoescape
from PIL import Image

from xrt.runtime.bundle.manifest import Certificate, Manifest, Variant
from xrt.runtime.decisions import probabilities
from xrt.runtime.files import write_durably
from xrt.runtime.gate.answers import Answers
from xrt.runtime.gate.evidence import EvidenceImages
from xrt.runtime.gate.figures import Worst, compare, highest
from xrt.runtime.preprocessing import Placement
from xrt.runtime.screening.heatmap import overlay

REPORT_NAME = "gate.html"
_SIDE = 320
"""Pixels of the longer side of a drawing."""


@dataclass(frozen=True)
class Trial:
    """A variant on one back end: what it answered, and the certificate that came of it."""

    variant: Variant
    certificate: Certificate
    answers: Answers


def write_gate_report(
    folder: Path, manifest: Manifest, evidence: EvidenceImages, expected: Answers, trials: Sequence[Trial]
) -> Path:
    """Write the report into `folder`, self-contained, and return its path.

    `expected` are the reference's answers to the images of `evidence`, in their order, as all answers of `trials` are.
    """
    environment = Environment(
        loader=PackageLoader("xrt.runtime.gate", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("gate.html.j2").render(
        manifest=manifest,
        evidence=trials[0].certificate.evidence,
        trials=[
            {"trial": trial, "figures": _rows(trial.certificate), "cases": _cases(trial, manifest, evidence, expected)}
            for trial in trials
        ],
    )
    path = folder / REPORT_NAME
    write_durably(path, html.encode())
    return path


def _rows(certificate: Certificate) -> list[dict[str, Any]]:
    """The figures, those with a limit first."""
    limits, figures = certificate.limits, certificate.figures
    missed = {reason.split(" ")[0] for reason in certificate.reasons}
    names = [*(n for n in limits if figures.get(n) is not None or n in missed), "flips_upper", "maps_nonzero"]
    return [
        {"name": name, "value": figures[name], "limit": limits.get(name), "missed": name in missed} for name in names
    ]


def _cases(trial: Trial, manifest: Manifest, evidence: EvidenceImages, expected: Answers) -> list[dict[str, Any]]:
    found = trial.answers
    return [
        {
            "figure": worst.figure,
            "value": worst.value,
            "image": evidence.names[worst.image],
            "class": manifest.map_class(worst.logit) if worst.output else manifest.logit_classes[worst.logit].name,
            "sides": [
                {
                    "who": who,
                    "probability": float(probabilities(answers.logits, manifest)[worst.image, worst.logit]),
                    "picture": _picture(evidence.images[worst.image, 0], _map(answers, worst, manifest), peak),
                }
                for who, answers in (("reference", expected), (trial.variant.file, found))
            ],
        }
        for worst in compare(expected, found, manifest).worst
        for peak in [float(np.nanmax(_map(expected, worst, manifest), initial=0.0))]
    ]


def _map(answers: Answers, worst: Worst, manifest: Manifest) -> Float32[np.ndarray, "h w"]:
    """The map of the worst image and class; zeros where that class has none."""
    graph = manifest.graph
    maps = answers.cams[worst.output or graph.cams[0].output][worst.image]
    if graph.explained is not None:
        classes = list(graph.explained)
    elif answers.cam_classes is not None:
        classes = answers.cam_classes[worst.image].tolist()
    else:
        classes = highest(answers.logits, graph.top_k or 1)[worst.image].tolist()
    return maps[classes.index(worst.logit)] if worst.logit in classes else np.zeros_like(maps[0])


def _picture(image: UInt8[np.ndarray, "h w"], cam: Float32[np.ndarray, "cam_h cam_w"], peak: float) -> str:
    """The overlay as a data address. Both sides share one scale, so that a map that is too weak looks so."""
    height, width = image.shape
    factor = _SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    preview = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    drawn = overlay(
        preview, np.nan_to_num(cam), Placement((0.0, 0.0), (1.0, 1.0)), image.shape, image.shape, peak=peak or None
    )
    buffer = io.BytesIO()
    Image.fromarray(drawn).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
