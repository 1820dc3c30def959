"""Known answers: inputs with the reference's logits and CAMs, so that any machine can be checked."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from xrt.runtime.bundle.manifest import Manifest
from xrt.runtime.errors import CorruptBundle
from xrt.runtime.outputs import ModelOutputs


@dataclass(frozen=True)
class KnownAnswers:
    """What the reference model gives for a few dozen inputs.

    `cams` maps each CAM output of the graph to its reference maps; with top-K explanation the maps are those of
    every image's `cam_classes`.
    """

    images: UInt8[np.ndarray, "n 1 height width"]
    logits: Float32[np.ndarray, "n logits"]
    cams: dict[str, Float32[np.ndarray, "n maps h w"]]

    @property
    def outputs(self) -> ModelOutputs:
        """The reference's outputs for `images`."""
        return ModelOutputs(self.logits, self.cams)

    def to_bytes(self) -> bytes:
        """Serialise as a compressed `.npz` without pickles."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {f"cam:{name}": cam for name, cam in self.cams.items()}
        np.savez_compressed(buffer, images=self.images, logits=self.logits, **arrays)
        return buffer.getvalue()

    def fit(self, manifest: Manifest) -> str | None:
        """What does not fit the manifest, in a few words; None when everything does."""
        count, logits, graph = len(self.images), len(manifest.logit_classes), manifest.graph
        size = manifest.preprocessing.height, manifest.preprocessing.width
        maps = manifest.interface.maps
        expected = {cam.output: (count, maps, cam.height, cam.width) for cam in graph.cams}
        if count != manifest.known_answers.count or self.images.shape != (count, 1, *size):
            return f"images {self.images.shape}"
        if self.images.dtype != np.uint8 or self.logits.shape != (count, logits):
            return f"logits {self.logits.shape} for {logits} classes"
        shapes = {name: cam.shape for name, cam in self.cams.items()}
        return None if shapes == expected else f"maps {shapes}, expected {expected}"

    @classmethod
    def from_bytes(cls, data: bytes) -> KnownAnswers:
        """Read what `to_bytes` wrote. Raises CorruptBundle when it is something else."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                cams = {key.removeprefix("cam:"): file[key] for key in file.files if key.startswith("cam:")}
                return cls(file["images"], file["logits"], cams)
        except Exception as error:  # a damaged archive raises errors of many types
            raise CorruptBundle(f"the known answers cannot be read ({error}): export the bundle again") from error
