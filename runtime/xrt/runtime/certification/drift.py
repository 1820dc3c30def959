"""How far a bundle's way from a file to a decision is from the original pipeline's, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from xrt.runtime.bundle.manifest import Manifest, Preprocessing
from xrt.runtime.certification.original import Original, as_levels
from xrt.runtime.decisions import calibrated, decided
from xrt.runtime.errors import DataError
from xrt.runtime.gate.limits import ORIGINAL_LIMITS
from xrt.runtime.preprocessing import preprocess

Predict = Callable[[UInt8[np.ndarray, "n 1 height width"]], Float32[np.ndarray, "n logits"]]
"""The logits of uint8 inputs."""
Normalisation = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of each channel, in units of full scale."""
_TRIED = 6
"""Images on which other settings are tried: enough to tell filters apart, few enough to try two hundred."""
_CROPS = (1.0, 0.95, 0.9, 0.875, 0.8)
_FIT = 1.5 / 255
"""Inputs that agree to this after a linear fit at the 95th percentile were normalised otherwise. The value is free:
half a level more than the limit, since the fit itself is rounded."""


@dataclass(frozen=True)
class Drift:
    """Figures of a comparison with the original pipeline, by their names in `ORIGINAL_LIMITS`, and where it is.

    `cause` is the most likely one, with the remedy; `images` how many files were compared, `source` whose.
    """

    source: str
    images: int
    figures: dict[str, float]
    worst: str | None = None
    cause: str | None = None
    limits: dict[str, float] = field(default_factory=lambda: dict(ORIGINAL_LIMITS))

    @property
    def reasons(self) -> tuple[str, ...]:
        """The figures that miss their limit, and why; empty when all keep theirs."""
        missed = [
            f"{name} is {value:.3g}, the limit is {self.limits[name]:.3g}"
            for name, value in self.figures.items()
            if not value <= self.limits[name]
        ]
        if not missed:
            return ()
        where = f", most of all for {self.worst}" if self.worst else ""
        cause = f"; {self.cause}" if self.cause else ""
        return (f"against the original pipeline ({self.source}) {', '.join(missed)}{where}{cause}",)


@dataclass(frozen=True)
class PipelineComparison:
    """The inputs that a bundle makes of the original's files, beside the original's own."""

    original: Original
    spec: Preprocessing
    normalisation: Normalisation
    images: UInt8[np.ndarray, "n 1 height width"]

    @classmethod
    def of(cls, original: Original, spec: Preprocessing, normalisation: Normalisation) -> PipelineComparison:
        """Prepare the files as the bundle does. Raises ImageError for one that cannot be read."""
        pixels = original.pixels(spec.without_window)
        return cls(original, spec, normalisation, np.stack([preprocess(image, spec)[0] for image in pixels])[:, None])

    @cached_property
    def levels(self) -> Float[np.ndarray, "n channels height width"] | None:
        """The original's inputs in grey levels; None where it has none. Raises DataError for another shape."""
        if self.original.inputs is None:
            return None
        return as_levels(self.original.inputs, (self.spec.height, self.spec.width), self.normalisation)

    @cached_property
    def inputs(self) -> Drift:
        """The drift of the inputs, as a fraction of their range, and its cause where it misses a limit."""
        levels = self.levels
        if levels is None:
            return Drift(self.original.name, len(self.images), {})
        change = np.abs(levels - self.images).max(axis=1) / 255
        figures = {
            "input_change_p95": float(np.percentile(change, 95)),
            "input_change_max": float(change.max()),
        }
        worst = self.original.file_name(int(change.max(axis=(1, 2)).argmax()))
        drift = Drift(self.original.name, len(self.images), figures, worst)
        if not drift.reasons:
            return drift
        return replace(drift, cause=likely_cause(self))

    def whole(
        self,
        predict: Predict,
        manifest: Manifest,
    ) -> Drift:
        """The drift of inputs, probabilities and decisions.

        `predict` gives the logits of uint8 inputs. Probabilities are compared with the original's own, else with those
        of its inputs, rounded to grey levels. Raises DataError when the original's have another number of classes.
        """
        drift, levels = self.inputs, self.levels
        ours = _probabilities(predict(self.images), manifest)
        theirs = self.original.probabilities
        if theirs is not None:
            theirs = _columns(theirs, manifest)
        elif levels is not None:
            rounded = np.rint(levels.mean(axis=1, keepdims=True)).clip(0, 255).astype(np.uint8)
            theirs = _probabilities(predict(rounded), manifest)
        else:
            return drift
        change = np.abs(ours - theirs)
        flips = _decisions(ours, manifest) != _decisions(theirs, manifest)
        if manifest.task == "multiclass":
            flips = flips.any(axis=1)
        figures = {
            **drift.figures,
            "source_change_p95": float(np.percentile(change, 95)),
            "source_change_max": float(change.max()),
            "source_flips": float(flips.mean()),
        }
        worst = drift.worst or self.original.file_name(int(change.max(axis=1).argmax()))
        whole = Drift(drift.source, drift.images, figures, worst, drift.cause)
        if not whole.reasons or levels is not None:
            return whole
        return replace(whole, cause=_cause_by_probabilities(self, theirs, predict, manifest))


