"""Quality of a bundle on labelled cases: AUROC and the figures at its operating thresholds. Needs no torch."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from xrt.benchmarks.evaluation.plots import plot_roc
from xrt.benchmarks.localisation import Pointing, pointing_game
from xrt.benchmarks.scoring import Scores, score_cases
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.cases import CaseTable
from xrt.runtime.decisions import positives
from xrt.runtime.errors import DataError
from xrt.runtime.opening import OpenedSession

Part = Literal["auto", "train", "val", "test", "all"]


@dataclass(frozen=True)
class ClassFigures:
    """One class against the rest; None where the cases hold only one kind, so that the figure is not defined."""

    name: str
    images: int
    auroc: float | None
    average_precision: float | None
    threshold: float | None
    accuracy: float
    sensitivity: float | None
    specificity: float | None


@dataclass(frozen=True)
class Evaluation:
    """All figures of a bundle on one table of cases."""

    bundle: str
    bundle_sha256: str
    variant: str
    backend: str
    dataset: str
    part: str
    images: int
    mean_auroc: float | None
    accuracy: float
    classes: tuple[ClassFigures, ...]
    pointing: tuple[Pointing, ...]

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        return asdict(self)


def select_part(table: CaseTable, part: Part) -> tuple[CaseTable, str]:
    """The cases of one official part; `auto` is the official test part where there is one, else all cases.

    Raises DataError when the data set's publishers gave no such part.
    """
    official = {case.split for case in table.cases}
    if part == "auto":
        part = "test" if "test" in official else "all"
    if part == "all":
        return table, part
    chosen = [i for i, case in enumerate(table.cases) if case.split == part]
    if not chosen:
        have = ", ".join(sorted(s for s in official if s)) or "none"
        raise DataError(f"{table.name} has no official part {part!r} (it has: {have}): use --split all")
    return table.subset(chosen), part


def evaluate(
    bundle: Bundle,
    opened: OpenedSession,
    table: CaseTable,
    part: str,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Evaluation, Scores]:
    """Score the cases and compute every figure; localisation too where cases have boxes. Raises DataError."""
    boxed = any(case.boxes for case in table.cases) and bundle.manifest.graph.explained is not None
    scores = score_cases(bundle, opened, table, maps=boxed, progress=progress)
    truth = table.labels.astype(bool)
    decided = positives(scores.probability, bundle.manifest)
    classes = tuple(
        _figures(spec.name, None if bundle.manifest.task == "multiclass" else spec.threshold, *columns)
        for spec, *columns in zip(bundle.manifest.logit_classes, truth.T, scores.probability.T, decided.T, strict=True)
    )
    areas = [c.auroc for c in classes if c.auroc is not None]
    if bundle.manifest.task == "multiclass":
        accuracy = float((truth & decided).any(axis=1).mean())
    else:
        accuracy = float((truth == decided).mean())
    explained, spec = bundle.manifest.graph.explained, bundle.manifest.preprocessing
    return (
        Evaluation(
            bundle=bundle.manifest.name,
            bundle_sha256=bundle.sha256,
            variant=opened.variant.file,
            backend=f"{opened.backend.name} {opened.backend.version()}",
            dataset=table.name,
            part=part,
            images=len(table),
            mean_auroc=float(np.mean(areas)) if areas else None,
            accuracy=accuracy,
            classes=classes,
            pointing=tuple(pointing_game(scores, decided, explained, spec)) if boxed and explained else (),
        ),
        scores,
    )


def write_evaluation(out: Path, evaluation: Evaluation, scores: Scores) -> None:
    """Write `metrics.json`, `predictions.csv` and `roc.png` into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(evaluation.as_dict(), indent=2) + "\n")
    names = scores.table.logit_classes
    with (out / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *(f"label:{n}" for n in names), *(f"probability:{n}" for n in names)])
        for case, label, row in zip(scores.table.cases, scores.table.labels, scores.probability, strict=True):
            writer.writerow([case.key, *(int(v) for v in label), *(f"{p:.9g}" for p in row)])
    plot_roc(out / "roc.png", names, scores.table.labels.astype(bool), scores.probability)


def _figures(
    name: str, threshold: float | None, truth: np.ndarray, probability: np.ndarray, decided: np.ndarray
) -> ClassFigures:
    both = bool(truth.any() and not truth.all())
    return ClassFigures(
        name=name,
        images=int(truth.sum()),
        auroc=float(roc_auc_score(truth, probability)) if both else None,
        average_precision=float(average_precision_score(truth, probability)) if both else None,
        threshold=threshold,
        accuracy=float((truth == decided).mean()),
        sensitivity=float(decided[truth].mean()) if truth.any() else None,
        specificity=float((~decided[~truth]).mean()) if not truth.all() else None,
    )
