"""The rules that an evaluation has chosen, as a new bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from xrt.benchmarks.evaluation.evaluation import Evaluation, Study
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.errors import UsageError
from xrt.runtime.gate.evidence import EvidenceImages
from xrt.runtime.gate.redeciding import redecide

MAX_IMAGES = 512
"""Images that the gate measures on, spread evenly over the reported cases."""


def write_redecided(
    out: Path, evaluation: Evaluation, study: Study, progress: Callable[[str], None] = lambda message: None
) -> Bundle:
    """Write the evaluated bundle with the reported thresholds and temperatures as the new bundle `out`.

    The reported cases are the gate's evidence. Raises UsageError for a table of predictions, and what
    `xrt.runtime.gate.redeciding.redecide` raises.
    """
    predictions = study.predictions
    bundle = predictions.model.bundle
    if bundle is None:
        raise UsageError("a table of predictions is no model: --bundle-out needs a bundle")
    table, names = predictions.table, predictions.names
    chosen = np.unique(np.linspace(0, len(table) - 1, min(len(table), MAX_IMAGES)).round().astype(int))
    images = np.stack([table.load(int(i), bundle.manifest.preprocessing) for i in chosen])[:, None]
    evidence = EvidenceImages(
        images,
        f"{table.name}, part {evaluation.part}",
        tuple(table.cases[i].key for i in chosen),
        table.labels[chosen],
    )
    thresholds = {} if predictions.task == "multiclass" else dict(zip(names, predictions.thresholds, strict=True))
    return redecide(
        bundle,
        out,
        thresholds=thresholds,
        temperatures=dict(zip(names, predictions.temperatures, strict=True)),
        evidence=evidence,
        note=f"decisions by {evaluation.rule} ({evaluation.validation})",
        progress=progress,
    )
