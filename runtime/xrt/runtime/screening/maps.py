"""Raw CAMs, kept small: every map of an image as half-precision numbers of its own scale."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32


class StoredMaps(NamedTuple):
    """The maps of one image as the table `map` holds them.

    `classes` is a JSON list of names; `scales` holds a float32 for each, by which its `cells`, float16
    [classes, height, width], are to be multiplied. Both are little-endian.
    """

    classes: str
    height: int
    width: int
    scales: bytes
    cells: bytes


def pack(maps: Mapping[str, Float32[np.ndarray, "h w"]]) -> StoredMaps | None:
    """Maps by class name as they are stored; None for none. Cells are exact to 2^-11 of their map's largest one."""
    if not maps:
        return None
    stacked = np.stack(list(maps.values())).astype(np.float32)
    scales = np.abs(stacked).max(axis=(1, 2), initial=0.0)
    cells = stacked / np.where(scales > 0, scales, 1.0)[:, None, None]
    return StoredMaps(
        json.dumps(list(maps)),
        stacked.shape[1],
        stacked.shape[2],
        scales.astype("<f4").tobytes(),
        cells.astype("<f2").tobytes(),
    )


def unpack(stored: StoredMaps) -> dict[str, Float32[np.ndarray, "h w"]]:
    """The maps by class name."""
    names = json.loads(stored.classes)
    cells = np.frombuffer(stored.cells, "<f2").reshape(len(names), stored.height, stored.width)
    scales = np.frombuffer(stored.scales, "<f4")
    return {name: np.asarray(one, np.float32) * scale for name, one, scale in zip(names, cells, scales, strict=True)}
