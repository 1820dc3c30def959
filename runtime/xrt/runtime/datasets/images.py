"""Where the pixels of a case table come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from xrt.runtime.bundle.manifest import WithoutWindow


class ImageSource(ABC):
    """Reads one image by its case's key."""

    @abstractmethod
    def read(self, key: str, without_window: WithoutWindow = "minmax") -> UInt8[np.ndarray, "h w"]:
        """The grey uint8 image [H, W] of `key`; `without_window` as in `Preprocessing`. Raises ImageError."""


@dataclass(frozen=True)
class FolderImages(ImageSource):
    """Image files below `root`; keys are relative paths."""

    root: Path

    def read(self, key: str, without_window: WithoutWindow = "minmax") -> UInt8[np.ndarray, "h w"]:
        """Decode one file as screening does. Raises ImageError."""
        # Imported at use: a table of arrays must not need the decoders.
        from xrt.runtime.imaging import DecodeOptions, read_radiograph

        return read_radiograph(self.root / key, DecodeOptions(without_window)).upright


@dataclass(frozen=True)
class ArrayImages(ImageSource):
    """Images held in memory as uint8 arrays [n, H, W], one per split; keys are `split/row`."""

    arrays: Mapping[str, UInt8[np.ndarray, "n h w"]] = field(repr=False)

    def read(self, key: str, without_window: WithoutWindow = "minmax") -> UInt8[np.ndarray, "h w"]:
        """One row. `without_window` changes nothing: the pixels have 8 bits already."""
        split, row = key.split("/")
        return self.arrays[split][int(row)]