def likely_cause(comparison: PipelineComparison) -> str:
    """The settings with which the bundle's inputs come nearest to the original's, as options of `xrt export`."""
    spec = comparison.spec
    some, pixels = _sample(comparison)
    levels = comparison.levels
    if levels is None:
        return "only the inputs can tell the cause"
    theirs, best, fitted = levels[some], (np.inf, spec), (np.inf, spec, "")
    for tried in _alternatives(spec, *_SETTINGS):
        ours = np.stack([preprocess(image, tried)[0] for image in pixels])[:, None].astype(np.float64)
        error = float(np.percentile(np.abs(theirs - ours), 95)) / 255
        best = min(best, (error, tried), key=lambda pair: pair[0])
        residual, values = _linear_fit(ours, theirs, comparison.normalisation)
        fitted = min(fitted, (residual, tried, values), key=lambda triple: triple[0])
    if best[0] <= ORIGINAL_LIMITS["input_change_p95"]:
        return (
            f"most likely the original was made with {_options(spec, best[1])}: its inputs then differ by {best[0]:.2g}"
        )
    if fitted[0] <= _FIT:
        return f"most likely the original was made with {_options(spec, fitted[1], fitted[2])}"
    return (
        f"no other setting explains it; the nearest is {_options(spec, best[1])}, which still differs by {best[0]:.2g}"
    )


def _cause_by_probabilities(
    comparison: PipelineComparison, theirs: Float[np.ndarray, "n logits"], predict: Predict, manifest: Manifest
) -> str:
    """The settings with which the model gives what is nearest to the original's probabilities, one group at a time."""
    spec = comparison.spec
    some, pixels = _sample(comparison)

    def error(tried: Preprocessing) -> float:
        images = np.stack([preprocess(image, tried)[0] for image in pixels])[:, None]
        return float(np.abs(_probabilities(predict(images), manifest) - theirs[some]).max())

    best = spec
    for group in _SETTINGS:
        best = min(_alternatives(best, group), key=error)
    remaining = error(best)
    if remaining <= ORIGINAL_LIMITS["source_change_max"]:
        settings = _options(spec, best)
        return f"most likely the original was made with {settings}: probabilities then differ by {remaining:.2g}"
    return (
        f"no other setting explains it; the nearest is {_options(spec, best)}, which still differs by {remaining:.2g}"
    )


def _sample(comparison: PipelineComparison) -> tuple[np.ndarray, list[UInt8[np.ndarray, "_ _"]]]:
    """The indices of some images, spread evenly, and their stored pixels."""
    some = np.unique(np.linspace(0, len(comparison.images) - 1, _TRIED).round().astype(int))
    return some, comparison.original.pixels(comparison.spec.without_window, some.tolist())


