"""The table of decoders: what a missing package means, and who reports it."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError

import pytest
from runtime.image_files import GREY, dicom

from xrt.runtime.errors import MissingDependency
from xrt.runtime.imaging import decode_radiograph, decoders


def absent(monkeypatch, *packages: str) -> None:
    """Let these distributions not be installed, for the table of decoders."""
    installed = decoders.distribution

    def distribution(name: str):
        if name in packages:
            raise PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(decoders, "distribution", distribution)


def test_decoders_whose_packages_are_all_there_miss_nothing():
    assert [decoder.missing() for decoder in decoders.DECODERS] == [{}, {}]


@pytest.mark.parametrize("package", ["pydicom", "python-gdcm", "pillow"])
def test_a_package_that_a_decoder_misses_is_named_with_what_it_reads(monkeypatch, package):
    absent(monkeypatch, package)
    (decoder,) = (decoder for decoder in decoders.DECODERS if package in decoder.packages)
    assert decoder.missing() == {package: decoder.packages[package]}
    assert all(not other.missing() for other in decoders.DECODERS if other is not decoder)


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("pydicom", "DICOM cannot be read: pip install 'xrt-runtime[dicom]'"),
        (
            "python-gdcm",
            "compressed DICOM (JPEG Lossless and others) cannot be read: pip install 'xrt-runtime[dicom]'",
        ),
        ("pillow", "images cannot be read: pip install xrt-runtime"),
    ],
)
def test_doctor_reports_a_package_that_a_decoder_misses(monkeypatch, package, message):
    from xrt.runtime.doctor import Check, examine

    absent(monkeypatch, package)
    assert Check(package, "missing", message) in examine()


def test_dicom_without_pydicom_says_what_to_install(monkeypatch):
    data = dicom(GREY)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingDependency, match=r"pip install 'xrt-runtime\[dicom\]'"):
        decode_radiograph(data)
