"""The whole road on phantoms, as `xrt demo` walks it. Needs the extra `torch`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xrt.benchmarks.evaluation import Evaluation, evaluate, select_part, write_evaluation
from xrt.benchmarks.speed.measure import EXPLAINED, SpeedRow, measure_speed
from xrt.export.pipeline import export_source
from xrt.export.sources import open_source
from xrt.runtime.cases import cases_for
from xrt.runtime.cli.output import progress_bar
from xrt.runtime.errors import UsageError
from xrt.runtime.opening import open_session
from xrt.runtime.phantoms import write as write_phantoms
from xrt.runtime.screening.triage import triage
from xrt.train.recipes.loading import load_recipe
from xrt.train.running.fit import fit

PHANTOM_SIZE = 256
CONTRAST = (40.0, 110.0)
"""Contrast-to-noise ratios from subtle to obvious: learning the hardly visible takes longer than a demonstration."""


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration measured, and where its report is."""

    evaluation: Evaluation
    speed: tuple[SpeedRow, ...]
    report: Path

    @property
    def speedup_sentence(self) -> str:
        """The ratio to pytorch-grad-cam for all classes, and to the eager forward run."""
        eager = next(row for row in self.speed if row.contender == "eager")
        slowest = self.speed[-1]
        bundle = next(row for row in self.speed if row.contender == EXPLAINED)
        return (
            f"{bundle.ms_per_image:.2f} ms an image with all heatmaps; {slowest.contender} takes {slowest.ratio} times "
            f"as long, the eager forward run alone {eager.ratio} times"
        )

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        speed = [{**vars(row), "ratio": asdict(row.ratio)} for row in self.speed]
        return {"evaluation": self.evaluation.as_dict(), "speed": speed, "report": str(self.report)}


def run_demo(out: Path, *, count: int, seed: int, say: Callable[[str], None]) -> DemoResult:
    """Make phantoms, train, export, certify, evaluate, screen held-out phantoms, and race PyTorch.

    Raises UsageError when `out` holds something already; what its steps raise otherwise.
    """
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty: choose another --out, or remove it")
    out.mkdir(parents=True, exist_ok=True)
    data, run, path = out / "phantoms", out / "run", out / "phantoms.xrt"
    say(f"1/6 drawing {count} phantoms (synthetic radiographs)")
    with progress_bar("phantoms") as bar:
        task = bar.add_task("drawing", total=count)
        write_phantoms(
            data,
            layout="nih",
            count=count,
            seed=seed,
            size=PHANTOM_SIZE,
            contrast=CONTRAST,
            progress=lambda n: bar.advance(task, n),
        )
    say("2/6 training a small network")
    fit(load_recipe("phantoms", [f"training.seed={seed}"]), data, run)
    say("3/6 exporting it with its heatmaps, and certifying the graph")
    source = open_source(str(run))
    bundle = export_source(source, path)
    say("4/6 evaluating the bundle on held-out phantoms")
    table, part = select_part(cases_for(bundle.manifest, data), "test")
    opened = open_session(bundle)
    with opened.session:
        evaluation, scores = evaluate(bundle, opened, table, part)
        write_evaluation(out / "evaluation", evaluation, scores)
        say("5/6 racing PyTorch")
        speed = measure_speed(bundle, opened, [8], source=source, budget_s=4)
    say(f"6/6 screening {len(table)} held-out phantoms")
    held_out = out / "incoming"
    held_out.mkdir()
    for case in table.cases:
        shutil.copy2(table.root / case.key, held_out)
    with progress_bar() as bar:
        task = bar.add_task("screening", total=len(table))
        triage(bundle, [held_out], out / "results", progress=lambda done, _: bar.update(task, completed=done))
    return DemoResult(evaluation, tuple(speed), out / "results" / "report.html")
