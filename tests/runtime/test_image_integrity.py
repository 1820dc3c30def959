"""Damaged files are not scored, what is no chest is noted, and boxes lie where they are stored."""

from __future__ import annotations

import io
import shutil
import struct

import numpy as np
import pytest
from PIL import Image
from runtime.image_files import dicom, encoded

from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.errors import NotAChestRadiograph, UnreadableImage
from xrt.runtime.geometry import Box
from xrt.runtime.imaging import decode_radiograph
from xrt.runtime.imaging.chest_template import CHEST_TEMPLATE
from xrt.runtime.imaging.content_check import check_content, require_picture
from xrt.runtime.imaging.integrity import ZERO_FILLED
from xrt.runtime.imaging.load import LoadedImage, LoadOptions, load_radiograph
from xrt.runtime.imaging.orientation import UPRIGHT, Orientation, of_exif, of_patient
from xrt.runtime.phantoms import phantom_images

RNG = np.random.default_rng(5)
CHEST = phantom_images(1, 11, Preprocessing(height=512, width=512))[0, 0]
CHEST_WITHOUT_BLACK = CHEST.clip(1)


@pytest.mark.parametrize("damage", ["cut", "zeros", "packet"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_damaged_jpeg_fails(damage, progressive):
    data = bytearray(encoded(CHEST, "JPEG", progressive=progressive, quality=95))
    half = len(data) // 2
    damaged = {
        "cut": data[:half] + b"\xff\xd9",
        "zeros": data[:half] + bytes(4096) + data[half + 4096 :],
        "packet": data[:half] + data[half + 1460 :],
    }[damage]
    with pytest.raises(UnreadableImage, match="damaged or truncated JPEG data"):
        decode_radiograph(bytes(damaged))


@pytest.mark.parametrize("height", [256, 500, 530, 1024])
def test_a_jpeg_whose_height_was_changed_fails(height):
    data = encoded(CHEST, "JPEG")
    place = data.index(b"\xff\xc0")
    with pytest.raises(UnreadableImage, match="damaged or truncated JPEG data"):
        decode_radiograph(data[: place + 5] + struct.pack(">H", height) + data[place + 7 :])


def test_a_whole_jpeg_is_read_as_pillow_reads_it():
    data = encoded(CHEST, "JPEG", quality=80)
    assert np.array_equal(decode_radiograph(data).pixels, np.asarray(Image.open(io.BytesIO(data))))
    assert decode_radiograph(data + b"left by a camera").notes == ()
    four = io.BytesIO()
    Image.fromarray(CHEST).convert("CMYK").save(four, "JPEG", quality=95)
    assert np.abs(decode_radiograph(four.getvalue()).pixels.astype(int) - CHEST).mean() < 5


def test_every_checksum_of_a_png_is_verified():
    data = bytearray(encoded(CHEST))
    place = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[place - 4 : place])
    data[place + 4 + length] ^= 1
    with pytest.raises(UnreadableImage, match="checksum"):
        decode_radiograph(bytes(data))
    small = bytearray(encoded(CHEST[::8, ::8]))
    small[len(small) // 2 :] = bytes(len(small) - len(small) // 2)
    with pytest.raises(UnreadableImage):
        decode_radiograph(bytes(small))


def without_tail(data, share):
    kept = int(len(data) * share)
    return bytes(data[:kept]) + bytes(len(data) - kept)


@pytest.mark.parametrize("share", [0.31, 0.5, 0.77])
@pytest.mark.parametrize("kind", ["TIFF", "BMP", "DICOM", "DICOM 16"])
def test_zeros_instead_of_the_rest_are_noted(kind, share):
    deep = CHEST_WITHOUT_BLACK.astype(np.uint16) * 16
    data = {
        "TIFF": lambda: encoded(CHEST_WITHOUT_BLACK, "TIFF"),
        "BMP": lambda: encoded(CHEST_WITHOUT_BLACK, "BMP"),
        "DICOM": lambda: dicom(CHEST_WITHOUT_BLACK),
        "DICOM 16": lambda: dicom(deep, BitsStored=12, HighBit=11),
    }[kind]()
    assert ZERO_FILLED not in decode_radiograph(data).notes
    assert ZERO_FILLED in decode_radiograph(without_tail(data, share)).notes
    middle = len(data) // 2 + 100
    assert ZERO_FILLED in decode_radiograph(data[:middle] + bytes(4096) + data[middle + 4096 :]).notes


def native(dataset_attributes, pixels, order="<"):
    """A DICOM file of the size of `CHEST` around words in either order, or three channels."""
    import pydicom

    kind = np.zeros(CHEST.shape, pixels.dtype)
    dataset = pydicom.dcmread(io.BytesIO(dicom(kind, **dataset_attributes)))
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    buffer, written = io.BytesIO(), pydicom.Dataset()
    written.update({element.tag: element for element in dataset})  # values, in no encoding yet
    written.file_meta = dataset.file_meta
    if order == ">":
        written.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    written.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["colour", "colour by plane", "big-endian"])
def test_zeros_are_noted_whatever_the_order_of_bytes_and_channels(kind):
    deep = CHEST_WITHOUT_BLACK.astype(np.uint16) * 16
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    data = {
        "colour": lambda: native(colour, np.dstack([CHEST_WITHOUT_BLACK] * 3)),
        "colour by plane": lambda: native(
            colour | {"PlanarConfiguration": 1}, np.dstack([CHEST_WITHOUT_BLACK] * 3).transpose(2, 0, 1)
        ),
        "big-endian": lambda: native({"BitsStored": 12, "HighBit": 11}, deep, ">"),
    }[kind]()
    assert ZERO_FILLED not in decode_radiograph(data).notes
    assert ZERO_FILLED in decode_radiograph(without_tail(data, 0.77)).notes


def compressed(kind, pixels):
    """A file of a format that has no checksum, and where its compressed pixels begin."""
    import imagecodecs
    from pydicom.encaps import encapsulate
    from runtime.bad_inputs import with_pixels

    if kind in ("WEBP", "TIFF"):
        return encoded(pixels, kind, **({"compression": "tiff_adobe_deflate"} if kind == "TIFF" else {"quality": 95}))
    deep = pixels.astype(np.uint16) * 16 + RNG.integers(0, 16, pixels.shape).astype(np.uint16)
    frame, syntax = {
        "JPEG Lossless": lambda: (imagecodecs.jpeg8_encode(deep, lossless=True, predictor=1, bitspersample=12), "70"),
        "JPEG-LS": lambda: (imagecodecs.jpegls_encode(deep), "80"),
        "JPEG 2000": lambda: (imagecodecs.jpeg2k_encode(deep, level=0, codecformat="j2k", bitspersample=12), "90"),
    }[kind]()
    bits = 16 if kind == "JPEG-LS" else 12
    header = {"Rows": pixels.shape[0], "Columns": pixels.shape[1], "BitsAllocated": 16, "BitsStored": bits}
    return with_pixels(encapsulate([frame]), f"1.2.840.10008.1.2.4.{syntax}", HighBit=bits - 1, **header)


@pytest.mark.parametrize("damage", ["zeros", "tail"])
@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "JPEG Lossless", "JPEG-LS", "JPEG 2000"])
def test_zeros_in_compressed_data_fail(kind, damage):
    data = compressed(kind, CHEST)
    decode_radiograph(data)
    half = len(data) // 2
    kept = len(data) - 64 if kind != "TIFF" else len(data) - 400  # what stands after the pixels
    damaged = data[:half] + (
        bytes(4096) + data[half + 4096 :] if damage == "zeros" else bytes(kept - half) + data[kept:]
    )
    with pytest.raises(UnreadableImage):
        decode_radiograph(damaged)


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("damage", ["cut", "zeros", "packet", "whole"])
def test_lossless_jpeg_is_counted_back(predictor, damage):
    import imagecodecs

    from xrt.runtime.imaging.lossless_jpeg import require_intact_lossless

    deep = CHEST.astype(np.uint16) * 16 + RNG.integers(0, 16, CHEST.shape).astype(np.uint16)
    data = imagecodecs.jpeg8_encode(deep, lossless=True, predictor=predictor, bitspersample=12)
    third = len(data) // 3
    damaged = {
        "cut": data[:third] + b"\xff\xd9",
        "zeros": data[:third] + bytes(4096) + data[third + 4096 :],
        "packet": data[:third] + data[third + 1460 :],
        "whole": data,
    }[damage]
    decoded = imagecodecs.jpeg8_decode(damaged)
    if damage == "whole":
        require_intact_lossless(damaged, decoded)
    else:
        with pytest.raises(UnreadableImage, match="damaged"):
            require_intact_lossless(damaged, decoded)


