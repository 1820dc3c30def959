"""The layout of the RSNA Pneumonia Detection Challenge: DICOM files, a table of boxes and one of classes."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np

from xrt.runtime.errors import MissingDependency
from xrt.runtime.phantoms.files import Row, save_contrasts, save_csv, without_image
from xrt.runtime.phantoms.patient import PLAN, generator
from xrt.runtime.phantoms.records import DESCRIPTION, LESIONS, Phantom
from xrt.runtime.phantoms.render import phantom

IMAGES = "stage_2_train_images"
_OPAQUE = ("Consolidation", "Pneumonia")  # what the challenge's readers would have boxed
_OTHERS = tuple(name for name in LESIONS if name not in (*_OPAQUE, "Infiltration"))
_CLASSES = ("Lung Opacity", "No Lung Opacity / Not Normal", "Normal")
_SHARES = (0.35, 0.35, 0.30)
_NAMES = uuid.UUID("3f0b9e52-5d4c-4a4e-9a55-0d5b8f0f2c11")  # name space of the identifiers, made up once


def prepare(out: Path) -> None:
    """Make the folders; raise MissingDependency where pydicom is not installed."""
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        message = "the rsna layout writes DICOM and needs pydicom: pip install 'xrt-runtime[dicom]'"
        raise MissingDependency(message) from error
    (out / IMAGES).mkdir()


def one(index: int, out: Path, seed: int, size: int, contrast: tuple[float, float]) -> Row:
    """Write one DICOM file under an identifier that follows from seed and index."""
    rng = generator(seed, PLAN, index, 1)
    kind = rng.choice(len(_CLASSES), p=_SHARES)
    findings = ((str(rng.choice(_OPAQUE)),), (str(rng.choice(_OTHERS)),), ())[kind]
    radiograph = phantom(index, seed=seed, size=size, contrast=contrast, findings=findings)
    stem = str(uuid.uuid5(_NAMES, f"{seed}/{index}"))
    save_dicom(out / IMAGES / f"{stem}.dcm", radiograph, stem, seed=seed, index=index)
    return stem, without_image(radiograph)


def tables(out: Path, rows: list[Row]) -> None:
    """Write both tables: a box a row, and empty boxes for images without opacity."""
    boxes, classes = [], []
    for stem, radiograph in rows:
        opaque = [b for b in radiograph.lesions if b.label in _OPAQUE]
        boxes.extend((stem, *b.box, 1) for b in opaque)
        if not opaque:
            boxes.append((stem, "", "", "", "", 0))
        kind = _CLASSES[0] if opaque else _CLASSES[1] if radiograph.labels else _CLASSES[2]
        # As in the real table, an image has one row for each of its boxes.
        classes.extend([(stem, kind)] * max(len(opaque), 1))
    save_csv(out / "stage_2_train_labels.csv", ("patientId", "x", "y", "width", "height", "Target"), boxes)
    save_csv(out / "stage_2_detailed_class_info.csv", ("patientId", "class"), classes)
    save_contrasts(out, rows)


def save_dicom(path: Path, radiograph: Phantom, stem: str, *, seed: int, index: int) -> None:
    """Write 8-bit MONOCHROME2, explicit VR little endian, as the challenge's own files but uncompressed."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    def uid(part: str) -> UID:
        # 2.25 is the root for UIDs made of UUIDs (DICOM PS3.5 B.2).
        return UID(f"2.25.{uuid.uuid5(_NAMES, f'{seed}/{index}/{part}').int}")

    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 100"
    data.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")  # secondary capture, as in the challenge
    data.SOPInstanceUID = uid("instance")
    data.StudyDate = data.StudyTime = data.AccessionNumber = data.StudyID = ""
    data.Modality = "CR"
    data.ConversionType = "WSD"
    data.ReferringPhysicianName = ""
    data.Manufacturer = "xrt phantoms"
    data.SeriesDescription = f"view: {radiograph.view}"
    data.PatientName = "SYNTHETIC^PHANTOM"
    data.PatientID = stem
    data.PatientBirthDate = ""
    data.PatientSex = radiograph.sex
    data.PatientAge = f"{radiograph.age:03d}Y"
    data.BodyPartExamined = "CHEST"
    data.ViewPosition = radiograph.view
    data.StudyInstanceUID, data.SeriesInstanceUID = uid("study"), uid("series")
    data.SeriesNumber = data.InstanceNumber = "1"
    data.PatientOrientation = ["L", "F"]
    data.ImageComments = f"{DESCRIPTION}; xrt phantoms, seed {seed}, index {index}"
    data.BurnedInAnnotation = "YES"
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = radiograph.image.shape
    data.PixelSpacing = [f"{radiograph.spacing:g}"] * 2
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    pixels = np.ascontiguousarray(radiograph.image).tobytes()
    data.PixelData = pixels + b"\0" * (len(pixels) % 2)
    data["PixelData"].VR = "OB"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    # Named here, so that bytes do not change with the version of pydicom, which would write its own.
    meta.ImplementationClassUID, meta.ImplementationVersionName = UID("2.25.1"), "XRT_PHANTOMS"
    data.file_meta = meta
    data.save_as(path, enforce_file_format=True)
