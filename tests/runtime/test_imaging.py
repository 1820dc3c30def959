from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from runtime.image_files import GREY, NOISE, dicom, encoded

from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.errors import NotAChestRadiograph, UnreadableImage
from xrt.runtime.imaging import DecodeLimits, DecodeOptions, decode_radiograph, read_radiograph
from xrt.runtime.imaging.header_check import Header, check_header
from xrt.runtime.imaging.load import LoadedImage, LoadOptions, SkippedImage
from xrt.runtime.imaging.pool import DecodingPool


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_grey_files_are_read_as_they_are(kind):
    assert np.array_equal(decode_radiograph(encoded(GREY, kind)).pixels, GREY)


@pytest.mark.parametrize("channels", [3, 4])
def test_grey_in_colour_channels_is_folded(channels):
    colour = np.repeat(GREY[..., None], channels, axis=2)
    if channels == 4:
        colour[..., 3] = 255
    radiograph = decode_radiograph(encoded(colour))
    assert np.array_equal(radiograph.pixels, GREY)
    assert radiograph.notes == ()


def test_true_colour_is_noted():
    colour = np.stack([GREY, 255 - GREY, GREY], axis=2)
    assert decode_radiograph(encoded(colour)).notes == ("colour image folded to grey",)


def test_sixteen_bits_span_the_grey_scale():
    wide = 1000 + GREY.astype(np.uint16) * 16
    assert np.abs(decode_radiograph(encoded(wide)).pixels.astype(int) - GREY).max() <= 1
    dark = decode_radiograph(encoded(wide), DecodeOptions(without_window="bits")).pixels
    assert dark.max() == round((1000 + 255 * 16) / 65535 * 255)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello, this is no image", "not a PNG, JPEG, TIFF, BMP, WebP, JPEG 2000 or DICOM image"),
        (encoded(NOISE)[:2000], "damaged or truncated"),
        (encoded(GREY, "GIF"), "GIF is not read: convert it to PNG"),
        (b"%PDF-1.7 and so on, for a while", "PDF is not read"),
        (b"\0" * 128 + b"DICM" + b"\1\2\3", "DICOM"),
    ],
)
def test_what_is_no_image_says_so(data, reason):
    with pytest.raises(UnreadableImage, match=reason):
        decode_radiograph(data)


def test_a_decompression_bomb_is_stopped_by_its_header():
    with pytest.raises(UnreadableImage, match="the limit is 100"):
        decode_radiograph(encoded(GREY), DecodeOptions(limits=DecodeLimits(pixels=100)))
    with pytest.raises(UnreadableImage, match="the limit is 100"):
        decode_radiograph(dicom(GREY), DecodeOptions(limits=DecodeLimits(pixels=100)))


def test_dicom_without_a_window_spans_its_values():
    wide = 100 + GREY.astype(np.uint16) * 8
    assert np.abs(decode_radiograph(dicom(wide, BitsStored=12, HighBit=11)).pixels.astype(int) - GREY).max() <= 1


def test_the_window_comes_after_the_rescale_and_before_the_inversion():
    """Modality rescale to 2x - 100, then a window over [0, 200], then MONOCHROME1 turns it over."""
    stored = np.arange(0, 256, dtype=np.uint16).reshape(16, 16)
    attributes = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 100, "WindowWidth": 201}
    plain = decode_radiograph(dicom(stored, BitsStored=8, HighBit=7, **attributes)).pixels
    expected = np.clip((2.0 * stored - 100) / 200, 0, 1) * 255
    assert np.abs(plain - expected).max() <= 1.5
    attributes["PhotometricInterpretation"] = "MONOCHROME1"
    inverted = decode_radiograph(dicom(stored, BitsStored=8, HighBit=7, **attributes)).pixels
    assert np.array_equal(inverted, 255 - plain)


def test_padding_is_black_and_outside_the_window():
    wide = 100 + GREY.astype(np.uint16) * 8
    wide[:5] = 4095
    pixels = decode_radiograph(dicom(wide, BitsStored=12, HighBit=11, PixelPaddingValue=4095)).pixels
    assert (pixels[:5] == 0).all()
    assert pixels[5:].max() == 255


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"Modality": "CT"}, "Modality is CT"),
        ({"BodyPartExamined": "RIBCAGE"}, "BodyPartExamined is RIBCAGE"),
        ({"ViewPosition": "LL"}, "not a frontal view"),
        ({"BodyPartExamined": None, "StudyDescription": "LEFT KNEE 2V"}, "StudyDescription says KNEE"),
    ],
)
def test_the_header_rejects_before_pixels_are_decoded(attributes, reason):
    data = dicom(GREY, **attributes)[:-100]  # truncated pixels: decoding them would raise something else
    with pytest.raises(NotAChestRadiograph, match=reason):
        decode_radiograph(data)


def test_what_the_header_leaves_open_becomes_a_note():
    assert decode_radiograph(dicom(GREY, BodyPartExamined=None)).notes == ("body part not stated",)
    assert check_header(Header("DX", descriptions={"StudyDescription": "CHEST PA"})) == ()
    assert check_header(Header(body_part="CHEST", view_position="AP")) == ("modality not stated",)


def test_the_verdict_can_be_overridden():
    options = DecodeOptions(skip_body_part_check=True)
    assert decode_radiograph(dicom(GREY, Modality="CT"), options).pixels.shape == GREY.shape


def test_a_file_that_its_header_rejects_is_named(tmp_path):
    (tmp_path / "ct.dcm").write_bytes(dicom(GREY, Modality="CT"))
    with pytest.raises(NotAChestRadiograph, match=r"ct\.dcm: Modality is CT"):
        read_radiograph(tmp_path / "ct.dcm")


