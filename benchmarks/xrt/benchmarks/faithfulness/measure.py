"""`measure`: the faithfulness of a bundle's maps on labelled cases, and their agreement with drawn boxes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from xrt.benchmarks.faithfulness.collecting import Collector
from xrt.benchmarks.faithfulness.figures import Faithfulness, FindingCurves, summarise
from xrt.benchmarks.faithfulness.options import FaithfulnessOptions
from xrt.benchmarks.faithfulness.paths import path_names, walk
from xrt.benchmarks.localisation import Localisation, localise
from xrt.benchmarks.scoring import Progress, Unscored, stream
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.cases import CaseTable
from xrt.runtime.errors import DataError
from xrt.runtime.opening import OpenedSession


@dataclass(frozen=True)
class FaithfulnessResult:
    """All figures, and what they rest on.

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
            "faithfulness": [asdict(row) for row in self.faithfulness],
            "boxed_lesions_not_predicted": self.missed,
            "localisation": [asdict(row) for row in self.localisation],
        }


def measure(
    bundle: Bundle,
    opened: OpenedSession,
    table: CaseTable,
    part: str,
    options: FaithfulnessOptions,
    *,
    progress: Progress = lambda done, total: None,
) -> FaithfulnessResult:
    """Measure the maps of all predicted findings. Deterministic for a seed, whatever the batch size.

    Where there is no finding to measure, no figure is defined. Raises DataError when too many images cannot be scored,
    or none can, UsageError for a map output that the bundle does not have.
    """
    collected = Collector(bundle, table, options)
    unscored: list[Unscored] = []
    images = stream(
        bundle,
        opened,
        table,
        batch_size=options.batch_size,
        allow_unscored=options.allow_unscored,
        unscored=unscored,
        progress=progress,
    )
    curves: list[FindingCurves] = []
    for walks, logits in walk(opened.session, collected.walks(images), options.batch_size):
        curves += collected.curves(walks, logits)
    if len(unscored) == len(table):
        raise DataError(
            f"{table.name}, part {part}: none of {len(table)} images could be scored, the first: {unscored[0].reason}"
            if unscored
            else f"{table.name}, part {part} has no cases: choose other ones"
        )
    paths = path_names(least_first=options.least_first)
    names = collected.classes.names
    return FaithfulnessResult(
        provenance={
            "bundle": bundle.manifest.name,
            "bundle_sha256": bundle.sha256,
            "variant": opened.variant.file,
            "backend": f"{opened.backend.name} {opened.backend.version()}",
            "dataset": table.name,
            "part": part,
            "notes": list(table.notes),
            "cams": collected.output,
        },
        options=options,
        images=len(table) - len(unscored),
        grid=collected.grid,
        paths=paths,
        counts=collected.counts,
        curves=tuple(curves),
        faithfulness=tuple(summarise(names, paths, collected.counts, curves, seed=options.seed)),
        localisation=tuple(localise(names, collected.boxed, seed=options.seed)) if collected.boxed else (),
        left_out=dict(collected.left_out),
        missed=collected.missed,
        unscored=tuple(unscored),
    )
