"""View, sex and age from DICOM headers, without the pixels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from xrt.runtime.datasets.case import whole_years
from xrt.runtime.errors import MissingDependency

_READERS = 8  # threads: parsing shares one core, but slow disks and network shares are waited for together


class Header(NamedTuple):
    """What a header says of the image and its patient; None where it says nothing."""

    view: str | None = None
    sex: str | None = None
    age: int | None = None


def read_headers(paths: Sequence[Path]) -> list[Header]:
    """The headers of DICOM files, in order; an empty one for a file that cannot be read, which decoding will report.

    Raises MissingDependency without pydicom.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise MissingDependency("reading DICOM needs pydicom: pip install 'xrt-runtime[dicom]'") from None
    with ThreadPoolExecutor(_READERS) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(pool.map(_header, paths))


def _header(path: Path) -> Header:
    from pydicom import dcmread

    try:
        dataset = dcmread(path, stop_before_pixels=True)
        view, sex, age = (str(dataset.get(name) or "").strip() for name in ("ViewPosition", "PatientSex", "PatientAge"))
    except Exception:  # damaged files raise errors of many types
        return Header()
    return Header(view or None, sex or None, whole_years(age))
