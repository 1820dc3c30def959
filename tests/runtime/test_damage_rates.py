"""How many damaged and senseless files are seen, made from real radiographs; and no whole one is held to be."""

from __future__ import annotations

import io
import struct
from collections import Counter
from collections.abc import Callable

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from runtime.bad_inputs import with_pixels
from runtime.image_files import dicom, encoded

from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.imaging.load import LoadedImage, LoadOptions, load_radiograph

OPTIONS = LoadOptions(Preprocessing(height=224, width=224))
RNG = np.random.default_rng(1)
Damage = Callable[[bytearray], bytearray]


def radiographs(shared):
    nih = sorted((shared / "xrays" / "nih" / "images").iterdir())
    return nih + sorted((shared / "xrays" / "hannover").glob("*.png"))


@pytest.fixture(scope="module")
def images(shared):
    return [np.asarray(Image.open(file).convert("L")) for file in radiographs(shared)]


def seen(tmp_path, data, suffix):
    """Whether a file fails, is rejected, or carries a note."""
    file = tmp_path / f"a{suffix}"
    file.write_bytes(data)
    result = load_radiograph(file, OPTIONS)
    return not isinstance(result, LoadedImage) or bool(result.notes)


def place(data, header):
    return int(RNG.integers(header, len(data) - 5000))


def zeroed(header):
    def damage(data):
        start = place(data, header)
        data[start : start + 4096] = bytes(4096)
        return data

    return damage


