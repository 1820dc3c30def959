"""The images that int8 is calibrated on, and a cache of the results, because calibration takes minutes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from xrt.runtime._io import sha256_of
from xrt.runtime.bundle.manifest import ClassSpec, Preprocessing, Task
from xrt.runtime.cache import cache_folder, read_private, write_private
from xrt.runtime.certification.inputs import ValidationInputs, read_inputs
from xrt.runtime.errors import UsageError
from xrt.runtime.progress import SILENT, Progress

MIN_IMAGES = 32
"""Ranges from fewer images depend on the choice of images. A few hundred are better; more make no difference."""
MAX_IMAGES = 512


@runtime_checkable
class ModelDescription(Protocol):
    """What calibration needs to know about a model: its task, classes and preprocessing."""

    @property
    def task(self) -> Task: ...  # noqa: D102

    @property
    def classes(self) -> tuple[ClassSpec, ...]: ...  # noqa: D102

    @property
    def preprocessing(self) -> Preprocessing: ...  # noqa: D102


def calibration_images(path: Path, source: ModelDescription, progress: Progress = SILENT) -> ValidationInputs:
    """Radiographs of a folder, or of the training part of a data set.

    Raises UsageError when there are too few, DataError when there is none.
    """
    inputs = read_inputs(path, source.preprocessing, source, "train", limit=MAX_IMAGES, progress=progress)
    if (different := int(inputs.distinct.sum())) < MIN_IMAGES:
        raise UsageError(
            f"{path} has {different} different readable radiographs; int8 is calibrated on {MIN_IMAGES} "
            "at least, better on a few hundred: give a larger folder with --calibrate"
        )
    return inputs


def load_or_make(key: Sequence[str], make: Callable[[], bytes]) -> bytes:
    """The bytes that `make` returns, from the cache if they are there under the same key.

    Without a writable cache folder, `make` runs each time.
    """
    name = sha256_of("\0".join(key))
    path = cache_folder("calibrations") / f"{name}.onnx"
    if (content := read_private(path)) is not None:
        return content
    data = make()
    write_private(path, data)
    return data