def test_lossless_jpeg_of_another_encoder_is_whole():
    import imagecodecs

    from xrt.runtime.imaging.lossless_jpeg import require_intact_lossless

    deep = CHEST.astype(np.uint16) * 16
    data = imagecodecs.ljpeg_encode(deep, bitspersample=12)
    require_intact_lossless(data, deep)
    require_intact_lossless(data, deep.astype(np.int32) - ((deep.astype(np.int32) >> 11) << 12))  # read as signed
    with pytest.raises(UnreadableImage, match="a header of the JPEG Lossless data"):
        require_intact_lossless(data[:30], deep)


@pytest.mark.parametrize("change", [(11, 0x81), (33, 0xFD), (34, 0xD4), (57, 0), (62, 7)])
def test_headers_that_ended_the_process_are_read_or_refused(change):
    """Found by fuzzing: GDCM took what libjpeg warns of for a C++ exception that nothing caught."""
    import imagecodecs
    from pydicom.encaps import encapsulate
    from runtime.bad_inputs import with_pixels

    place, value = change
    small = np.ascontiguousarray(CHEST[::8, ::8])
    frame = bytearray(imagecodecs.jpeg8_encode(small, lossless=True, predictor=1))
    frame[place] = value
    try:
        shown = decode_radiograph(with_pixels(encapsulate([bytes(frame)]), "1.2.840.10008.1.2.4.70"))
    except UnreadableImage:
        return
    np.testing.assert_array_equal(shown.pixels, small)


