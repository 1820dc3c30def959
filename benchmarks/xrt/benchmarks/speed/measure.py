"""Speed of a bundle: explained against logits only and, with a checkpoint, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xrt.benchmarks.speed.protocol import Ratio, race, ratio
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.gate.evidence import phantom_inputs
from xrt.runtime.opening import OpenedSession

if TYPE_CHECKING:
    from xrt.export.sources import Source

EXPLAINED, CONTROL, LOGITS_ONLY = "bundle, explained", "bundle, explained (A/A)", "bundle, logits only"


@dataclass(frozen=True)
class SpeedRow:
    """One contender at one batch size; `ratio` is its time over that of the explained bundle, paired."""

    contender: str
    batch_size: int
    ms_per_image: float
    ratio: Ratio


def measure_speed(
    bundle: Bundle,
    opened: OpenedSession,
    batch_sizes: Sequence[int],
    *,
    source: Source | None = None,
    rounds: int = 60,
    budget_s: float = 60.0,
    progress: Callable[[str], None] = lambda message: None,
) -> list[SpeedRow]:
    """Race the contenders at each batch size. With the source (extra `torch`) PyTorch takes part.

    `budget_s` bounds each race, of which there are up to five a batch size.
    """
    rows: list[SpeedRow] = []
    for batch_size in batch_sizes:
        images = phantom_inputs(batch_size, 1, bundle.manifest.preprocessing).images
        for contenders in _races(bundle, opened, images, source):
            progress(f"batch {batch_size}: {', '.join(contenders)}")
            entered = {EXPLAINED: lambda: opened.session.infer(images), **contenders}  # noqa: B023
            times = race(entered, rounds=rounds, budget_s=budget_s)
            for name, seconds in times.items():
                if name == EXPLAINED and any(r.contender == name and r.batch_size == batch_size for r in rows):
                    continue
                per_image = 1e3 * float(np.median(seconds)) / batch_size
                rows.append(SpeedRow(name, batch_size, per_image, ratio(seconds, times[EXPLAINED])))
    return rows


def _races(
    bundle: Bundle, opened: OpenedSession, images: np.ndarray, source: Source | None
) -> list[dict[str, Callable[[], object]]]:
    """Contenders that are raced together with the explained bundle: those of like duration."""
    session = opened.session
    races: list[dict[str, Callable[[], object]]] = [
        {CONTROL: lambda: session.infer(images), LOGITS_ONLY: lambda: session.infer(images, cams=False)}
    ]
    if source is not None:
        from xrt.benchmarks.speed.contenders import eager, grad_cam

        races += [{name: run} for name, run in eager(source, images).items()]
        classes = bundle.manifest.graph.explained or (0,)
        layer = bundle.manifest.graph.cams[0].module or ""
        races.append({"eager + pytorch-grad-cam, 1 class": grad_cam(source, layer, images, classes[:1])})
        if len(classes) > 1:
            name = f"eager + pytorch-grad-cam, {len(classes)} classes"
            races.append({name: grad_cam(source, layer, images, classes)})
    return races
