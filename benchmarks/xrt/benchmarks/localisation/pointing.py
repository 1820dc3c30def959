"""The pointing game: does the maximum of a finding's heatmap lie in a box that a reader drew for it?

(Zhang et al. 2018, Top-down Neural Attention by Excitation Backprop.) The rate has two baselines: chance, which is
the fraction of the image that the boxes cover, and shuffled maps, those of the other images of the same class. These
are what a map would score that knows where a lesion usually is but not where it is in this image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from xrt.benchmarks.localisation.findings import BoxedFinding, ImageFrame, boxed_finding
from xrt.runtime.bundle.manifest import Manifest
from xrt.runtime.scoring import Scores


@dataclass(frozen=True)
class Pointing:
    """Fractions in 0..1 over `count` findings of one class; None where there is nothing to count."""

    name: str
    count: int
    hits: float | None
    chance: float | None
    shuffled: float | None


@dataclass(frozen=True)
class ClassHits:
    """The pointing game of findings of one class: `hits[a, b]` is whether the maximum of b's map lies in a's boxes.

    `others[a, b]` is whether a and b are of different images: these pairs are the shuffled baseline, so that it has no
    randomness of its own.
    """

    hits: Bool[np.ndarray, "n n"]
    others: Bool[np.ndarray, "n n"]

    @classmethod
    def of(cls, findings: Sequence[BoxedFinding]) -> ClassHits:
        """Every map against every finding's boxes."""
        shape = len(findings), len(findings)
        hits = np.array([[a.hit_by(b.peak) for b in findings] for a in findings], dtype=bool).reshape(shape)
        others = np.array([[a.case != b.case for b in findings] for a in findings], dtype=bool).reshape(shape)
        return cls(hits, others)


def pointing_game(
    scores: Scores,
    cams: Float32[np.ndarray, "n maps h w"],
    positive: Bool[np.ndarray, "n logits"],
    manifest: Manifest,
) -> list[Pointing]:
    """The pointing game over findings (`positive`) that have a box: a row for each class, and a last one for all.

    `cams` are the maps of the scored cases, of the classes that the manifest's graph explains for every image.
    """
    names, spec = scores.table.logit_classes, manifest.preprocessing
    explained = manifest.graph.explained or ()
    findings: dict[int, list[BoxedFinding]] = {c: [] for c in explained}
    for m, c in enumerate(explained):
        for i, case in enumerate(scores.table.cases):
            boxes = [labelled.box for labelled in case.boxes if labelled.label == names[c]]
            if boxes and positive[i, c]:
                frame = ImageFrame(scores.placements[i], (spec.height, spec.width), scores.sizes[i])
                findings[c].append(boxed_finding(i, names[c], cams[i, m], boxes, frame))
    rows = [_summarise(names[c], [group]) for c, group in findings.items()]
    return [*rows, _summarise("all", list(findings.values()))]


def _summarise(name: str, groups: Sequence[Sequence[BoxedFinding]]) -> Pointing:
    findings = [finding for group in groups for finding in group]
    if not findings:
        return Pointing(name, 0, None, None, None)
    classes = [ClassHits.of(group) for group in groups]
    own = np.concatenate([c.hits.diagonal() for c in classes])
    shuffled = np.concatenate([c.hits[c.others] for c in classes])
    return Pointing(
        name=name,
        count=len(findings),
        hits=float(np.mean(own)),
        chance=float(np.mean([finding.area for finding in findings])),
        shuffled=float(np.mean(shuffled)) if len(shuffled) else None,
    )