def lossless_with_restarts(pixels):
    """JPEG Lossless of 8 bits, predictor 1, codes of five bits for every category, a restart after each row."""
    height, width = pixels.shape
    data = b"\xff\xd8\xff\xc3" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\1\x11\0"
    data += b"\xff\xc4" + struct.pack(">H", 19 + 17) + b"\0" + bytes([0, 0, 0, 0, 17] + [0] * 11) + bytes(range(17))
    data += b"\xff\xdd" + struct.pack(">HH", 4, width)
    data += b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\1\0\1\0\0"
    for row, values in enumerate(pixels.tolist()):
        bits, before = "", 128
        for value in values:
            difference, before = value - before, value
            category = abs(difference).bit_length()
            bits += f"{category:05b}"
            if category:
                bits += f"{difference if difference > 0 else difference + 2**category - 1:0{category}b}"
        bits += "1" * (-len(bits) % 8)
        data += int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
        data += bytes([0xFF, 0xD0 + row % 8]) if row < height - 1 else b"\xff\xd9"
    return data


def test_lossless_jpeg_with_restarts_is_counted_interval_by_interval():
    import imagecodecs

    from xrt.runtime.imaging.lossless_jpeg import require_intact_lossless

    pixels = np.ascontiguousarray(CHEST[100:140, 100:180])
    data = lossless_with_restarts(pixels)
    np.testing.assert_array_equal(imagecodecs.jpeg8_decode(data), pixels)
    require_intact_lossless(data, pixels)
    third = len(data) // 3
    with pytest.raises(UnreadableImage, match="do not end where"):
        require_intact_lossless(data[:third] + data[third + 40 :], pixels)


def test_black_borders_are_not_taken_for_losses():
    collimated = CHEST_WITHOUT_BLACK.copy()
    collimated[:40], collimated[-70:], collimated[:, :30], collimated[:, -50:] = 0, 0, 0, 0
    assert decode_radiograph(dicom(collimated)).notes == ()
    yy, xx = np.mgrid[:512, :512]
    for slope in (0.01, 0.05, 0.3):
        slanted = np.where(yy + slope * xx > 440, 0, CHEST_WITHOUT_BLACK).astype(np.uint8)
        assert decode_radiograph(dicom(slanted)).notes == (), slope
    masked = CHEST_WITHOUT_BLACK.copy()
    masked[10:40, 10:480] = 0  # a name that was blackened
    assert decode_radiograph(dicom(masked)).notes == ()


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full((300, 300), 128, np.uint8), "nearly one grey level"),
        (np.zeros((300, 300), np.uint8), "nearly one grey level"),
        (RNG.integers(100, 102, (300, 300)).astype(np.uint8), "nearly one grey level"),
        (RNG.integers(0, 256, (16, 3000)).astype(np.uint8), "a strip"),
        (RNG.integers(0, 256, (12, 20)).astype(np.uint8), "at least 16"),
    ],
)
def test_what_can_be_no_radiograph_fails(pixels, reason):
    with pytest.raises(UnreadableImage, match=reason):
        require_picture(pixels)


