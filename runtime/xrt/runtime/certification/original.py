"""What the pipeline that a model comes from made of radiographs: its inputs, its probabilities.

Most exported models go wrong before the graph: another filter, a crop, black and white exchanged. The graph's proof
says nothing of that, so what the original pipeline made is laid beside what the bundle makes of the same files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from xrt.runtime._io import comma_list, first_line, image_files, on_one_line
from xrt.runtime.bundle.manifest import WithoutWindow
from xrt.runtime.errors import DataError
from xrt.runtime.imaging import DecodeOptions, read_radiograph

ARRAYS = ("inputs", "probabilities")


@dataclass(frozen=True)
class Original:
    """Radiographs with what the original pipeline made of them.

    `inputs` are float, as the network takes them, one for each file: [channels, H, W], [H, W, channels] or [H, W].
    `probabilities` are [n, classes]. `name` says where they come from; `stored` are the radiographs as they are
    decoded, where `files` are only names.
    """

    name: str
    files: tuple[Path | str, ...]
    inputs: tuple[Float[np.ndarray, ...], ...] | None = None
    probabilities: Float[np.ndarray, "n classes"] | None = None
    stored: tuple[UInt8[np.ndarray, "_ _"], ...] | None = None

    def pixels(
        self, without_window: WithoutWindow, indices: Sequence[int] | None = None
    ) -> list[UInt8[np.ndarray, "_ _"]]:
        """The radiographs, or those at `indices`, as the bundle reads them.

        Raises ImageError for one that cannot be read.
        """
        chosen = range(len(self.files)) if indices is None else indices
        if self.stored is not None:
            return [self.stored[i] for i in chosen]
        return [read_radiograph(self.files[i], DecodeOptions(without_window)).upright for i in chosen]

    def file_name(self, index: int) -> str:
        """The name of one radiograph, without its folder."""
        return on_one_line(Path(self.files[index]).name)


def read_original(path: Path, images: Path | None = None) -> Original:
    """Read an archive or a folder of what the original pipeline made.

    An .npz has `files`, names relative to `images` (default: the archive's folder), and `inputs`, `probabilities` or
    both, a row for each file. A folder holds one .npy for each image, with its stem; `images` (default: that folder)
    holds the images. Raises DataError that names what is missing or does not fit.
    """
    if path.is_dir():
        return _read_folder(path, images or path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("files", *ARRAYS) if name in archive.files}
    except Exception as error:  # a damaged archive raises errors of many types
        raise DataError(
            f"{path} cannot be read as .npz ({first_line(error)}): write `files`, and `inputs` or `probabilities`, "
            "with numpy.savez"
        ) from error
    if "files" not in arrays or not arrays.keys() & set(ARRAYS):
        raise DataError(
            f"{path} has the arrays {comma_list(sorted(arrays))}; needed are `files`, the names of the images, and "
            "`inputs` [n, channels, height, width] or `probabilities` [n, classes]"
        )
    root = images or path.parent
    files = tuple(root / str(name) for name in np.atleast_1d(arrays["files"]).tolist())
    for name in ARRAYS:
        if name in arrays and (arrays[name].dtype.kind not in "fiu" or len(arrays[name]) != len(files)):
            raise DataError(
                f"{path}: `{name}` is {arrays[name].dtype} {list(arrays[name].shape)} for {len(files)} files; a row of "
                "numbers for each is needed"
            )
    if missing := [str(file.relative_to(root)) for file in files if not file.is_file()]:
        raise DataError(
            f"{path} names images that are not under {root}: {comma_list(missing)}; say where with --images"
        )
    if not files:
        raise DataError(f"{path} names no image")
    probabilities = arrays.get("probabilities")
    return Original(
        on_one_line(path.name),
        files,
        tuple(map(_as_float, arrays["inputs"])) if "inputs" in arrays else None,
        None if probabilities is None else probabilities.astype(np.float64).reshape(len(files), -1),
    )


def _read_folder(folder: Path, images: Path) -> Original:
    arrays = sorted(folder.glob("*.npy"))
    if not arrays:
        raise DataError(f"{folder} holds no .npy: one for each image, with its stem, is needed")
    by_stem: dict[str, list[Path]] = {}
    for file in image_files(images):
        if file.suffix.lower() != ".npy":
            by_stem.setdefault(file.stem, []).append(file)
    if wrong := [
        f"{array.name} ({len(by_stem.get(array.stem, []))})"
        for array in arrays
        if len(by_stem.get(array.stem, [])) != 1
    ]:
        raise DataError(
            f"each .npy of {folder} needs one image of its stem under {images}; it is another number for "
            f"{comma_list(wrong)}: say where with --images"
        )
    return Original(
        on_one_line(folder.name),
        tuple(by_stem[array.stem][0] for array in arrays),
        tuple(_array(array) for array in arrays),
    )


def _array(path: Path) -> Float[np.ndarray, ...]:
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged file raises errors of many types
        raise DataError(f"{path} cannot be read as .npy ({first_line(error)}): write it with numpy.save") from error
    if array.dtype.kind not in "fiu":
        raise DataError(f"{path} holds {array.dtype}, not numbers")
    return _as_float(array)


def _as_float(array: np.ndarray) -> Float[np.ndarray, ...]:
    return array if array.dtype.kind == "f" else array.astype(np.float32)


def as_levels(
    inputs: Sequence[Float[np.ndarray, ...]],
    size: tuple[int, int],
    normalisation: tuple[Sequence[float], Sequence[float]],
) -> Float[np.ndarray, "n channels height width"]:
    """The inputs in grey levels 0..255, as (pixel / 255 - mean) / std has made them.

    Raises DataError when their shape is not that of `size` with the channels of `normalisation` (mean, std).
    """
    mean, std = (np.asarray(v, dtype=np.float64)[:, None, None] for v in normalisation)
    levels = []
    for array in inputs:
        image = _channels_first(array, len(mean), size)
        if image is None:
            raise DataError(
                f"the original pipeline's input has the shape {list(array.shape)}, the network takes {len(mean)} "
                f"channels of {size[0]} x {size[1]}: --input-size, or write the inputs as the network takes them"
            )
        levels.append(((image.astype(np.float64) * std + mean) * 255).astype(np.float32))
    return np.stack(levels)


def _channels_first(array: np.ndarray, channels: int, size: tuple[int, int]) -> np.ndarray | None:
    """[channels, H, W] of an input in any of its layouts, with or without an axis for the batch; None if none fits."""
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.shape == (channels, *size):
        return array
    if array.shape == (*size, channels):
        return np.moveaxis(array, -1, 0)
    return array[None] if channels == 1 and array.shape == size else None
