"""Running a bundle over labelled cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.cases import CaseTable
from xrt.runtime.decisions import probabilities
from xrt.runtime.errors import DataError
from xrt.runtime.opening import OpenedSession
from xrt.runtime.preprocessing import Placement, preprocess


@dataclass(frozen=True)
class Scores:
    """What a bundle says about every case of a table: calibrated probabilities, and the maps if asked for.

    `placements` and `sizes` (height, width of the stored image) tie the maps to the images.
    """

    table: CaseTable
    logits: Float32[np.ndarray, "n logits"]
    probability: Float[np.ndarray, "n logits"]
    cams: Float32[np.ndarray, "n maps h w"] | None
    placements: tuple[Placement, ...]
    sizes: tuple[tuple[int, int], ...]


def require_fit(bundle: Bundle, table: CaseTable) -> None:
    """Raise DataError unless the table's classes are those of the bundle, in the same order."""
    expected = tuple(c.name for c in bundle.manifest.logit_classes)
    if table.logit_classes != expected:
        raise DataError(
            f"{table.name} has the classes {', '.join(table.logit_classes)}; the bundle has {', '.join(expected)}"
        )


def score_cases(
    bundle: Bundle,
    opened: OpenedSession,
    table: CaseTable,
    *,
    maps: bool = False,
    batch_size: int = 16,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scores:
    """Score every case, preprocessed as screening does it. Raises ImageError for an image that cannot be read."""
    require_fit(bundle, table)
    spec = bundle.manifest.preprocessing
    logits, cams, placements, sizes = [], [], [], []
    for start in range(0, len(table), batch_size):
        batch = []
        for i in range(start, min(start + batch_size, len(table))):
            pixels = table.images.read(table.cases[i].key, spec.unwindowed)
            image, placement = preprocess(pixels, spec)
            batch.append(image)
            placements.append(placement)
            sizes.append((pixels.shape[0], pixels.shape[1]))
        outputs = opened.session.infer(np.stack(batch)[:, None], cams=maps)
        logits.append(outputs.logits)
        if maps:
            cams.append(outputs.cams[bundle.manifest.graph.cams[0].output])
        progress(len(placements), len(table))
    every = np.concatenate(logits)
    return Scores(
        table=table,
        logits=every,
        probability=probabilities(every, bundle.manifest),
        cams=np.concatenate(cams) if maps else None,
        placements=tuple(placements),
        sizes=tuple(sizes),
    )