def test_transparent_images_fail(tmp_path):
    clear = np.dstack([CHEST, CHEST, CHEST, np.zeros_like(CHEST)])
    (tmp_path / "a.png").write_bytes(encoded(clear))
    result = load_radiograph(tmp_path / "a.png", LoadOptions(Preprocessing(height=64, width=64)))
    assert (result.status, result.reason) == ("failed", "the image has nearly one grey level alone")


def test_an_outlier_does_not_blacken_the_rest():
    values = CHEST.astype(np.float32) / 255
    plain = decode_radiograph(encoded(values, "TIFF")).pixels
    values[3, 3] = 3e38
    radiograph = decode_radiograph(encoded(values, "TIFF"))
    assert radiograph.notes == ("outlying values were clipped",)
    assert np.abs(radiograph.pixels.astype(int) - plain).mean() < 3


def test_phantoms_look_like_chests():
    for image in phantom_images(24, 3, Preprocessing(height=256, width=256))[:, 0]:
        assert check_content(image) == ()


def test_the_template_is_the_mean_of_phantoms():
    ranks = []
    for image in phantom_images(200, 7, Preprocessing(height=64, width=64))[:, 0]:
        small = np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BOX), dtype=float).ravel()
        ranks.append(small.argsort(kind="stable").argsort(kind="stable") - 127.5)
    mean = np.mean(ranks, axis=0)
    assert np.corrcoef(mean, CHEST_TEMPLATE.ravel())[0, 1] > 0.99


def test_inverted_and_turned_images_are_noted():
    assert check_content(255 - CHEST) == ("bright and dark seem exchanged",)
    for quarter in (1, 2, 3):
        turned = np.ascontiguousarray(np.rot90(CHEST, -quarter))
        assert check_content(turned) == (f"the image seems to be turned by {90 * quarter}°",)


def screenshot(dark):
    background, ink = ((45, 230), (250, 20))[not dark]
    page = np.full((800, 1200), background, np.uint8)
    page[0] = ink
    for row in range(40, 760, 24):
        page[row : row + 10, 40 : 40 + RNG.integers(200, 900) : 3] = ink
    return page


@pytest.mark.parametrize("dark", [False, True])
def test_screenshots_are_noted(dark):
    assert any("screenshot" in note for note in check_content(screenshot(dark)))


def test_what_a_check_does_can_be_chosen():
    with pytest.raises(NotAChestRadiograph, match="exchanged"):
        check_content(255 - CHEST, {"inverted": "reject"})
    assert check_content(255 - CHEST, {"inverted": "off"}) == ()


