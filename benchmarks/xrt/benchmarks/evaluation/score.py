"""A bundle's predictions on labelled cases, with the pointing game where cases have boxes."""

from __future__ import annotations

from xrt.benchmarks.evaluation.measure.predictions import Predictions
from xrt.benchmarks.localisation import Pointing, pointing_game
from xrt.runtime.datasets import CaseTable
from xrt.runtime.progress import SILENT, Progress
from xrt.runtime.scoring import score_cases
from xrt.runtime.session import OpenedSession


def score(
    opened: OpenedSession,
    table: CaseTable,
    *,
    maps: bool = True,
    allow_unscored: float = 0.0,
    progress: Progress = SILENT,
) -> tuple[Predictions, tuple[Pointing, ...]]:
    """A bundle's predictions for every case and, with `maps`, the pointing game where cases have boxes.

    Raises DataError when the classes differ, or when a larger fraction than `allow_unscored` cannot be scored.
    """
    explained = opened.manifest.graph.explained
    boxed = maps and explained is not None and any(case.boxes for case in table.cases)
    scores = score_cases(opened, table, maps=boxed, allow_unscored=allow_unscored, progress=progress)
    predictions = Predictions.of_scores(opened, scores)
    if scores.cams is None or not explained:
        return predictions, ()
    return predictions, tuple(pointing_game(scores, scores.cams, predictions.decisions, opened.manifest))
