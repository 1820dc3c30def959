"""`measure`: the faithfulness of a bundle's maps on labelled cases, and their agreement with drawn boxes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Int

from xrt.benchmarks.evaluation.measure.selection import CasePart
from xrt.benchmarks.faithfulness.collector import Collector
from xrt.benchmarks.faithfulness.figures import Faithfulness, FindingCurves, summarise
from xrt.benchmarks.faithfulness.options import FaithfulnessOptions
from xrt.benchmarks.faithfulness.perturbation_curves import path_names, walk
from xrt.benchmarks.localisation import Localisation, localise
from xrt.benchmarks.statistics import Estimate
from xrt.runtime.errors import DataError
from xrt.runtime.progress import SILENT, Progress
from xrt.runtime.scoring import Unscored, stream_cases
from xrt.runtime.session import OpenedSession


@dataclass(frozen=True)
class FaithfulnessResult:
    """All figures, and what they were measured on.

    `left_out` counts findings by the reason; `missed` the boxed lesions whose class is not predicted; `counts` are the
    numbers of cells replaced after each step.
    """

    provenance: dict[str, Any]
    options: FaithfulnessOptions
    images: int
    grid: tuple[int, int]
    paths: tuple[str, ...]
    counts: Int[np.ndarray, " points"]
    curves: tuple[FindingCurves, ...]
    faithfulness: tuple[Faithfulness, ...]
    localisation: tuple[Localisation, ...]
    left_out: dict[str, int]
    missed: int
    unscored: tuple[Unscored, ...]

    @property
    def nothing(self) -> str | None:
        """Why there is no finding to measure, where there is none."""
        if self.curves:
            return None
        reasons = ", ".join(f"{count} left out: {reason}" for reason, count in self.left_out.items())
        return (
            f"no finding to measure in {self.images} images ({reasons or 'none predicted'}), so no figure is defined:"
            " choose other cases, or lower the thresholds"
        )

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data, without the curves of single findings."""
        return {
            **self.provenance,
            "options": asdict(self.options),
            "images": self.images,
            "findings": len(self.curves),
            "left_out": self.left_out,
            "unscored": [asdict(u) for u in self.unscored],
            "grid": list(self.grid),
            "cells_replaced": self.counts.tolist(),
            "faithfulness": [_plain(row) for row in self.faithfulness],
            "boxed_lesions_not_predicted": self.missed,
            "localisation": [_plain(row) for row in self.localisation],
        }


def _plain(row: Faithfulness | Localisation) -> dict[str, Any]:
    """A row as plain data; `metrics.json` calls the mean of an estimate `point`."""
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    return {
        name: {"point": value.value, "low": value.low, "high": value.high} if isinstance(value, Estimate) else value
        for name, value in values.items()
    }


def measure_faithfulness(
    opened: OpenedSession,
    cases: CasePart,
    options: FaithfulnessOptions,
    *,
    progress: Progress = SILENT,
) -> FaithfulnessResult:
    """Measure the maps of all predicted findings. Deterministic for a seed, whatever the batch size.

    Where there is no finding to measure, no figure is defined. Raises DataError when too many images cannot be scored,
    or none can, UsageError for a map output that the bundle does not have.
    """
    table = cases.table
    collector = Collector(opened, table, options)
    unscored: list[Unscored] = []
    images = stream_cases(
        opened,
        table,
        batch_size=options.batch_size,
        allow_unscored=options.allow_unscored,
        unscored=unscored,
        progress=progress,
    )
    curves: list[FindingCurves] = []
    for walks, logits in walk(opened.session, collector.walks(images), options.batch_size):
        curves += collector.curves(walks, logits)
    if len(unscored) == len(table):
        raise DataError(
            f"{table.name}, part {cases.part}: none of {len(table)} images could be scored, "
            f"the first: {unscored[0].reason}"
            if unscored
            else f"{table.name}, part {cases.part} has no cases: choose other ones"
        )
    paths = path_names(least_first=options.least_first)
    names = collector.classes.names
    return FaithfulnessResult(
        provenance={
            "bundle": opened.manifest.name,
            "bundle_sha256": opened.bundle.sha256,
            "variant": opened.variant.file,
            "backend": f"{opened.backend.name} {opened.backend.version()}",
            "dataset": table.name,
            "part": cases.part,
            "notes": list(table.notes),
            "cams": collector.output,
        },
        options=options,
        images=len(table) - len(unscored),
        grid=collector.grid,
        paths=paths,
        counts=collector.counts,
        curves=tuple(curves),
        faithfulness=tuple(summarise(names, paths, collector.counts, curves, seed=options.seed)),
        localisation=tuple(localise(names, collector.boxed, seed=options.seed)) if collector.boxed else (),
        left_out=dict(collector.left_out),
        missed=collector.missed,
        unscored=tuple(unscored),
    )
