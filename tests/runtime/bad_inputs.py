"""A few hundred files that must not be scored, made from a seed: damaged, hostile, or of something else."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from runtime.image_files import dicom, encoded

Named = Iterator[tuple[str, bytes]]
FORMATS = {"PNG": "png", "JPEG": "jpg", "TIFF": "tif", "BMP": "bmp", "WEBP": "webp", "JPEG2000": "jp2"}


def picture(rng: np.random.Generator, side: int = 96) -> np.ndarray:
    """Something with structure and noise, without zeros."""
    y, x = np.mgrid[:side, :side] / side
    smooth = 120 + 60 * np.sin(5 * x + rng.random()) * np.cos(4 * y + rng.random())
    return (smooth + rng.normal(0, 8, (side, side))).clip(1, 255).astype(np.uint8)


def truncated(rng: np.random.Generator) -> Named:
    """Every format, cut at several places."""
    for kind, suffix in FORMATS.items():
        data = encoded(picture(rng), kind)
        for share in (0.02, 0.2, 0.4, 0.6, 0.8):
            yield f"cut-{share}.{suffix}", data[: int(len(data) * share)]


def spoilt(rng: np.random.Generator) -> Named:
    """Checksums, markers and sizes that are wrong."""
    png = encoded(picture(rng))
    for chunk in (b"IHDR", b"IDAT", b"IEND"):
        at = png.index(chunk)
        (length,) = struct.unpack(">I", png[at - 4 : at])
        yield f"crc-{chunk.decode()}.png", png[: at + 4 + length] + b"\1\2\3\4" + png[at + 8 + length :]
    half = len(png) // 2
    yield "zero-tail.png", png[:half] + bytes(len(png) - half)
    jpeg = encoded(picture(rng), "JPEG", quality=95)
    at = jpeg.index(b"\xff\xc0")
    for height in (30, 64, 120, 4000):
        yield f"height-{height}.jpg", jpeg[: at + 5] + struct.pack(">H", height) + jpeg[at + 7 :]
    for share in (0.3, 0.5, 0.7, 0.9):
        yield f"end-{share}.jpg", jpeg[: int(len(jpeg) * share)] + b"\xff\xd9"
    for share in (0.3, 0.5):
        at = int(len(jpeg) * share)
        yield f"lost-{share}.jpg", jpeg[:at] + jpeg[at + 900 :]
        yield f"zeros-{share}.jpg", jpeg[:at] + bytes(900) + jpeg[at + 900 :]


def foreign(rng: np.random.Generator) -> Named:
    """What is no image of ours: other formats, programs, archives, text, noise."""
    image = Image.fromarray(picture(rng))
    for kind in ("GIF", "PPM", "TGA", "ICO", "PCX", "SGI"):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        yield f"a.{kind.lower()}", buffer.getvalue()
        yield f"called-{kind.lower()}.png", buffer.getvalue() + b"\0"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", encoded(picture(rng)))
    yield "a.zip", archive.getvalue()
    yield "a.gz", gzip.compress(encoded(picture(rng)), mtime=0)
    yield "a.pdf", b"%PDF-1.7\n1 0 obj << /Type /Catalog >> endobj\n" + bytes(200)
    yield "a.heic", b"\0\0\0\x18ftypheic" + bytes(64)
    yield "a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><rect width='9' height='9'/></svg>"
    yield "a.exe", b"MZ" + bytes(300)
    yield "a.elf", b"\x7fELF" + bytes(300)
    yield "a.pkl", pickle.dumps({"a": list(range(9))})
    yield "a.npy", b"\x93NUMPY\1\0" + bytes(100)
    yield "a.db", b"SQLite format 3\0" + bytes(300)
    yield "a.html", b"<script>alert(1)</script>"
    yield "a.csv", b"=cmd|' /C calc'!A0,1\n" * 9
    for encoding in ("utf-8", "utf-16", "latin-1", "cp037"):
        yield f"{encoding}.txt", "Röntgenbild, no picture".encode(encoding)
    for length in (0, 1, 3, 16, 131, 132, 1000, 70000):
        yield f"noise-{length}", rng.bytes(length)
        yield f"noise-{length}.dcm", rng.bytes(length) + b"x"


def bombs() -> Named:
    """Small files that would be large."""

    def png(width: int, height: int) -> bytes:
        def chunk(name: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

        head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        rows = zlib.compress(bytes(10_000_000))
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")

    for width, height in ((60000, 60000), (2**31 - 1, 2), (20000, 9000), (16, 7_000_000)):
        yield f"bomb-{width}-{height}.png", png(width, height)
    bmp = bytearray(encoded(np.zeros((20, 20), np.uint8), "BMP"))
    bmp[18:26] = struct.pack("<ii", 100_000, 100_000)
    yield "bomb.bmp", bytes(bmp)
    tiff = bytearray(encoded(np.zeros((20, 20), np.uint8), "TIFF"))
    yield "bomb.tif", bytes(tiff).replace(struct.pack("<HHI", 256, 4, 1), b"") + b"\0"
    yield "bomb.dcm", dicom(np.ones((16, 16), np.uint16), Rows=65535, Columns=65535)
    frame = encapsulate([encoded(np.full((64, 64), 9, np.uint8), "JPEG")])
    yield "bomb-jpeg.dcm", with_pixels(frame, "1.2.840.10008.1.2.4.50", Rows=60000, Columns=60000)


def senseless(rng: np.random.Generator) -> Named:
    """Pictures that can be no radiograph."""
    for level in (0, 1, 77, 128, 254, 255):
        for kind, suffix in FORMATS.items():
            yield f"level-{level}.{suffix}", encoded(np.full((90 + level % 7, 100), level, np.uint8), kind)
    for height, width in ((16, 3000), (3000, 16), (1, 1), (15, 15), (2, 600), (40, 400), (16, 60000)):
        yield f"strip-{height}-{width}.png", encoded(rng.integers(1, 255, (height, width)).astype(np.uint8))
    grey = picture(rng)
    yield "clear.png", encoded(np.dstack([grey, grey, grey, np.zeros_like(grey)]))
    yield "flat16.png", encoded(np.full((80, 80), 40000, np.uint16))
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        values = grey.astype(np.float32)
        values[4, 4] = value
        yield f"{name}.tif", encoded(values, "TIFF")
    frames = io.BytesIO()
    pages = [Image.fromarray(grey), Image.fromarray(255 - grey)]
    pages[0].save(frames, "TIFF", save_all=True, append_images=pages[1:])
    yield "pages.tif", frames.getvalue()


def with_pixels(frame: bytes, syntax: str, **attributes: Any) -> bytes:
    """A DICOM file around a compressed frame."""
    dataset = pydicom.dcmread(io.BytesIO(dicom(np.ones((64, 64), np.uint8), **attributes)))
    dataset.PixelData = frame
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def dicoms(rng: np.random.Generator) -> Named:
    """Headers that contradict themselves or their pixels, and headers of something else."""
    deep = picture(rng).astype(np.uint16) * 12

    def of(**attributes: Any) -> bytes:
        return dicom(deep, **{"BitsStored": 12, "HighBit": 11, **attributes})

    for name in ("Rows", "Columns"):
        yield f"no-{name}.dcm", of(**{name: None})
    for name, value in (
        ("Rows", 0), ("Rows", 9000), ("Rows", 6), ("Columns", 5), ("BitsAllocated", 12), ("BitsStored", 99),
        ("HighBit", 40), ("SamplesPerPixel", 2), ("NumberOfFrames", 2), ("NumberOfFrames", 16), ("RescaleSlope", 0),
        ("RescaleSlope", "1e300"), ("RescaleIntercept", "1e300"), ("SamplesPerPixel", 3),
    ):  # fmt: skip
        yield f"{name}-{value}.dcm", of(**{name: value})
    for name, value in (("WindowCenter", "1e300"), ("WindowWidth", "9e99")):
        yield f"{name}.dcm", of(**{"WindowCenter": 100, "WindowWidth": 100, name: value})
    yield "padding.dcm", of(PixelPaddingValue=0, PixelPaddingRangeLimit=4095)
    yield "level.dcm", dicom(np.full((64, 64), 600, np.uint16), BitsStored=12, HighBit=11)
    for entries, bits, length in ((4096, 12, 8000), (4096, 12, 3), (256, 77, 512), (0, 16, 100)):
        item = Dataset()
        item.LUTDescriptor, item.LUTData = [entries, 0, bits], bytes(length)
        yield f"lut-{entries}-{bits}-{length}.dcm", of(VOILUTSequence=[item])
        yield f"modality-{entries}-{bits}-{length}.dcm", of(ModalityLUTSequence=[item])
    for modality in ("CT", "MR", "US", "PT", "MG", "SR", "XYZ"):
        yield f"{modality}.dcm", of(Modality=modality)
    for part in ("KNEE", "SKULL", "RIBCAGE", "TSPINE", "Doe^Jane"):
        yield f"part-{part}.dcm", of(BodyPartExamined=part)
    for view in ("LL", "LATERAL", "LLAT", "lat-erect", "RAO", "SWIMMERS", "L"):
        yield f"view-{view}.dcm", of(ViewPosition=view)
    yield "dog.dcm", of(PatientSpeciesDescription="CANINE")
    whole = of()
    for share in (0.005, 0.02, 0.05, 0.3, 0.6, 0.95):
        yield f"cut-{share}.dcm", whole[: int(len(whole) * share)]
    for syntax in ("1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.70", "1.2.3.4"):
        yield f"noise-{syntax}.dcm", with_pixels(encapsulate([rng.bytes(500)]), syntax)
    jpeg = encoded(picture(rng, 64), "JPEG", quality=95)
    for share in (0.3, 0.6, 0.9):
        frame = encapsulate([jpeg[: int(len(jpeg) * share)] + b"\xff\xd9"])
        yield f"frame-{share}.dcm", with_pixels(frame, "1.2.840.10008.1.2.4.50")
    yield "rows.dcm", with_pixels(encapsulate([jpeg]), "1.2.840.10008.1.2.4.50", Rows=60)
    for number in range(24):
        spoiled = bytearray(whole)
        at = 140 + int(rng.integers(0, 500))
        spoiled[at : at + 6] = rng.bytes(6)
        yield f"fuzz-{number}.dcm", bytes(spoiled)


def write_bad_inputs(folder: Path, seed: int = 0) -> tuple[int, set[str]]:
    """Write them all; return how many there are, and the names of those that are spoilt at random and may be whole."""
    rng = np.random.default_rng(seed)
    makers: tuple[Callable[[], Named], ...] = (
        lambda: truncated(rng), lambda: spoilt(rng), lambda: foreign(rng), bombs, lambda: senseless(rng),
        lambda: dicoms(rng),
    )  # fmt: skip
    seen: set[bytes] = set()
    random: set[str] = set()
    for number, make in enumerate(makers):
        for name, data in make():
            if data in seen and data:
                continue
            seen.add(data)
            safe = f"{number}-{name}".replace("/", "_")
            (folder / safe).write_bytes(data)
            if name.startswith("fuzz-"):
                random.add(safe)
    os.mkfifo(folder / "pipe.png")
    (folder / "broken.png").symlink_to(folder / "nowhere.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(folder)  # the address of a socket may not be long
        try:
            server.bind("socket.png")
        finally:
            os.chdir(here)
    return len(list(folder.iterdir())), random
