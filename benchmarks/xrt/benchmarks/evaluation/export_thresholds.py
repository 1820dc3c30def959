"""The decision rules that an evaluation has chosen, as a new bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xrt.benchmarks.evaluation.measure.evaluation_record import Evaluation, EvaluationRecord
from xrt.runtime.certification.certify import Publication
from xrt.runtime.certification.inputs import ValidationInputs
from xrt.runtime.certification.update_thresholds import update_thresholds
from xrt.runtime.errors import UsageError
from xrt.runtime.progress import SILENT, Progress

MAX_IMAGES = 512
"""Images that the gate measures on, spread evenly over the reported cases."""


def export_thresholds(
    out: Path, evaluation: Evaluation, record: EvaluationRecord, *, progress: Progress = SILENT
) -> Publication:
    """Write the evaluated bundle with the reported thresholds and temperatures as the new bundle `out`.

    The reported cases are the gate's inputs. Raises UsageError for a table of predictions, and what
    `xrt.runtime.certification.update_thresholds.update_thresholds` raises.
    """
    predictions = record.predictions
    opened = predictions.model.opened
    if opened is None:
        raise UsageError("a table of predictions is no model: --bundle-out needs a bundle")
    table, names = predictions.table, predictions.names
    rows = np.unique(np.linspace(0, len(table) - 1, min(len(table), MAX_IMAGES)).round().astype(int))
    images = np.stack([table.load(int(i), opened.manifest.preprocessing) for i in rows])[:, None]
    inputs = ValidationInputs(
        images,
        f"{table.name}, part {evaluation.part}",
        tuple(table.cases[i].key for i in rows),
        table.labels[rows],
    )
    thresholds = {} if predictions.task == "multiclass" else dict(zip(names, predictions.thresholds, strict=True))
    return update_thresholds(
        opened.bundle,
        out,
        thresholds=thresholds,
        temperatures=dict(zip(names, predictions.temperatures, strict=True)),
        inputs=inputs,
        note=f"decisions by {evaluation.rule} ({evaluation.validation})",
        progress=progress,
    )
