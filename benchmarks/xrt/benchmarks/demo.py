"""The whole workflow on phantoms, as `xrt demo` shows it. Needs the extra `torch`."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xrt.benchmarks.evaluation import Evaluation, evaluate_session, select_part, write_evaluation
from xrt.benchmarks.speed.measure import EXPLAINED, GRAD_CAM, SpeedOptions, SpeedRow, measure_speed
from xrt.export.publish import publish_source
from xrt.export.sources import open_source
from xrt.runtime._io import require_empty
from xrt.runtime.datasets import open_dataset_for
from xrt.runtime.phantoms import write as write_phantoms
from xrt.runtime.progress import SILENT, Progress
from xrt.runtime.screening.triage import triage
from xrt.runtime.session import open_session
from xrt.train.recipes.loader import load_recipe
from xrt.train.training.fit import fit

PHANTOM_SIZE = 256  # pixels a side
CONTRAST_RANGE = (40.0, 110.0)
"""Contrast-to-noise ratios from subtle to obvious: learning the hardly visible takes longer than a demonstration."""
_SPEED = SpeedOptions(batch_sizes=(8,), budget_s=4)


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration measured, and where its report is."""

    evaluation: Evaluation
    speed: tuple[SpeedRow, ...]
    report: Path

    @property
    def speedup_sentence(self) -> str:
        """One sentence: the ratio to pytorch-grad-cam for all classes, and to the eager forward pass."""
        eager = next(row for row in self.speed if row.contender == "eager")
        *_, grad_cam = (row for row in self.speed if GRAD_CAM in row.contender)
        bundle = next(row for row in self.speed if row.contender == EXPLAINED)
        return (
            f"{bundle.ms_per_image:.2f} ms per image with all heatmaps; {grad_cam.contender} takes {grad_cam.ratio} "
            f"times as long, the eager forward pass alone {eager.ratio} times"
        )

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        speed = [{**vars(row), "ratio": asdict(row.ratio)} for row in self.speed]
        return {"evaluation": self.evaluation.as_dict(), "speed": speed, "report": str(self.report)}


def run_demo(out: Path, *, count: int, seed: int, progress: Progress = SILENT) -> DemoResult:
    """Make phantoms, train, export, certify, evaluate, screen held-out phantoms, and compare speed with PyTorch.

    Raises UsageError when `out` holds something already; what its steps raise otherwise.
    """
    require_empty(out)
    out.mkdir(parents=True, exist_ok=True)
    data, run, path = out / "phantoms", out / "run", out / "phantoms.xrt"
    progress.step(f"1/6 drawing {count} phantoms (synthetic radiographs)")
    write_phantoms(
        data, layout="nih", count=count, seed=seed, size=PHANTOM_SIZE, contrast=CONTRAST_RANGE, progress=progress
    )
    progress.step("2/6 training a small network")
    fit(load_recipe("phantoms", [f"training.seed={seed}"]), data, run, progress=progress)
    progress.step("3/6 exporting it with its heatmaps, and certifying the graph")
    source = open_source(str(run))
    bundle = publish_source(source, path).bundle
    progress.step("4/6 evaluating the bundle on held-out phantoms")
    cases = select_part(open_dataset_for(bundle.manifest, data), "test")
    with open_session(bundle) as opened:
        evaluation, record = evaluate_session(opened, cases)
        write_evaluation(out / "evaluation", evaluation, record)
        progress.step("5/6 comparing speed with PyTorch")
        speed = measure_speed(opened, _SPEED, source=source)
    progress.step(f"6/6 screening {len(cases.table)} held-out phantoms")
    held_out = out / "incoming"
    held_out.mkdir()
    for case in cases.table.cases:
        shutil.copy2(cases.table.root / case.key, held_out)
    triage(bundle, [held_out], out / "results", progress=progress)
    return DemoResult(evaluation, tuple(speed), out / "results" / "report.html")
