"""Everything that an evaluation leaves in its folder."""

from __future__ import annotations

import json
from pathlib import Path

from xrt.benchmarks.evaluation.comparison import write_disagreements
from xrt.benchmarks.evaluation.evaluation import Evaluation, Study
from xrt.benchmarks.evaluation.reporting import build_report
from xrt.benchmarks.evaluation.tables import write_predictions
from xrt.benchmarks.report import write_report
from xrt.runtime.files import write_durably


def write_evaluation(out: Path, evaluation: Evaluation, study: Study) -> Path:
    """Write the report and its figures, `metrics.json` and `predictions.csv` into the folder `out`.

    With other models also `disagreements.csv`. Returns the path of `report.html`.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_durably(out / "metrics.json", (json.dumps(evaluation.as_dict(), indent=2) + "\n").encode())
    write_predictions(out / "predictions.csv", study.predictions)
    # Of another evaluation into the same folder nothing must stay that would seem to be of this one.
    (out / "disagreements.csv").unlink(missing_ok=True)
    if study.others:
        write_disagreements(out / "disagreements.csv", study.predictions, study.others)
    return write_report(out, build_report(evaluation, study))
