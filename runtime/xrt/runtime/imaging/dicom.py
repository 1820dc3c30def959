"""DICOM through pydicom: the header is checked, then the stored values are read, then they are rendered."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np

from xrt.runtime._io import sha256_of
from xrt.runtime.errors import MissingDependency, UnreadableImage
from xrt.runtime.imaging.dicom_pixels import read_stored_values
from xrt.runtime.imaging.grayscale import render_grey
from xrt.runtime.imaging.header_check import check_header, read_header
from xrt.runtime.imaging.orientation import UPRIGHT, Orientation, of_patient
from xrt.runtime.imaging.radiograph import (
    DecodeOptions,
    Radiograph,
    decoder_errors,
    require_pixels,
    to_grayscale,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


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
        header = read_header(dataset)
        notes = () if options.skip_body_part_check else check_header(header)
        _check_pixels(dataset, options)
        if not dataset.get("PhotometricInterpretation") and int(dataset.get("SamplesPerPixel") or 1) == 1:
            dataset.PhotometricInterpretation = "MONOCHROME2"
            notes += ("photometric interpretation not stated: read as MONOCHROME2",)
        stored = read_stored_values(dataset)
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            from pydicom.pixels import apply_color_lut

            pixels, remarks = to_grayscale(_colour_to_uint8(apply_color_lut(stored.values, dataset)))
        elif stored.values.ndim == 3:
            pixels, remarks = to_grayscale(_colour_to_uint8(stored.values[..., :3], stored.bits))
        else:
            pixels, remarks = render_grey(dataset, stored, options.without_window)
        orientation = _orientation(dataset)
        if not orientation.is_upright:
            remarks += (f"{orientation.description}, as the header's PatientOrientation says",)
        if dataset.get("BurnedInAnnotation") == "YES":
            remarks += ("the header says that text is burnt into the image",)
        return Radiograph(
            pixels=pixels,
            notes=notes + stored.notes + remarks,
            study_uid=str(dataset.get("StudyInstanceUID", "")),
            sop_instance_uid=str(dataset.get("SOPInstanceUID", "")),
            patient_digest=_patient_digest(dataset),
            view=header.view,
            orientation=orientation,
        )


def _patient_digest(dataset: Dataset) -> str:
    """Sixteen bits that tell two patients apart whose studies have one UID by mistake, and nothing else."""
    parts = (str(dataset.get(name) or "") for name in ("StudyInstanceUID", "PatientID", "IssuerOfPatientID"))
    return sha256_of("\0".join(parts))[:4]


def _check_pixels(dataset: Dataset, options: DecodeOptions) -> None:
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    if not rows or not columns or "PixelData" not in dataset:
        raise UnreadableImage("the DICOM file holds no image")
    require_pixels(columns, rows, options.limits)
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        raise UnreadableImage(f"{frames} frames; one radiograph per file is read")


def _orientation(dataset: Dataset) -> Orientation:
    directions = dataset.get("PatientOrientation") or ()
    if isinstance(directions, str) or len(directions) != 2 or not all(directions):
        return UPRIGHT
    return of_patient(directions) or UPRIGHT


def _colour_to_uint8(colour: np.ndarray, bits: int = 16) -> np.ndarray:
    """Colour channels as uint8; wider ones are scaled by the bits that are stored."""
    if colour.dtype == np.uint8:
        return colour
    return (colour.astype(np.float32) * (255.0 / (2**bits - 1))).clip(0, 255).astype(np.uint8)