_FILTERS = [
    {"interpolation": name, "antialias": antialias}
    for name, antialias in (
        ("nearest", True), ("nearest", False), ("bilinear", True), ("bilinear", False), ("bicubic", True),
        ("bicubic", False), ("lanczos", True), ("area", True),
    )
]  # fmt: skip
_FITS = [{"fit": "stretch", "crop": 1.0}, {"fit": "pad", "crop": 1.0}, *({"fit": "crop", "crop": c} for c in _CROPS)]
_GREYS = [{"equalisation": e, "invert": i} for e in ("none", "histogram") for i in (False, True)]
_SETTINGS: tuple[Sequence[Mapping[str, object]], ...] = (_FILTERS, _FITS, _GREYS)


def _alternatives(spec: Preprocessing, *groups: Sequence[Mapping[str, object]]) -> Iterator[Preprocessing]:
    """The settings as they are, then with every combination of the groups' values."""
    yield spec
    for changes in product(*groups):
        yield spec.model_copy(update={name: value for change in changes for name, value in change.items()})


def _options(before: Preprocessing, after: Preprocessing, more: str = "") -> str:
    options = []
    for name in ("interpolation", "fit", "crop", "equalisation"):
        if (value := getattr(after, name)) != getattr(before, name):
            options.append(f"--{name} {value:g}" if isinstance(value, float) else f"--{name} {value}")
    for name in ("antialias", "invert"):
        if (value := getattr(after, name)) != getattr(before, name):
            options.append(f"--{name}" if value else f"--no-{name}")
    return " ".join([*options, more]).strip() or "these settings"


def _linear_fit(
    ours: Float[np.ndarray, "n 1 h w"], theirs: Float[np.ndarray, "n channels h w"], normalisation: Normalisation
) -> tuple[float, str]:
    """How well a line through every channel explains the difference, and its mean and std as options."""
    mean, std = (np.asarray(v, dtype=np.float64) for v in normalisation)
    x = ours.ravel()
    residuals, means, stds = [], [], []
    for channel in range(theirs.shape[1]):
        y = theirs[:, channel].ravel()
        variance = x.var()
        slope = ((x - x.mean()) * (y - y.mean())).mean() / variance if variance else 0.0
        if abs(slope) < 1e-3:
            return np.inf, ""
        offset = y.mean() - slope * x.mean()
        residuals.append(float(np.percentile(np.abs(slope * x + offset - y), 95)) / 255 / abs(slope))
        # Their network saw ((slope · x + offset) / 255 - mean) / std, which is (x / 255 - means) / stds.
        stds.append(std[channel] / slope)
        means.append((mean[channel] - offset / 255) / slope)
    if min(stds) <= 0:
        return np.inf, ""
    values = (",".join(f"{v:.4g}" for v in row) for row in (means, stds))
    return max(residuals), "--mean {} --std {}".format(*values)


def _probabilities(logits: Float32[np.ndarray, "n logits"], manifest: Manifest) -> Float[np.ndarray, "n logits"]:
    return calibrated(logits, manifest.task, [c.temperature for c in manifest.logit_classes])


def _decisions(probability: Float[np.ndarray, "n logits"], manifest: Manifest) -> Bool[np.ndarray, "n logits"]:
    return decided(probability, manifest.task, [c.threshold for c in manifest.logit_classes])


def _columns(theirs: Float[np.ndarray, "n classes"], manifest: Manifest) -> Float[np.ndarray, "n logits"]:
    """The original's probabilities by logit: of a one-logit model, which has two classes, the second."""
    classes = len(manifest.logit_classes)
    if manifest.task == "binary" and theirs.shape[1] == 2:
        return theirs[:, 1:]
    if theirs.shape[1] != classes:
        raise DataError(f"the original has probabilities of {theirs.shape[1]} classes, the model has {classes}")
    return theirs
