"""Where the pixels of a case table come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

Unwindowed = Literal["minmax", "bits"]


class ImageSource(ABC):
    """Reads one image by its case's key."""

    @abstractmethod
    def read(self, key: str, unwindowed: Unwindowed = "minmax") -> UInt8[np.ndarray, "h w"]:
        """The grey uint8 image [H, W] of `key`; `unwindowed` as in `Preprocessing`. Raises ImageError."""


@dataclass(frozen=True)
class FolderImages(ImageSource):
    """Image files below `root`; keys are relative paths."""

    root: Path

    def read(self, key: str, unwindowed: Unwindowed = "minmax") -> UInt8[np.ndarray, "h w"]:
        """Decode one file as screening does. Raises ImageError."""
        # Imported at use: a table of arrays must not need the decoders.
        from xrt.runtime.imaging import read_radiograph

        return read_radiograph(self.root / key, unwindowed).pixels


@dataclass(frozen=True)
class ArrayImages(ImageSource):
    """Images held in memory as uint8 arrays [n, H, W], one a split; keys are `split/row`."""

    arrays: Mapping[str, UInt8[np.ndarray, "n h w"]] = field(repr=False)

    def read(self, key: str, unwindowed: Unwindowed = "minmax") -> UInt8[np.ndarray, "h w"]:
        """One row. `unwindowed` changes nothing: the pixels have 8 bits already."""
        split, row = key.split("/")
        return self.arrays[split][int(row)]