def test_real_dicom_files(shared):
    folder = shared / "dicom"
    chest = read_radiograph(folder / "chest-cr-mono1-16bit-jpeg2000.dcm").pixels
    height, width = chest.shape
    # MONOCHROME1 the right way round: lungs darker than the spine between them and the abdomen below.
    lungs = np.median([chest[height // 3 : height // 2, int(width * x)].mean() for x in (0.25, 0.72)])
    assert lungs + 30 < chest[height // 3 : height // 2, int(width * 0.48)].mean()
    assert lungs + 30 < chest[int(height * 0.9), width // 3 : 2 * width // 3].mean()
    png = read_radiograph(folder / "nih-test1-no-finding.dcm")
    assert png.pixels.shape == (1024, 1024)
    for name in ("nih-test4-bodypart-ribcage", "nih-test5-modality-ct", "leg-cr-mono1-rle", "pattern-voi-lut"):
        with pytest.raises(NotAChestRadiograph):
            read_radiograph(folder / f"{name}.dcm")
    with pytest.raises(NotAChestRadiograph, match="body part not stated, and StudyDescription says TEETH"):
        read_radiograph(folder / "dental-cr-modality-lut.dcm")
    dental = read_radiograph(folder / "dental-cr-modality-lut.dcm", DecodeOptions(skip_body_part_check=True))
    assert dental.pixels.std() > 20


OPTIONS = LoadOptions(Preprocessing(height=32, width=32))


def test_the_pool_keeps_the_order_and_reports_what_fails(tmp_path):
    names = []
    for i in range(12):
        name = tmp_path / f"{i}.png"
        name.write_bytes(b"" if i == 5 else encoded(np.roll(GREY, i)))
        names.append(name)
    with DecodingPool(OPTIONS, workers=2) as pool:
        results = list(pool.map(((i, name, "") for i, name in enumerate(names)), in_flight=4))
    assert [key for key, _ in results] == list(range(12))
    assert results[5][1] == SkippedImage("failed", "the file is empty")
    assert all(isinstance(r, LoadedImage) for i, r in results if i != 5)


def test_a_hanging_decoder_is_killed_and_replaced(tmp_path):
    good, slow = tmp_path / "good.png", tmp_path / "slow.png"
    good.write_bytes(encoded(GREY))
    slow.write_bytes(encoded(np.zeros((9000, 9000), dtype=np.uint8)))
    # Far under what 81 million pixels take, far over what one small file does once the process is up.
    options = LoadOptions(Preprocessing(height=32, width=32), limits=DecodeLimits(seconds=0.05))
    with DecodingPool(options, workers=1) as pool:
        list(pool.map([(0, good, "")]))  # the process starts within this task's time limit or is replaced
        results = dict(pool.map([(i, slow if i == 1 else good, "") for i in range(3)]))
    assert results[1] == SkippedImage("failed", "decoding took over 0.05 s")


def test_known_content_is_not_decoded_again(tmp_path):
    import hashlib

    file = tmp_path / "a.png"
    file.write_bytes(b"not even an image")
    known = hashlib.sha256(file.read_bytes()).hexdigest()
    with DecodingPool(OPTIONS, workers=0) as pool:
        ((_, result),) = pool.map([(0, file, known)])
    assert result == SkippedImage("unchanged", "", known)


def test_a_damaged_identifier_fails_its_file_alone(tmp_path):
    data = dicom(GREY)
    tag = data.index(b"\x20\x00\x0d\x00UI")
    file = tmp_path / "bad.dcm"
    file.write_bytes(data[: tag + 4] + b"ZZ" + data[tag + 6 :])
    with DecodingPool(OPTIONS, workers=0) as pool:
        ((_, result),) = pool.map([(0, file, "")])
    assert isinstance(result, SkippedImage)
    assert "damaged DICOM" in result.reason


def test_a_tiff_in_which_white_is_zero_is_turned_over(tmp_path):
    wide = GREY.astype(np.uint16) * 257
    Image.fromarray(65535 - wide).save(tmp_path / "a.tif", tiffinfo={262: 0})
    assert np.abs(read_radiograph(tmp_path / "a.tif").pixels.astype(int) - GREY).max() <= 1


def test_an_identity_rescale_changes_nothing():
    dim = GREY // 2
    plain = decode_radiograph(dicom(dim)).pixels
    assert np.array_equal(plain, dim)
    assert np.array_equal(decode_radiograph(dicom(dim, RescaleSlope=1, RescaleIntercept=0)).pixels, dim)


def test_a_palette_is_looked_up():
    """Indices that mean the opposite grey: the image is its palette's colours, not its indices."""
    table = np.arange(255, -1, -1, dtype=np.uint16).astype("<u2") * 257
    palette = {f"{c}PaletteColorLookupTableData": table.tobytes() for c in ("Red", "Green", "Blue")}
    palette |= {f"{c}PaletteColorLookupTableDescriptor": [256, 0, 16] for c in ("Red", "Green", "Blue")}
    pixels = decode_radiograph(dicom(GREY, PhotometricInterpretation="PALETTE COLOR", **palette)).pixels
    assert np.abs(pixels.astype(int) - (255 - GREY)).max() <= 1


def test_an_image_over_pillows_own_limit_is_read(monkeypatch):
    """Pillow's limit belongs to the whole process: it neither stops this reader nor is changed by it."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert np.array_equal(decode_radiograph(encoded(GREY)).pixels, GREY)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"II*\0"])
def test_what_only_begins_like_an_image_is_none(data):
    with pytest.raises(UnreadableImage, match="not a PNG, JPEG, TIFF, BMP, WebP, JPEG 2000 or DICOM image"):
        decode_radiograph(data)
