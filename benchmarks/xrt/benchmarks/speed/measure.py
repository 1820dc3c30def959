"""Speed of a bundle: explained against logits only and, with a checkpoint, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from xrt.benchmarks.speed.protocol import ROUNDS, race
from xrt.benchmarks.statistics import Ratio, ratio
from xrt.runtime.certification.inputs import phantom_inputs
from xrt.runtime.progress import SILENT, Progress
from xrt.runtime.session import OpenedSession

if TYPE_CHECKING:
    from xrt.export.sources import Source

GRAD_CAM = "eager + pytorch-grad-cam"
EXPLAINED, CONTROL, LOGITS_ONLY = "bundle, explained", "bundle, explained (A/A)", "bundle, logits only"


@dataclass(frozen=True)
class SpeedOptions:
    """How speed is measured: at which batch sizes, in how many rounds, and for how many seconds per race at most.

    There are up to five races per batch size.
    """

    batch_sizes: tuple[int, ...] = (1, 8, 32)
    rounds: int = ROUNDS
    budget_s: float = 60.0


DEFAULT_OPTIONS = SpeedOptions()


@dataclass(frozen=True)
class SpeedRow:
    """One contender at one batch size; `ratio` is its time over that of the explained bundle, paired."""

    contender: str
    batch_size: int
    ms_per_image: float
    ratio: Ratio


def measure_speed(
    opened: OpenedSession,
    options: SpeedOptions = DEFAULT_OPTIONS,
    *,
    source: Source | None = None,
    progress: Progress = SILENT,
) -> list[SpeedRow]:
    """Race the contenders at each batch size. With the source (extra `torch`) PyTorch takes part.

    Raises UsageError for a source that is no PyTorch model.
    """
    rows: list[SpeedRow] = []
    for batch_size in options.batch_sizes:
        images = phantom_inputs(batch_size, 1, opened.manifest.preprocessing).images
        for contenders in _races(opened, images, source):
            progress.step(f"batch {batch_size}: {', '.join(contenders)}")
            runs = {EXPLAINED: lambda: opened.session.infer(images), **contenders}  # noqa: B023
            times = race(runs, rounds=options.rounds, budget_s=options.budget_s)
            for name, seconds in times.items():
                if name == EXPLAINED and any(r.contender == name and r.batch_size == batch_size for r in rows):
                    continue
                per_image = 1e3 * float(np.median(seconds)) / batch_size
                rows.append(SpeedRow(name, batch_size, per_image, ratio(seconds, times[EXPLAINED])))
    return rows


def _races(
    opened: OpenedSession, images: UInt8[np.ndarray, "n 1 height width"], source: Source | None
) -> list[dict[str, Callable[[], object]]]:
    """Contenders that are raced together with the explained bundle: those of like duration."""
    session, graph = opened.session, opened.manifest.graph
    races: list[dict[str, Callable[[], object]]] = [
        {CONTROL: lambda: session.infer(images), LOGITS_ONLY: lambda: session.infer(images, cams=False)}
    ]
    if source is not None:
        from xrt.benchmarks.speed.contenders import eager, grad_cam
        from xrt.export.sources import require_torch

        torch_source = require_torch(source)
        races += [{name: forward} for name, forward in eager(torch_source, images).items()]
        classes = graph.explained or (0,)
        layer = graph.cams[0].module or ""
        races.append({f"{GRAD_CAM}, 1 class": grad_cam(torch_source, layer, images, classes[:1])})
        if len(classes) > 1:
            name = f"{GRAD_CAM}, {len(classes)} classes"
            races.append({name: grad_cam(torch_source, layer, images, classes)})
    return races
