"""Files changed at random: each is loaded or refused in words, whatever its decoder does.

A few seconds in the suite; `XRT_FUZZ_SECONDS=3600 pytest -m slow tests/runtime/test_fuzz.py -s` for an hour.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from runtime.bad_inputs import FORMATS, picture
from runtime.image_files import dicom, encoded

from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.imaging.load import LoadedImage, LoadOptions
from xrt.runtime.imaging.pool import DecodingPool
from xrt.runtime.imaging.radiograph import DecodeLimits

OPTIONS = LoadOptions(Preprocessing(height=64, width=64), limits=DecodeLimits(seconds=20, memory_bytes=2 * 2**30))


def seeds():
    """Small whole files of every kind that is read."""
    import imagecodecs
    from pydicom.encaps import encapsulate
    from runtime.bad_inputs import with_pixels

    rng = np.random.default_rng(0)
    grey = picture(rng, 64)
    deep = grey.astype(np.uint16) * 15
    files = [encoded(grey, kind) for kind in FORMATS]
    files += [encoded(deep), encoded(np.dstack([grey] * 3)), encoded(grey.astype(np.float32), "TIFF")]
    files += [imagecodecs.png_encode(np.dstack([deep] * 3))]
    files += [dicom(grey), dicom(deep, BitsStored=12, HighBit=11, WindowCenter=2000, WindowWidth=3000)]
    codecs = {
        "50": encoded(grey, "JPEG"),
        "70": imagecodecs.jpeg8_encode(grey, lossless=True, predictor=1),
        "80": imagecodecs.jpegls_encode(grey),
        "90": imagecodecs.jpeg2k_encode(grey, reversible=True, level=0, codecformat="j2k"),
    }
    files += [with_pixels(encapsulate([frame]), f"1.2.840.10008.1.2.4.{n}") for n, frame in codecs.items()]
    return files


def mutated(rng, data):
    """A few bytes changed, removed, doubled, or exchanged for numbers that break arithmetic."""
    data = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        if len(data) < 16:
            break
        at = int(rng.integers(0, max(1, len(data) - 8)))
        length = int(rng.integers(1, 64))
        match int(rng.integers(0, 6)):
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at : at + length] = rng.bytes(length)
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                data[at : at + 4] = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x80"][
                    int(rng.integers(4))
                ]
            case _:
                data = data[: max(1, at)]
    return bytes(data)


@pytest.mark.parametrize(
    "seconds", [2, pytest.param(float(os.environ.get("XRT_FUZZ_SECONDS", "120")), marks=pytest.mark.slow)]
)
def test_changed_files_are_loaded_or_refused(tmp_path, seconds):
    rng, files = np.random.default_rng(int(seconds)), seeds()
    counts, until, number = Counter[str](), time.monotonic() + seconds, 0

    def made():
        nonlocal number
        while time.monotonic() < until:
            number += 1
            file = tmp_path / f"{number % 500}"
            file.write_bytes(mutated(rng, files[number % len(files)]))
            yield number, file, ""

    kept = tmp_path / "kept"  # what ended a process, to be looked at
    kept.mkdir()
    with DecodingPool(OPTIONS, workers=2) as pool:
        for index, result in pool.map(made(), in_flight=64):
            if isinstance(result, LoadedImage):
                counts["loaded with a note" if result.notes else "loaded"] += 1
            else:
                assert result.reason
                assert "cannot be loaded" not in result.reason
                counts[result.status] += 1
                if "crashed" in result.reason or "took over" in result.reason:
                    counts[result.reason] += 1
                    shutil.copy(tmp_path / f"{index % 500}", kept / f"{index % len(files)}-{index}")
    print(number, dict(counts), kept)
    assert sum(counts[name] for name in ("loaded", "loaded with a note", "rejected", "failed")) == number
    assert number > 50
    assert Image.MAX_IMAGE_PIXELS
