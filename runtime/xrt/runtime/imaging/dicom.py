"""DICOM through pydicom: Modality LUT, then VOI LUT or window, then MONOCHROME1 inversion (PS3.4 Annex N)."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from xrt.runtime.bundle.manifest import WithoutWindow
from xrt.runtime.errors import MissingDependency, UnreadableImage
from xrt.runtime.imaging.header_check import DESCRIPTIONS, check_header
from xrt.runtime.imaging.radiograph import (
    DecodeOptions,
    Radiograph,
    decoder_errors,
    require_pixels,
    scale_to_uint8,
    to_grayscale,
    to_uint8,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_HEADER = ("Modality", "BodyPartExamined", "ViewPosition", "PresentationIntentType", *DESCRIPTIONS)


def decode_dicom(data: bytes, options: DecodeOptions) -> Radiograph:
    """Decode one DICOM file: the header is checked first, pixels are decoded after it.

    Raises NotAChestRadiograph, UnreadableImage, or MissingDependency when pydicom is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise MissingDependency("reading DICOM needs pydicom: pip install 'xrt-runtime[dicom]'") from None
    with decoder_errors("damaged DICOM"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        if "SOPClassUID" not in dataset and "Rows" not in dataset:
            raise UnreadableImage("not a DICOM file")
        header = _header(dataset)
        notes = () if options.skip_body_part_check else check_header(header)
        _check_pixels(dataset, options)
        pixels, remarks = _render(dataset, options.without_window)
        return Radiograph(
            pixels=pixels,
            notes=notes + remarks,
            study_uid=str(dataset.get("StudyInstanceUID", "")),
            sop_instance_uid=str(dataset.get("SOPInstanceUID", "")),
            view=header.get("ViewPosition", ""),
            header=header,
        )


def _header(dataset: Dataset) -> dict[str, str]:
    header = {name: str(dataset.get(name) or "") for name in _HEADER}
    if region := dataset.get("AnatomicRegionSequence"):
        header["AnatomicRegion"] = str(region[0].get("CodeMeaning", ""))
    return {name: value for name, value in header.items() if value}


def _check_pixels(dataset: Dataset, options: DecodeOptions) -> None:
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    if not rows or not columns or "PixelData" not in dataset:
        raise UnreadableImage("the DICOM file holds no image")
    require_pixels(columns, rows, options.limits)
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        raise UnreadableImage(f"{frames} frames; one radiograph per file is read")


def _render(dataset: Dataset, without_window: WithoutWindow) -> tuple[np.ndarray, tuple[str, ...]]:
    """The image as grey uint8, air dark, and remarks on how it came about."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

    stored: Any = pixel_array(dataset)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return to_grayscale(_colour_to_uint8(apply_color_lut(stored, dataset)))
    if stored.ndim == 3:
        return to_grayscale(_colour_to_uint8(stored[..., :3], int(dataset.BitsStored)))
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
        pixels = scale_to_uint8(apply_voi_lut(values, dataset), float(table.min()), float(table.max()))
    elif window := _window(dataset):
        centre, width = window
        # Far outside the window, windowing gives the ends of its output range.
        ends = apply_voi_lut(np.array([centre - 4 * width, centre + 4 * width]), dataset, prefer_lut=False)
        pixels = scale_to_uint8(apply_voi_lut(values, dataset, prefer_lut=False), *map(float, ends))
    else:
        pixels = to_uint8(values, without_window, _possible(dataset, apply_modality_lut), padding)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = 255 - pixels
    if padding is not None:
        pixels = np.where(padding, np.uint8(0), pixels)
    return pixels, ()


def _colour_to_uint8(colour: np.ndarray, bits: int = 16) -> np.ndarray:
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