@pytest.mark.parametrize("value", range(1, 9))
def test_exif_turns_the_image_and_boxes_stay_where_they_are_stored(value):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[274] = value
    stored = np.ascontiguousarray(CHEST[:, :400])
    Image.fromarray(stored).save(buffer, "PNG", exif=exif)
    radiograph = decode_radiograph(buffer.getvalue())
    from PIL import ImageOps

    looked_at = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue()))))
    assert np.array_equal(radiograph.upright, looked_at)
    assert np.array_equal(radiograph.pixels, stored)
    assert bool(radiograph.notes) == (value != 1)
    # A bright square, found in the upright image, lies where it was drawn in the stored one.
    marked = np.zeros_like(stored)
    marked[50:80, 300:390] = 1
    orientation = of_exif(value)
    upright = orientation.upright(marked)
    rows, columns = np.flatnonzero(upright.any(1)), np.flatnonzero(upright.any(0))
    box = Box(columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
    assert orientation.to_stored(box, upright.shape) == Box(300, 50, 90, 30)
    assert orientation.to_upright(Box(300, 50, 90, 30), upright.shape) == box
    assert orientation.upright_size(*stored.shape) == upright.shape


@pytest.mark.parametrize(
    ("directions", "turn"),
    [(("L", "F"), 0), (("F", "R"), 1), (("R", "H"), 2), (("H", "L"), 3), (("LH", "FP"), 0)],
)
def test_patient_orientation_turns_the_image(directions, turn):
    stored = np.ascontiguousarray(np.rot90(CHEST, turn))
    orientation = of_patient(directions)
    assert np.array_equal(orientation.upright(stored), CHEST)


def test_patient_orientation_mirrors_the_image():
    assert np.array_equal(of_patient(("R", "F")).upright(CHEST[:, ::-1].copy()), CHEST)
    assert of_patient(("A", "F")) is None
    assert of_patient(("L", "P")) is None
    assert of_patient(("L", "F")) == UPRIGHT == Orientation()


def test_a_turned_dicom_is_scored_upright(tmp_path):
    options = LoadOptions(Preprocessing(height=64, width=64))
    (tmp_path / "a.dcm").write_bytes(dicom(CHEST))
    (tmp_path / "b.dcm").write_bytes(dicom(np.ascontiguousarray(np.rot90(CHEST)), PatientOrientation=["F", "R"]))
    plain, turned = (load_radiograph(tmp_path / name, options) for name in ("a.dcm", "b.dcm"))
    assert isinstance(plain, LoadedImage)
    assert isinstance(turned, LoadedImage)
    assert np.array_equal(plain.input, turned.input)
    assert turned.notes == ("turned by 90°, as the header's PatientOrientation says",)


def test_colour_of_sixteen_bits_is_read_as_its_grey_twin(tmp_path):
    import imagecodecs
    import tifffile

    deep = CHEST.astype(np.uint16) * 8 + 100
    grey = decode_radiograph(encoded(deep)).pixels
    colour = np.dstack([deep] * 3)
    assert np.array_equal(decode_radiograph(imagecodecs.png_encode(colour)).pixels, grey)
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb")
    assert np.array_equal(decode_radiograph((tmp_path / "a.tif").read_bytes()).pixels, grey)
    tifffile.imwrite(tmp_path / "b.tif", CHEST / 255.0)
    assert np.abs(decode_radiograph((tmp_path / "b.tif").read_bytes()).pixels.astype(int) - CHEST).max() <= 1


@pytest.mark.parametrize("kind", ["WEBP", "JPEG2000"])
def test_formats_that_people_have(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.abs(decode_radiograph(encoded(CHEST, kind, **options)).pixels.astype(int) - CHEST).max() <= 1


def test_the_first_picture_of_a_phone_is_read():
    buffer = io.BytesIO()
    first = Image.fromarray(CHEST)
    first.save(buffer, "MPO", save_all=True, append_images=[Image.fromarray(255 - CHEST)], quality=95)
    assert np.abs(decode_radiograph(buffer.getvalue()).pixels.astype(int) - CHEST).mean() < 2


def test_a_bundle_says_what_a_check_does(bundle_path, tmp_path):
    from edited_bundles import edit_manifest

    from xrt.runtime.screening.screener import Screener, ScreeningOptions

    copy = tmp_path / "strict.xrt"
    shutil.copytree(bundle_path, copy)
    strict = {"inverted": "reject", "colour": "reject", "statistics": "reject"}
    narrow = {"mean": [250.0, 251.0], "std": [1.0, 2.0]}
    edit_manifest(copy, lambda manifest: manifest.update(content_checks=strict))
    files = {"inverted.png": encoded(255 - CHEST), "colour.png": encoded(np.dstack([CHEST, CHEST // 2, CHEST]))}
    for name, data in {**files, "plain.png": encoded(CHEST)}.items():
        (tmp_path / name).write_bytes(data)
    paths = [tmp_path / name for name in (*files, "plain.png")]

    def statuses(**options):
        with Screener(copy, options=ScreeningOptions(workers=0, **options)) as screener:
            return [(result.status, result.reason or " ".join(result.notes)) for result in screener.screen(paths)]

    assert statuses() == [
        ("rejected", "bright and dark seem exchanged"),
        ("rejected", "colour image folded to grey"),
        ("ok", ""),
    ]
    assert [status for status, _ in statuses(content_checks={"inverted": "note", "colour": "off"})] == ["ok"] * 3
    edit_manifest(copy, lambda manifest: manifest.update(input_statistics=narrow))
    assert statuses()[2] == ("rejected", "brightness or contrast unlike the training images")
