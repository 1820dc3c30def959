"""Everything that an evaluation writes into its folder."""

from __future__ import annotations

from pathlib import Path

from xrt.benchmarks.evaluation.measure.comparison import write_disagreements
from xrt.benchmarks.evaluation.measure.evaluation_record import Evaluation, EvaluationRecord
from xrt.benchmarks.evaluation.measure.prediction_table import write_predictions
from xrt.benchmarks.evaluation.report.page import evaluation_report
from xrt.benchmarks.report import write_report
from xrt.runtime._io import json_bytes, write_atomically


def write_evaluation(out: Path, evaluation: Evaluation, record: EvaluationRecord) -> Path:
    """Write the report and its figures, `metrics.json` and `predictions.csv` into the folder `out`.

    With other models also `disagreements.csv`. Returns the path of `report.html`.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "metrics.json", json_bytes(evaluation.as_dict()))
    write_predictions(out / "predictions.csv", record.predictions)
    # Nothing of an earlier evaluation in the same folder may stay: it would seem to belong to this one.
    (out / "disagreements.csv").unlink(missing_ok=True)
    if record.others:
        write_disagreements(out / "disagreements.csv", record.predictions, record.others)
    return write_report(out, evaluation_report(evaluation, record))
