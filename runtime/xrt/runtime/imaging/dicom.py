"""DICOM through pydicom: Modality LUT, then VOI LUT or window, then MONOCHROME1 inversion (PS3.4 Annex N)."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from xrt.runtime.errors import ImageError, MissingDependency, UnreadableImage
from xrt.runtime.imaging.radiograph import DecodeLimits, Radiograph, fold_colours, scale_to_eight_bits, to_eight_bits
from xrt.runtime.imaging.verdict import DESCRIPTIONS, judge_header

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_HEADER = ("Modality", "BodyPartExamined", "ViewPosition", "PresentationIntentType", *DESCRIPTIONS)


def decode_dicom(data: bytes, *, unwindowed: str, any_body_part: bool, limits: DecodeLimits) -> Radiograph:
    """Decode one DICOM file: the header's verdict first, pixels after it.

    Raises NotAChestRadiograph, UnreadableImage, or MissingDependency when pydicom is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise MissingDependency("reading DICOM needs pydicom: pip install 'xrt-runtime[dicom]'") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(data), force=True)
            if "SOPClassUID" not in dataset and "Rows" not in dataset:
                raise UnreadableImage("not a DICOM file")
            header = _header(dataset)
            notes = () if any_body_part else judge_header(header)
            _check_pixels(dataset, limits)
            pixels, remarks = _render(dataset, unwindowed)
            return Radiograph(
                pixels=pixels,
                notes=notes + remarks,
                study_uid=str(dataset.get("StudyInstanceUID", "")),
                sop_instance_uid=str(dataset.get("SOPInstanceUID", "")),
                view=header.get("ViewPosition", ""),
                header=header,
            )
    except ImageError:
        raise
    except MemoryError:
        raise UnreadableImage("decoding needs more memory than the limit allows") from None
    except Exception as error:  # damaged files raise whatever the parser or codec trips over
        reason = str(error).strip() or type(error).__name__
        raise UnreadableImage(f"damaged DICOM: {reason.splitlines()[0]}") from error


def _header(dataset: Dataset) -> dict[str, str]:
    header = {name: str(dataset.get(name) or "") for name in _HEADER}
    if region := dataset.get("AnatomicRegionSequence"):
        header["AnatomicRegion"] = str(region[0].get("CodeMeaning", ""))
    return {name: value for name, value in header.items() if value}


def _check_pixels(dataset: Dataset, limits: DecodeLimits) -> None:
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    if not rows or not columns or "PixelData" not in dataset:
        raise UnreadableImage("the DICOM file holds no image")
    if rows * columns > limits.pixels:
        raise UnreadableImage(f"{columns} × {rows} pixels, the limit is {limits.pixels:,} in all")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        raise UnreadableImage(f"{frames} frames; one radiograph a file is read")


def _render(dataset: Dataset, unwindowed: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The image as grey uint8, air dark, and remarks on how it came about."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

    stored: Any = pixel_array(dataset)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return fold_colours(_eight_bits_of_colour(apply_color_lut(stored, dataset)))
    if stored.ndim == 3:
        return fold_colours(_eight_bits_of_colour(stored[..., :3], int(dataset.BitsStored)))
    padding = _padding(dataset, stored)
    values = apply_modality_lut(stored, dataset)
    if dataset.get("VOILUTSequence"):
        # The table's own ends, however its data is stored: beyond its range it repeats the first and last entry.
        first, entries = (
            int(dataset.VOILUTSequence[0].LUTDescriptor[1]),
            int(dataset.VOILUTSequence[0].LUTDescriptor[0]),
        )
        span = np.arange(first, first + (entries or 65536))
        table = apply_voi_lut(span.astype(np.int64), dataset)
        pixels = scale_to_eight_bits(apply_voi_lut(values, dataset), float(table.min()), float(table.max()))
    elif window := _window(dataset):
        centre, width = window
        # Far outside the window, windowing gives the ends of its output range.
        ends = apply_voi_lut(np.array([centre - 4 * width, centre + 4 * width]), dataset, prefer_lut=False)
        pixels = scale_to_eight_bits(apply_voi_lut(values, dataset, prefer_lut=False), *map(float, ends))
    else:
        pixels = to_eight_bits(values, unwindowed, _possible(dataset, apply_modality_lut), padding)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = 255 - pixels
    if padding is not None:
        pixels = np.where(padding, np.uint8(0), pixels)
    return pixels, ()


def _eight_bits_of_colour(colour: np.ndarray, bits: int = 16) -> np.ndarray:
    """Colour channels as uint8; wider ones are scaled by the bits that are stored."""
    if colour.dtype == np.uint8:
        return colour
    return (colour.astype(np.float32) * (255.0 / (2**bits - 1))).clip(0, 255).astype(np.uint8)


def _possible(dataset: Dataset, modality: Any) -> tuple[float, float]:
    """The least and greatest value that the stored bits can hold, after the modality transform."""
    bits = int(dataset.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dataset.PixelRepresentation else (0, 2**bits - 1)
    ends = modality(np.array([low, high]), dataset)
    return float(min(ends)), float(max(ends))


def _window(dataset: Dataset) -> tuple[float, float] | None:
    """The first window's centre and width; a width of zero or less is no window."""
    centre, width = dataset.get("WindowCenter"), dataset.get("WindowWidth")
    if centre is None or width is None:
        return None
    first = [float(v[0]) if hasattr(v, "__getitem__") else float(v) for v in (centre, width)]
    return (first[0], first[1]) if first[1] >= 1 else None


def _padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Where the stored values are padding, outside the irradiated field; None when the header names none."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit", value)
    return (stored >= min(value, limit)) & (stored <= max(value, limit))
