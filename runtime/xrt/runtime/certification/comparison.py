"""A certificate made of a comparison: outputs against a reference, measured, judged and recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xrt.runtime._io import utc_now
from xrt.runtime.backends import Execution
from xrt.runtime.bundle.certificate import Certificate, Evidence, WorstCase
from xrt.runtime.bundle.manifest import Manifest
from xrt.runtime.certification.drift import Drift
from xrt.runtime.certification.inputs import ValidationInputs
from xrt.runtime.gate import LIMITS, Comparison, compare, judge
from xrt.runtime.outputs import ModelOutputs


@dataclass(frozen=True)
class ReferenceOutputs:
    """What variants are compared with: inputs, the reference's outputs for them, and which reference it was.

    `accepted` names the classes whose labels the user accepts although the gate objects to them. `drift` is what the
    comparison with the original pipeline gave, where there was one.
    """

    inputs: ValidationInputs
    outputs: ModelOutputs
    name: str
    accepted: tuple[str, ...] = ()
    drift: Drift | None = None


def certificate_of(
    execution: Execution,
    reference: ReferenceOutputs,
    outputs: ModelOutputs,
    manifest: Manifest,
    *,
    peak: float | None = None,
    limits: Mapping[str, float] | None = None,
    enough: bool = True,
) -> Certificate:
    """Measure `outputs` against the reference, judge and record.

    `peak` is the figure of that name; `limits` are the precision's own by default. Without `enough`, little evidence
    is no reason to refuse. Raises ValueError when shapes differ.
    """
    inputs, variant, backend = reference.inputs, execution.variant, execution.backend
    comparison = compare(
        reference.outputs, outputs, manifest, distinct=inputs.distinct, labels=inputs.labels, peak=peak
    )
    figures, limits = comparison.figures, LIMITS[variant.precision] if limits is None else dict(limits)
    auroc = {manifest.logit_classes[i].name: area for i, area in comparison.aurocs.items()}
    drift = reference.drift
    objections = [*label_objections(auroc, reference, manifest), *(drift.reasons if drift else ())]
    verdict, reasons = judge(figures, limits, enough=enough, synthetic=inputs.synthetic, objections=objections)
    worst = tuple(
        WorstCase(
            figure=w.figure,
            image=inputs.names[w.image],
            class_name=manifest.map_class(w.logit) if w.output else manifest.logit_classes[w.logit].name,
            value=w.value if np.isfinite(w.value) else -1.0,
        )
        for w in comparison.worst
    )
    return Certificate(
        file_sha256=variant.sha256,
        decisions_sha256=manifest.decisions_sha256,
        backend=backend.name,
        backend_version=backend.version(),
        execution_precision=execution.precision,
        device_class=backend.device_class(),
        verdict=verdict,
        figures={
            **{name: _recorded(value) for name, value in figures.as_dict().items()},
            **(drift.figures if drift else {}),
        },
        limits={**limits, **({name: drift.limits[name] for name in drift.figures} if drift else {})},
        reasons=reasons,
        worst=worst,
        evidence=Evidence(
            source=inputs.source,
            synthetic=inputs.synthetic,
            images=figures.images,
            decisions=figures.decisions,
            reference=reference.name,
            labelled=figures.auroc_drop is not None,
            different_images=figures.different_images,
            auroc=auroc,
            accepted=reference.accepted,
            original=f"{drift.images} images of {drift.source}" if drift else None,
        ),
        unproved=_unproved(comparison, manifest),
        created=utc_now(),
    )


def label_objections(
    auroc: Mapping[str, tuple[float, float, float]], reference: ReferenceOutputs, manifest: Manifest
) -> list[str]:
    """Why the labels are no evidence, unless the user accepted the class by name.

    A class that the reference itself ranks worse than chance has the wrong name, or the labels have.
    """
    objections = [
        f"the model's own AUROC of {name} on {reference.inputs.source} is {area:.3f} [{low:.3f}, {high:.3f}], worse "
        f"than chance: its labels or its place among the classes are wrong; correct them, or --accept-labels {name!r}"
        for name, (area, low, high) in auroc.items()
        if high < 0.5 and name not in reference.accepted
    ]
    names = [spec.name for spec in manifest.classes]
    if reference.inputs.named_by_place and (missing := [name for name in names if name not in reference.accepted]):
        objections.append(
            f"{reference.inputs.source} does not name its labels as the classes are named, so they were matched by "
            f"their order alone: name the classes as it does, or --accept-labels {','.join(missing)!r}"
        )
    return objections


def _unproved(comparison: Comparison, manifest: Manifest) -> tuple[str, ...]:
    """The outputs of which the images prove nothing: constant logits and empty maps, by class."""
    explained = manifest.graph.explained or ()
    logits = [
        f"logit of {manifest.logit_classes[i].name}, the same on every image" for i in comparison.unvarying_logits
    ]
    maps = [
        f"heatmap of {manifest.map_class(explained[k])} in {output}, empty on every image"
        for output, k in comparison.empty_maps
    ]
    return (*logits, *maps)


def _recorded(value: Any) -> Any:
    """JSON knows no infinity: a figure that is none is recorded as absent, and the reasons name it."""
    return None if isinstance(value, float) and not np.isfinite(value) else value
