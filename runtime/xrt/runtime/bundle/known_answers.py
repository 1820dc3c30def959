"""Known answers: inputs with the reference's logits and CAMs, so that any machine can be checked."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from xrt.runtime.bundle.manifest import Manifest
from xrt.runtime.errors import CorruptBundle
from xrt.runtime.outputs import ModelOutputs

_HEADERS = 4096
"""Bytes beside the numbers that an array of the archive may take."""


def known_answers_bytes(manifest: Manifest) -> int:
    """How many bytes the known answers that a manifest describes may take unpacked."""
    count, size, maps = manifest.known_answers.count, manifest.preprocessing, manifest.interface.maps
    cams = sum(cam.height * cam.width for cam in manifest.graph.cams) * maps
    numbers = count * (size.height * size.width + 4 * (len(manifest.logit_classes) + cams))
    return numbers + _HEADERS * (2 + len(manifest.graph.cams))


def _unpacked(data: bytes, most: int) -> int:
    """The bytes that an archive unpacks to, counted up to `most`: its directory may lie."""
    total = 0
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                while total <= most and (chunk := stream.read(2**20)):
                    total += len(chunk)
    return total


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
    def from_bytes(cls, data: bytes, most: int | None = None) -> KnownAnswers:
        """Read what `to_bytes` wrote.

        Raises CorruptBundle when it is something else, or takes more than `most` bytes unpacked.
        """
        try:
            if most is not None and (size := _unpacked(data, most)) > most:
                raise ValueError(f"they unpack to {size} bytes or more, the manifest describes {most}")
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                cams = {key.removeprefix("cam:"): file[key] for key in file.files if key.startswith("cam:")}
                return cls(file["images"], file["logits"], cams)
        except Exception as error:  # a damaged archive raises errors of many types
            raise CorruptBundle(f"the known answers cannot be read ({error}): export the bundle again") from error