def zero_tail(data):
    kept = int(RNG.integers(len(data) // 4, len(data) - 4000))
    data[kept:] = bytes(len(data) - kept)
    return data


def cut(data):
    return data[: int(RNG.integers(len(data) // 4, len(data) - 2000))] + b"\xff\xd9"


def packet(data):
    start = place(data, 1000)
    del data[start : start + 1460]
    return data


def wrong_checksum(data):
    start = data.index(b"IDAT")
    data[start + 4 + struct.unpack(">I", data[start - 4 : start])[0]] ^= 1
    return data


def flip(data):
    data[int(RNG.integers(700, len(data) - 2))] ^= 1 << int(RNG.integers(8))
    return data


def deep(pixels):
    values = pixels.astype(np.uint16) * 15 + RNG.integers(0, 15, pixels.shape).astype(np.uint16) + 30
    return dicom(values, BitsStored=12, HighBit=11)


def framed(frame, syntax, pixels):
    header = {"Rows": pixels.shape[0], "Columns": pixels.shape[1]}
    return with_pixels(encapsulate([frame]), f"1.2.840.10008.1.2.4.{syntax}", **header)


def lossless(pixels):
    return framed(imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1), 70, pixels)


def jpeg_2000(pixels):
    return framed(imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k"), 90, pixels)


def jpeg_ls(pixels):
    return framed(imagecodecs.jpegls_encode(pixels), 80, pixels)


def deflated(pixels):
    return encoded(pixels, "TIFF", compression="tiff_adobe_deflate")


def cut_frame(data):
    """The half of a frame, with an end marker, in a file that is whole."""
    dataset = pydicom.dcmread(io.BytesIO(bytes(data)))
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    return framed(frame[: len(frame) // 2] + b"\xff\xd9", 70, np.empty((dataset.Rows, dataset.Columns)))


KINDS: dict[str, tuple[Callable[[np.ndarray], bytes], str, Damage]] = {
    "JPEG, cut, with an end marker": (lambda p: encoded(p, "JPEG", quality=90), ".jpg", cut),
    "JPEG, 4 KiB of zeros": (lambda p: encoded(p, "JPEG", quality=90), ".jpg", zeroed(1000)),
    "JPEG, a packet lost": (lambda p: encoded(p, "JPEG", quality=90), ".jpg", packet),
    "PNG, a wrong checksum": (encoded, ".png", wrong_checksum),
    "PNG, zeros at the end": (encoded, ".png", zero_tail),
    "TIFF, zeros at the end": (lambda p: encoded(p, "TIFF"), ".tif", zero_tail),
    "BMP, zeros at the end": (lambda p: encoded(p, "BMP"), ".bmp", zero_tail),
    "DICOM, zeros at the end": (dicom, ".dcm", zero_tail),
    "DICOM of 12 bits, zeros at the end": (deep, ".dcm", zero_tail),
    "TIFF, 4 KiB of zeros": (lambda p: encoded(p, "TIFF"), ".tif", zeroed(200)),
    "BMP, 4 KiB of zeros": (lambda p: encoded(p, "BMP"), ".bmp", zeroed(1200)),
    "DICOM, 4 KiB of zeros": (dicom, ".dcm", zeroed(1500)),
    "DICOM, JPEG Lossless, cut, with an end marker": (lossless, ".dcm", cut_frame),
    "DICOM, JPEG Lossless, 4 KiB of zeros": (lossless, ".dcm", zeroed(2500)),
    "DICOM, JPEG 2000, 4 KiB of zeros": (jpeg_2000, ".dcm", zeroed(2500)),
    "DICOM, JPEG-LS, 4 KiB of zeros": (jpeg_ls, ".dcm", zeroed(2500)),
    "TIFF, deflate, 4 KiB of zeros": (
        lambda p: encoded(p, "TIFF", compression="tiff_adobe_deflate"),
        ".tif",
        zeroed(500),
    ),
    "WebP, 4 KiB of zeros": (lambda p: encoded(p, "WEBP", quality=95), ".webp", zeroed(500)),
}


@pytest.mark.slow
def test_damaged_files_are_seen(images, tmp_path):
    counts = Counter[tuple[str, bool]]()
    for pixels in images:
        for kind, (write, suffix, damage) in KINDS.items():
            counts[kind, seen(tmp_path, damage(bytearray(write(pixels))), suffix)] += 1
    for kind in KINDS:
        print(f"{kind}: {counts[kind, True]} of {counts[kind, True] + counts[kind, False]}")
    total = sum(counts.values())
    assert total >= 300
    assert sum(n for (_, was_seen), n in counts.items() if was_seen) / total >= 0.99


@pytest.mark.slow
def test_flipped_bits_of_a_jpeg_are_seen_in_a_part_of_the_cases(images, tmp_path):
    """JPEG has no checksum: most flips give another picture that is as valid. The rate is stated, not promised."""
    flipped = [seen(tmp_path, flip(bytearray(encoded(p, "JPEG", quality=90))), ".jpg") for p in images * 4]
    print(f"{sum(flipped)} of {len(flipped)}")
    assert 0.1 < sum(flipped) / len(flipped) < 1


@pytest.mark.slow
def test_pictures_that_are_none_are_seen(images, tmp_path):
    rates = {
        "inverted": [seen(tmp_path, encoded(255 - p), ".png") for p in images],
        "turned by 90°": [seen(tmp_path, encoded(np.ascontiguousarray(np.rot90(p, 3))), ".png") for p in images],
        "turned by 180°": [seen(tmp_path, encoded(np.ascontiguousarray(np.rot90(p, 2))), ".png") for p in images],
        "one grey level": [seen(tmp_path, encoded(np.full_like(p, int(p.mean()))), ".png") for p in images],
        "in colour": [seen(tmp_path, encoded(np.dstack([p, p // 2, 255 - p])), ".png") for p in images],
    }
    for kind, each in rates.items():
        print(f"{kind}: {sum(each)} of {len(each)}")
        assert sum(each) / len(each) >= (1 if kind == "one grey level" else 0.95)


def test_no_real_chest_radiograph_is_held_to_be_anything_else(shared):
    """None fails or is rejected, and none is noted for its content."""
    chests = ["chest-cr-mono1-16bit-jpeg2000.dcm", "nih-test1-no-finding.dcm"]
    for file in radiographs(shared) + [shared / "dicom" / name for name in chests]:
        result = load_radiograph(file, OPTIONS)
        assert isinstance(result, LoadedImage), file.name
        assert set(result.notes) <= {"view not stated"}, file.name
