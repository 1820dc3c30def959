"""What screening says about one file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Generic, Literal, TypeVar

import numpy as np
from jaxtyping import Float32, UInt8

from xrt.runtime.geometry import Box, Placement
from xrt.runtime.imaging.orientation import UPRIGHT, Orientation

Key = TypeVar("Key")


@dataclass(frozen=True)
class Finding:
    """One class of one image; `positive` makes it a finding in the reader's sense.

    `threshold` is None for multiclass models. `excess` is `decisions.excess`; `urgency` is its share in the
    worklist's order, None for classes of weight 0. `box` (stored-image pixels) is given for positives with a map.
    """

    class_name: str
    logit: float
    probability: float
    threshold: float | None
    positive: bool
    excess: float
    urgency: float | None
    box: Box | None = None


@dataclass(frozen=True)
class Result(Generic[Key]):
    """What became of one file: `ok` with findings, `rejected` or `failed` with a reason, or `unchanged`.

    `maps` holds the raw CAMs [h, w] by class name, for the explained classes of this image; `preview` is a reduced
    copy of the upright image, long side at most 512 px, on which overlays are drawn. `input_size` is the graph's input,
    (height, width). Boxes are in stored pixels.
    """

    key: Key
    status: Literal["ok", "rejected", "failed", "unchanged"]
    reason: str = ""
    sha256: str = ""
    notes: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    input_size: tuple[int, int] = (0, 0)
    view: str = ""
    study_uid: str = ""
    sop_instance_uid: str = ""
    patient_digest: str = ""
    findings: tuple[Finding, ...] = ()
    maps: dict[str, Float32[np.ndarray, "h w"]] = field(default_factory=dict, repr=False)
    preview: UInt8[np.ndarray, "preview_h preview_w"] | None = field(default=None, repr=False)
    placement: Placement | None = field(default=None, repr=False)
    orientation: Orientation = UPRIGHT

    def without_pictures(self) -> Result[Key]:
        """What remains to be recorded once the maps are drawn."""
        return replace(self, maps={}, preview=None)

    def with_note(self, note: str) -> Result[Key]:
        """The result with one note more."""
        return replace(self, notes=(*self.notes, note))

    def with_identifier(self, sop_instance_uid: str) -> Result[Key]:
        """The result under another instance UID, such as a pseudonym."""
        return replace(self, sop_instance_uid=sop_instance_uid)

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) of the upright image, on which `maps` lie and `preview` is drawn."""
        return self.orientation.upright_size(self.height, self.width)

    def upright_box(self, finding: Finding) -> Box | None:
        """The box of a finding in pixels of the upright image."""
        return None if finding.box is None else self.orientation.to_upright(finding.box, self.upright_size)
