"""DICOM through pydicom: Modality LUT, then VOI LUT or window, then MONOCHROME1 inversion (PS3.4 Annex N)."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from xrt.runtime.errors import ImageError, MissingDependency, UnreadableImage
from xrt.runtime.imaging.radiograph import DecodeLimits, Radiograph, scale_to_eight_bits, to_eight_bits
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
            header = _header(dataset)
            _check_pixels(dataset, limits)
            notes = () if any_body_part else judge_header(header)
            pixels = _render(dataset, unwindowed)
    except ImageError:
        raise
    except MemoryError:
        raise UnreadableImage("decoding needs more memory than the limit allows") from None
    except Exception as error:  # damaged files raise whatever the parser or codec trips over
        raise UnreadableImage(
            f"damaged DICOM: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    return Radiograph(
        pixels=pixels,
        notes=notes,
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


def _check_pixels(dataset: Dataset, limits: DecodeLimits) -> None:
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    if "SOPClassUID" not in dataset and rows is None:
        raise UnreadableImage("not a DICOM file")
    if not rows or not columns or "PixelData" not in dataset:
        raise UnreadableImage("the DICOM file holds no image")
    if rows * columns > limits.pixels:
        raise UnreadableImage(f"{columns} × {rows} pixels, the limit is {limits.pixels:,} in all")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        raise UnreadableImage(f"{frames} frames; one radiograph a file is read")


def _render(dataset: Dataset, unwindowed: str) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

    stored: Any = pixel_array(dataset)
    if stored.ndim == 3:
        # A colour secondary capture of a grey radiograph: pydicom has already undone YBR.
        return np.ascontiguousarray(np.rint(stored[..., :3].mean(axis=2)).astype(np.uint8))
    padding = _padding(dataset, stored)
    values = apply_modality_lut(stored, dataset)
    if voi := dataset.get("VOILUTSequence"):
        table = np.asarray(voi[0].LUTData)
        pixels = scale_to_eight_bits(apply_voi_lut(values, dataset), float(table.min()), float(table.max()))
    elif window := _window(dataset):
        centre, width = window
        # Far outside the window, windowing gives the ends of its output range.
        ends = apply_voi_lut(np.array([centre - 4 * width, centre + 4 * width]), dataset, prefer_lut=False)
        pixels = scale_to_eight_bits(apply_voi_lut(values, dataset, prefer_lut=False), *map(float, ends))
    else:
        pixels = to_eight_bits(values, unwindowed, int(dataset.BitsStored), padding)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = 255 - pixels
    if padding is not None:
        pixels = np.where(padding, np.uint8(0), pixels)
    return pixels


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
